"""Settings of the service: flags, environment and TOML made into one frozen value.

For each setting the first of these that names it counts, and a list is taken whole from it:

    flag            environment                  key of --config FILE (TOML)
    VNL...          VDE_MULTILINK_MULTILINKS     multilinks = ["multi:///tmp/vm1[mode=0660]"]
    --listen        VDE_MULTILINK_LISTEN         listen = ["127.0.0.1:8480", "unix:/tmp/api.sock"]
    --allow         VDE_MULTILINK_ALLOW          allow = ["cmd"]
                    VDE_MULTILINK_ALLOW_COMMANDS allow_commands = ["ssh ip2 vde_plug /tmp/vm2"]
                    VDE_MULTILINK_ALLOWED_HOSTS  allowed_hosts = ["vm-server.example.org"]
                    VDE_MULTILINK_DUPLICATES     duplicates = "drop"     (where a VNL does not say it itself)
    --runtime-dir   VDE_MULTILINK_RUNTIME_DIR    runtime_dir = "/run/vde-multilink"
    --state         VDE_MULTILINK_STATE          state = "/var/lib/vde-multilink/state.sqlite3"
    --token-file    VDE_MULTILINK_TOKEN_FILE     token_file = "/etc/vde-multilink/token"
                    VDE_MULTILINK_TOKEN          (the token itself: never in a file that others may read)
    --log-level     VDE_MULTILINK_LOG_LEVEL      log_level = "info"

In the environment the items of a list stand on lines of their own, or with commas between them where no
item can hold one (listen, allow, allowed_hosts). Unknown keys and unreadable values are refused.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.fabric.errors import MultilinkError, VnlError
from app.fabric.plugs.base import resolve_vnl
from app.fabric.vnl import MultiVnl, PassOrDrop
from app.listen_address import AddressError, ListenAddress, TcpAddress, UnixAddress, parse_listen_address
from app.runtime_dir import default_runtime_dir, default_state_file

ENVIRONMENT_PREFIX = "VDE_MULTILINK_"
DEFAULT_MULTILINK = "multi://"
DEFAULT_LISTEN = TcpAddress("127.0.0.1", 8480)


class SettingsError(MultilinkError):
    """A flag, an environment variable or a line of the configuration file that cannot be taken."""

    code = "bad_settings"
    title = "The settings cannot be used"


def _lines(value: object) -> object:
    """The items of a list in an environment variable."""
    return [line.strip() for line in value.splitlines() if line.strip()] if isinstance(value, str) else value


def _items(value: object) -> object:
    return re.split(r"[,\s]+", value.strip(", \t\n")) if isinstance(value, str) and value.strip() else _lines(value)


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_listen_address(value)
    except AddressError as error:
        raise ValueError(error.detail) from error


def _multilink(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        vnl = resolve_vnl(value)
    except VnlError as error:
        raise ValueError(error.detail) from error
    if not isinstance(vnl, MultiVnl):
        # pydantic takes ValueError alone for "this value will not do"
        raise ValueError(  # noqa: TRY004 -- it is the text that is wrong, not its type
            f"{value!r} does not make a multilink: give one such as multi:///tmp/vm1"
        )
    return vnl


def _command(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        argv = tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"{value!r} cannot be split into words: {error}") from error
    if not argv:
        raise ValueError("an allowed command cannot be empty")
    return argv


def with_duplicates(vnl: MultiVnl, default: PassOrDrop) -> MultiVnl:
    """`vnl`, saying what is done with duplicates if it does not yet, and `default` is not what is done by itself."""
    if vnl.duplicates is not None or default is PassOrDrop.DROP:
        return vnl
    return replace(vnl, duplicates=default)


Command = Annotated[tuple[str, ...], BeforeValidator(_command)]


class Settings(BaseSettings):
    """Everything the service is told from outside, checked."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )
    _config_table: ClassVar[Mapping[str, Any]] = {}

    # Before `multilinks`, which are completed with it.
    duplicates: PassOrDrop = PassOrDrop.DROP
    multilinks: Annotated[
        tuple[Annotated[MultiVnl, BeforeValidator(_multilink)], ...], NoDecode, BeforeValidator(_lines)
    ] = Field(default=(), validate_default=True)
    listen: Annotated[
        tuple[Annotated[TcpAddress | UnixAddress, BeforeValidator(_address)], ...], NoDecode, BeforeValidator(_items)
    ] = (DEFAULT_LISTEN,)
    allow: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)] = ()
    allow_commands: Annotated[tuple[Command, ...], NoDecode, BeforeValidator(_lines)] = ()
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)] = ()
    runtime_dir: Path = Field(default_factory=default_runtime_dir)
    state: Path = Field(default_factory=default_state_file)
    token_file: Path | None = None
    token: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("multilinks", mode="after")
    @classmethod
    def _at_least_one(cls, multilinks: tuple[MultiVnl, ...], info: ValidationInfo) -> tuple[MultiVnl, ...]:
        """Each says what is done with duplicates, where that is not what is done by itself."""
        default: PassOrDrop = info.data.get("duplicates", PassOrDrop.DROP)
        return tuple(with_duplicates(vnl, default) for vnl in multilinks or (MultiVnl(path=""),))

    @field_validator("allow", mode="after")
    @classmethod
    def _schemes(cls, schemes: tuple[str, ...]) -> tuple[str, ...]:
        bare = tuple(scheme.removesuffix("://") for scheme in schemes)
        for scheme in bare:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
                raise ValueError(f"{scheme!r} is no scheme: give one such as cmd")
        return bare

    @field_validator("runtime_dir", "state", "token_file", mode="after")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @property
    def tcp_addresses(self) -> tuple[TcpAddress, ...]:
        """Those of `listen` that need a token."""
        return tuple(address for address in self.listen if isinstance(address, TcpAddress))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- as pydantic-settings calls it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before the environment before the configuration file; no .env file of whatever directory this is."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(cls._config_table))


def load_settings(flags: Mapping[str, object], *, config: Path | None = None) -> Settings:
    """Read flags, environment and configuration file.

    Args:
        flags: settings by name; one that is None was not given.
        config: the TOML file.

    Raises:
        SettingsError: one of them cannot be taken; says which, and what would be right.
    """
    table = _read_config(config) if config is not None else {}
    given = {name: value for name, value in flags.items() if value is not None}
    source = type("Settings", (Settings,), {"_config_table": table, "__module__": __name__})
    try:
        loaded = source(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given, table, config)) from error
    assert isinstance(loaded, Settings)  # noqa: S101 -- for the type checker: it is of a subclass made above
    return loaded


def _read_config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration file {path} is not valid TOML: {error}") from error


def _explain(
    error: ValidationError, flags: Mapping[str, object], table: Mapping[str, object], config: Path | None
) -> str:
    """The first fault, with the place the value came from."""
    fault = error.errors(include_url=False, include_input=False)[0]
    name = str(fault["loc"][0]) if fault["loc"] else "settings"
    message = fault["msg"].removeprefix("Value error, ")
    if name in flags:
        source = "VNL" if name == "multilinks" else "--" + name.replace("_", "-")
    elif os.environ.get(ENVIRONMENT_PREFIX + name.upper()):
        source = ENVIRONMENT_PREFIX + name.upper()
    elif name in table and config is not None:
        source = f"{name} in {config}"
    else:
        source = name
    if fault["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{source}: there is no such setting; the settings are {known}"
    return f"{source}: {message}"


__all__ = ["DEFAULT_LISTEN", "DEFAULT_MULTILINK", "ListenAddress", "Settings", "SettingsError", "load_settings"]
