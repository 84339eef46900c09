"""The machine that the bench runs on: what to tell about it, which processor to give to whom, and process clocks."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path


def describe_machine() -> dict[str, str | int]:
    """What a reader needs to judge the figures: no host name, no path."""
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "trio": _python_package("trio"),
        "vdeplug": _debian_package("vdeplug"),
        "vde_switch": _debian_package("vde-switch") or _debian_package("vde2"),
        "wmem_default": int(Path("/proc/sys/net/core/wmem_default").read_text()),
        "tcp": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "wmem_max": int(Path("/proc/sys/net/core/wmem_max").read_text()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _python_package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _debian_package(name: str) -> str:
    if not shutil.which("dpkg-query"):
        return ""
    command = ["dpkg-query", "--show", "--showformat=${Version}", name]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def allow_many_files() -> None:
    """Lets this process and its children hold as many descriptors as it may: 1,000 links are 2,000 of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def processors() -> tuple[int, int]:
    """The processor for the forwarder and the one for the generator; the same one where there is only one."""
    numbers = sorted(os.sched_getaffinity(0))
    return numbers[0], numbers[1 % len(numbers)]


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used so far, all its threads, to the nanosecond."""
    process_clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) answers
    return time.clock_gettime(process_clock)


def resident_kib(pid: int) -> int:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has ended")
