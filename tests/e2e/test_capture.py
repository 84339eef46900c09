"""`vde-multilink capture`: what Wireshark's own program reads is what tcpdump has seen on the tap, frame by frame."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.netns import Namespace
from tests.e2e.harness.raw import frame
from tests.e2e.harness.service import COMMAND, Service
from tests.e2e.harness.waiting import wait_until

pytestmark = pytest.mark.e2e

NEAR, FAR = "10.9.8.1", "10.9.8.2"
PINGS = 50


def wait_capturing(service: Service) -> None:
    wait_until(lambda: "\nvde_multilink_captures 1.0\n" in service.api.get("/metrics").text, "the capture to begin")


def read_with_tshark(lab: Lab, file: Path, *fields: str, display: str = "icmp") -> list[list[str]]:
    words: Sequence[str] = [word for name in fields for word in ("-e", name)]
    done = lab.run("tshark", "-r", str(file), "-Y", display, "-T", "fields", *words)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def lan(lab: Lab) -> tuple[Service, str, Namespace, Namespace]:
    """A tap as the host, a tap behind a link."""
    service = lab.service(f"multi://{lab.root}/vm1")
    near, _ = lab.tapped_namespace(NEAR, f"vde://{lab.root}/vm1[host]")
    far, plug = lab.tapped_namespace(FAR, f"{lab.root}/vm1")
    service.wait_host("vm1")
    link = service.wait_peer(plug.pid)
    wait_until(lambda: near.answers(FAR), "the first answer")
    return service, link["name"], near, far


def test_a_ping_is_captured_frame_by_frame_as_tcpdump_sees_it_on_the_tap(lab: Lab) -> None:
    require.program("tshark")
    service, link, near, far = lan(lab)
    ours, theirs = lab.root / "ours.pcapng", lab.root / "theirs.pcap"
    dump = lab.start(
        far.inside(require.program("tcpdump"), "-i", "t0", "-U", "-Z", "root", "--nano", "-w", str(theirs), "icmp")
    )
    wait_until(lambda: "listening on" in dump.output(), "tcpdump")
    capture = lab.start([*COMMAND, "capture", link, "-w", str(ours), "--runtime-dir", str(service.runtime_dir)])
    wait_capturing(service)
    ping = require.program("ping")
    done = lab.run(*near.inside(ping, "-n", "-c", str(PINGS), "-i", "0.01", "-s", "200", FAR))
    assert done.returncode == 0, done.stdout
    assert f" {PINGS} received" in done.stdout
    wait_until(lambda: len(read_with_tshark(lab, theirs, "frame.len")) == 2 * PINGS, "tcpdump to have them all")
    wait_until(lambda: len(read_with_tshark(lab, ours, "frame.len")) == 2 * PINGS, "the capture to have them all")
    capture.send(signal.SIGINT)
    assert capture.wait() == 0, capture.output()
    dump.send(signal.SIGTERM)
    dump.wait()

    same = ("eth.src", "eth.dst", "frame.len", "frame.cap_len", "icmp.type", "icmp.seq", "icmp.checksum", "data.data")
    assert read_with_tshark(lab, ours, *same) == read_with_tshark(lab, theirs, *same)
    own = read_with_tshark(lab, ours, "icmp.type", "frame.packet_flags_direction", "frame.interface_name")
    directions = {(kind, int(direction, 0), name) for kind, direction, name in own}
    assert directions == {("8", 2, link), ("0", 1, link)}, "a request goes out over the link, its answer comes in"
    times = [float(at) for (at,) in read_with_tshark(lab, ours, "frame.time_epoch")]
    assert times == sorted(times)
    fractions = {at.partition(".")[2][6:9] for (at,) in read_with_tshark(lab, ours, "frame.time_epoch")}
    assert len(fractions) > 10, "nanoseconds, not microseconds with zeros"


def test_it_ends_by_itself_writes_to_stdout_and_cuts_frames(lab: Lab) -> None:
    require.program("tshark")
    service, link, near, _ = lan(lab)
    file = lab.root / "x.pcapng"
    with file.open("wb") as output:
        capture = lab.start(
            [*COMMAND, "capture", link, "--frames", "6", "-s", "60", "--runtime-dir", str(service.runtime_dir)],
            stdout=output.fileno(),
        )
        wait_capturing(service)
        lab.run(*near.inside(require.program("ping"), "-n", "-c", "10", "-i", "0.01", "-s", "500", FAR))
        assert capture.wait() == 0, capture.output()
    frames = read_with_tshark(lab, file, "frame.len", "frame.cap_len", display="frame")
    assert len(frames) == 6
    assert all(int(kept) == min(60, int(size)) for size, kept in frames)
    timed = lab.command(service, "capture", link, "--seconds", "0.3", "-w", str(lab.root / "timed.pcapng"))
    assert (timed.returncode, timed.stdout) == (0, "")


def test_what_cannot_be_captured_is_refused_and_leaves_no_file(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    file = lab.root / "x.pcapng"
    done = lab.command(service, "capture", "nobody", "-w", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nobody" in done.stderr
    assert not file.exists()
    assert lab.command(service, "capture", "nobody", "--frames", "0").returncode == 2


def test_a_reader_that_stops_reading_costs_the_network_nothing(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    host = lab.client(lab.root / "vm1", "host")
    peer = lab.client(lab.root / "vm1")
    link = service.links()[0]["id"]
    with service.api.stream("GET", f"/links/{link}/capture") as response:
        assert response.status_code == 200
        wait_capturing(service)
        for number in range(20_000):  # 29 MB, of which nobody reads a byte
            host.send(frame(number, size=1500))
            assert len(peer.receive()) == 1500
    direction = service.link(link)["tx"]
    assert (direction["frames"], direction["dropped"]) == (20_000, {})
    metrics = service.api.get("/metrics").text
    lost = next(line for line in metrics.splitlines() if line.startswith("vde_multilink_capture_lost_frames_total"))
    assert float(lost.split()[1]) > 0
    wait_until(lambda: "\nvde_multilink_captures 0.0\n" in service.api.get("/metrics").text, "nobody to look")


def test_a_terminal_is_refused(lab: Lab) -> None:
    service = lab.service(f"multi://{lab.root}/vm1")
    script = require.program("script")
    words = [*COMMAND, "capture", "x", "--runtime-dir", str(service.runtime_dir)]
    done = lab.run(script, "-qec", " ".join(words), "/dev/null")
    assert done.returncode == 2
    assert "terminal" in done.stdout
