"""A virtual machine as the host: Debian's cloud kernel and a busybox, under QEMU without KVM.

The kernel is downloaded and unpacked, not installed, and kept below the checkout, in `.cache/guest`; the initramfs
is made anew. The guest gives eth0 an address from the kernel's command line and echoes what comes to TCP port 7.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.e2e.harness import require
from tests.e2e.harness.netns import run
from tests.e2e.harness.programs import Program
from tests.e2e.harness.waiting import wait_until

CACHE: Final = Path(__file__).parents[3] / ".cache" / "guest"
ECHO_PORT: Final = 7
_MODULES: Final = (
    *("failover", "net_failover", "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev"),
    *("virtio_pci", "virtio_net"),
)
"""In the order in which they have to be loaded."""
_INIT: Final = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
for module in {modules}; do /bin/busybox insmod /$module.ko; done
/bin/busybox ip link set lo up
/bin/busybox ip addr add $(/bin/busybox sed 's/.*guest_ip=\\([^ ]*\\).*/\\1/' /proc/cmdline) dev eth0
/bin/busybox ip link set eth0 up
echo guest is ready
exec /bin/busybox nc -ll -p {port} -e /bin/busybox cat
"""


def start_guest(start: Callable[[Sequence[str]], Program], directory: Path, vnl: str, address: str) -> Program:
    """Boot a guest whose network is `vnl`; returns once it is ready.

    Args:
        start: starts a program for the test.
        directory: of the test, for the initramfs.
        vnl: a VDE locator.
        address: of eth0, with its prefix length.
    """
    qemu = require.program("qemu-system-x86_64")
    kernel = _kernel()
    initramfs = directory / "initramfs"
    _make_initramfs(kernel, initramfs)
    guest = start(
        [
            *(qemu, "-M", "q35,accel=tcg", "-cpu", "qemu64", "-m", "128", "-nodefaults", "-display", "none"),
            *("-serial", "stdio", "-kernel", str(next((kernel / "boot").glob("vmlinuz-*"))), "-initrd", str(initramfs)),
            *("-append", f"console=ttyS0 quiet panic=-1 guest_ip={address}"),
            *("-netdev", f"vde,id=n0,sock={vnl.replace(',', ',,')}"),
            *("-device", "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:12:34:56"),
        ]
    )
    wait_until(lambda: "guest is ready" in guest.output() or not guest.running, "the guest to boot", limit_s=90)
    assert guest.running, guest.output()
    return guest


def _kernel() -> Path:
    """The kernel's package, unpacked."""
    kept = CACHE / "kernel"
    if kept.exists():
        return kept
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE.parent / ".gitignore").write_text("*\n", encoding="ascii")
    apt, dpkg = require.program("apt-get"), require.program("dpkg")
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        at = Path(made)
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True)
        package = re.search(r"Depends: (linux-image-\S+-cloud-amd64)\s", depends.stdout)
        if package is None:
            require.lacking("apt-cache knows no linux-image-cloud-amd64: apt-get update")
        got = subprocess.run([apt, "download", package[1]], cwd=at, capture_output=True, text=True)
        if got.returncode:
            require.lacking(f"the guest's kernel cannot be downloaded: {got.stderr.strip()}")
        (archive,) = at.glob("*.deb")
        run([dpkg, "-x", str(archive), str(at / "kernel")], limit_s=120)
        try:
            (at / "kernel").rename(kept)
        except OSError:
            assert kept.exists()  # Another test run was faster.
    return kept


def _make_initramfs(kernel: Path, initramfs: Path) -> None:
    busybox, cpio = require.program("busybox"), require.program("cpio")
    with tempfile.TemporaryDirectory(dir=initramfs.parent) as made:
        root = Path(made)
        for name in ("bin", "proc"):
            (root / name).mkdir()
        shutil.copy(busybox, root / "bin" / "busybox")
        for module in _MODULES:
            (found,) = (kernel / "lib" / "modules").rglob(f"{module}.ko")
            shutil.copy(found, root / f"{module}.ko")
        init = root / "init"
        init.write_text(_INIT.format(modules=" ".join(_MODULES), port=ECHO_PORT), encoding="ascii")
        init.chmod(0o755)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with initramfs.open("wb") as output:
            subprocess.run(
                [cpio, "--quiet", "-o", "-H", "newc"],
                input=os.fsencode(names),
                stdout=output,
                cwd=root,
                check=True,
                timeout=60,
            )
