from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.fabric.processes import ProcessEntry, any_alive, process_family, read_process, signal_processes
from tests.fakes import PATIENCE_S


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "has not come to be so"
        time.sleep(0.005)


class Tree:
    """A shell that leads a session, and whatever it starts; each process writes its pid to a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(["sh", "-c", script], cwd=self.directory, start_new_session=True)
        self.children.append(child)
        return child

    def pid(self, name: str) -> int:
        file = self.directory / name
        wait_for(lambda: file.exists() and file.read_text().strip())
        return int(file.read_text())

    def end(self) -> None:
        for child in self.children:
            for name in os.listdir(self.directory):
                entry = read_process(int((self.directory / name).read_text() or 0))
                if entry is not None:
                    signal_processes([entry], signal.SIGKILL)
            if child.poll() is None:
                child.kill()
            child.wait()


@pytest.fixture
def tree(short_dir: Path) -> Iterator[Tree]:
    grown = Tree(short_dir)
    yield grown
    grown.end()


def pids(family: list[ProcessEntry]) -> set[int]:
    return {entry.pid for entry in family}


def test_a_process_is_read_as_the_kernel_has_it() -> None:
    entry = read_process(os.getpid())
    assert entry is not None
    assert (entry.pid, entry.parent, entry.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert not entry.is_zombie
    assert read_process(os.getpid()) == entry


def test_a_process_that_is_not_there_is_none() -> None:
    assert read_process(0) is None
    assert read_process(1 << 30) is None


def test_a_name_with_parentheses_and_spaces_confuses_nobody(short_dir: Path) -> None:
    program = short_dir / "a) R 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as child:
        wait_for(lambda: b"a) R 1" in Path(f"/proc/{child.pid}/stat").read_bytes())
        entry = read_process(child.pid)
        assert entry is not None
        assert entry.parent == os.getpid()
        child.kill()


def test_a_family_is_the_leader_and_all_that_it_has_started(tree: Tree) -> None:
    leader = tree.start("sleep 60 & echo $! >one; sh -c 'sleep 60 & echo $! >two; wait' & wait")
    family = process_family(leader.pid)
    wait_for(lambda: tree.pid("one") and tree.pid("two"))
    family = process_family(leader.pid)
    assert {leader.pid, tree.pid("one"), tree.pid("two")} <= pids(family)
    assert os.getpid() not in pids(family)


def test_a_child_in_a_session_of_its_own_is_found_while_its_parents_live(tree: Tree) -> None:
    leader = tree.start("setsid sh -c 'echo $$ >far; exec sleep 60' & wait")
    far = tree.pid("far")
    wait_for(lambda: os.getsid(far) != leader.pid)
    assert far in pids(process_family(leader.pid))


def test_orphans_of_the_session_are_found_after_the_leader_has_died(tree: Tree) -> None:
    leader = tree.start("sleep 60 & echo $! >orphan; exit 3")
    orphan = tree.pid("orphan")
    assert leader.wait(PATIENCE_S) == 3
    assert pids(process_family(leader.pid)) == {orphan}


def test_a_zombie_does_not_count(tree: Tree) -> None:
    leader = tree.start("exit 0")
    wait_for(lambda: (entry := read_process(leader.pid)) is not None and entry.is_zombie)
    zombie = read_process(leader.pid)
    assert zombie is not None
    assert process_family(leader.pid) == []
    assert not any_alive([zombie])


def test_a_signal_reaches_all_of_them(tree: Tree) -> None:
    leader = tree.start("sleep 60 & echo $! >one; wait")
    tree.pid("one")
    family = process_family(leader.pid)
    assert any_alive(family)
    signal_processes(family, signal.SIGKILL)
    wait_for(lambda: not any_alive(family))
    assert leader.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_number_that_means_somebody_else_by_now_is_never_hit(tree: Tree) -> None:
    leader = tree.start("echo $$ >me; exec sleep 60")
    tree.pid("me")
    entry = read_process(leader.pid)
    assert entry is not None
    reused = ProcessEntry(entry.pid, entry.parent, entry.session, entry.started - 1, is_zombie=False)
    signal_processes([reused], signal.SIGKILL)
    assert not any_alive([reused])
    assert any_alive([entry])
    time.sleep(0.05)
    assert leader.poll() is None


def test_those_that_are_gone_are_passed_over(tree: Tree) -> None:
    gone = ProcessEntry(1 << 30, 1, 1, 1, is_zombie=False)
    leader = tree.start("exec sleep 60")
    family = process_family(leader.pid)
    signal_processes([gone, *family], signal.SIGTERM)
    assert leader.wait(PATIENCE_S) == -signal.SIGTERM
