"""What /proc says about processes that a test has started: who they are, what they hold, what they have used.

Every process is started with an environment variable that only its test uses; children inherit it, whatever session
or parent they come to have. So what is left of a test is found by that mark.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MARK_VARIABLE: Final = "ML_E2E_MARK"


def marked_pids(mark: str, *, exactly: bool = True) -> list[int]:
    """The living processes that have inherited `mark`; or with `exactly` false, any mark that begins with it."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    return [pid for pid in all_pids() if _is_marked(pid, wanted, exactly=exactly)]


def _is_marked(pid: int, wanted: bytes, *, exactly: bool) -> bool:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(entry == wanted or (not exactly and entry.startswith(wanted)) for entry in entries)


def all_pids() -> list[int]:
    """Every process there is, zombies included."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def is_alive(pid: int) -> bool:
    """Whether it exists and is no zombie."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, as the parents stand now."""
    parents = {each: fields[1] for each in all_pids() if (fields := _stat_fields(each))}
    family = [pid]
    for member in family:
        family += [each for each, parent in parents.items() if parent == str(member)]
    return family[1:]


def cpu_seconds(pid: int) -> float:
    """User and system time used so far."""
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_descriptors(pid: int) -> dict[int, str]:
    """Each open descriptor and what it is."""
    found: dict[int, str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def _stat_fields(pid: int) -> list[str]:
    """State and what follows; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()
