from __future__ import annotations

import pytest

from app.api.policy import DialPolicy
from app.fabric.errors import SchemeNotAllowedError
from app.fabric.vnl import parse_vnl

SSH = ("ssh", "ip2", "vde_plug", "/tmp/vm2")


@pytest.mark.parametrize(
    "text", ["vde:///tmp/vm2", "/tmp/vm2[5]", "tap://tap0", "multi:///tmp/vm1{tap://tap0}", "multi://"]
)
def test_default_policy_allows_what_runs_nothing(text: str) -> None:
    DialPolicy().check(parse_vnl(text))


@pytest.mark.parametrize("text", ["cmd://sh -c 'id'", "multi:///tmp/vm1{cmd://ssh ip2 vde_plug /tmp/vm2}"])
def test_default_policy_refuses_commands_also_where_they_are_nested(text: str) -> None:
    with pytest.raises(SchemeNotAllowedError, match="--allow cmd"):
        DialPolicy().check(parse_vnl(text))


def test_cmd_among_the_schemes_allows_every_command() -> None:
    DialPolicy(schemes=frozenset({"cmd", "multi"})).check(parse_vnl("multi://{cmd://anything at all}"))


def test_chosen_commands_are_allowed_word_for_word() -> None:
    policy = DialPolicy(commands=frozenset({SSH}))
    policy.check(parse_vnl("cmd://ssh 'ip2' vde_plug /tmp/vm2"))
    for other in ("cmd://ssh ip2 vde_plug /tmp/vm2 x", "cmd://ssh ip2 vde_plug", "cmd://ssh ip3 vde_plug /tmp/vm2"):
        with pytest.raises(SchemeNotAllowedError, match="allowed commands"):
            policy.check(parse_vnl(other))


def test_a_scheme_left_out_is_refused() -> None:
    with pytest.raises(SchemeNotAllowedError, match="tap"):
        DialPolicy(schemes=frozenset({"multi", "vde"})).check(parse_vnl("multi:///tmp/vm1{tap://tap0}"))
