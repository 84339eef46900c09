"""`make demo`: it tells the whole story, nothing is lost in it, and nothing is left of it, also after Ctrl-C."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import require
from tests.e2e.harness.lab import Lab
from tests.e2e.harness.service import command_environment
from tests.e2e.harness.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"


@pytest.fixture
def place(lab: Lab) -> Path:
    """Where the demo makes its directory."""
    for program in ("vdens", "ping", "ip"):
        require.program(program)
    require.root_and_taps()
    place = lab.root / "d"
    place.mkdir()
    return place


@pytest.mark.slow
def test_the_whole_story(lab: Lab, place: Path) -> None:
    done = lab.run(sys.executable, str(SCRIPT), env=command_environment(TMPDIR=str(place)))
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 lost, 0 came twice" in done.stdout
    asked = re.search(r"ping has asked (\d+) times", done.stdout)
    assert asked is not None
    assert int(asked[1]) > 100
    assert "completed: vm1 is on lte, wifi is retired" in done.stdout
    assert re.search(r"http://127\.0\.0\.1:\d+/", done.stdout)
    assert "Traceback" not in done.stdout
    assert list(place.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_at_any_time(lab: Lab, place: Path, number: signal.Signals) -> None:
    demo = lab.start([sys.executable, str(SCRIPT), "--keep"], env=command_environment(TMPDIR=str(place)))
    wait_until(lambda: "The answers come" in demo.output() or not demo.running, "the first answers")
    assert len(demo.children()) > 3
    demo.send(number)
    assert demo.wait() == 130, demo.output()
    assert "Traceback" not in demo.output()
    assert demo.family() == []
    assert list(place.iterdir()) == []
