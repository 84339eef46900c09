"""The API makes way for frames: pauses of a known length after what it has used, and in turns."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from app.api.pacing import LONGEST_PAUSE_S, QUANTUM_S, QUIET_S, SHARE, Pacer
from tests.api.fakes import FakeFabric
from tests.api.support import Api

STEP_S = 0.001
PAUSE_S = STEP_S * (1 / SHARE - 1)


class Machine:
    """A processor whose time passes only where `work` uses it, and the count of frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.used_s = 0.0
        self.flows = True
        self.pacer = Pacer(self.count_frames, clock=trio.current_time, used=lambda: self.used_s)

    def count_frames(self) -> int:
        self.frames += self.flows
        return self.frames

    async def work(self, steps: int, log: list[str] | None = None, name: str = "") -> str:
        for _ in range(steps):
            self.used_s += STEP_S
            if log is not None:
                log.append(name)
            await trio.lowlevel.checkpoint()
        return name


async def elapsed(work: Coroutine[Any, Any, object]) -> float:
    began = trio.current_time()
    await work
    return trio.current_time() - began


async def paced(machine: Machine, work: Coroutine[Any, Any, object]) -> None:
    await machine.pacer.paced(work)


async def run(machine: Machine, steps: int) -> str:
    return await machine.pacer.paced(machine.work(steps, name="done"))


@pytest.fixture
def machine() -> Machine:
    return Machine()


async def test_while_frames_flow_the_pauses_leave_them_their_share(machine: Machine, autojump_clock: MockClock) -> None:
    paused_s = await elapsed(run(machine, 20))

    assert paused_s == pytest.approx(20 * PAUSE_S)
    assert machine.used_s / (machine.used_s + paused_s) <= 0.25


async def test_what_the_coroutine_returns_is_the_answer(machine: Machine, autojump_clock: MockClock) -> None:
    assert await run(machine, 2) == "done"


async def test_what_the_coroutine_raises_comes_out(machine: Machine, autojump_clock: MockClock) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("of the request")

    with pytest.raises(LookupError, match="of the request"):
        await machine.pacer.paced(fail())


async def test_without_frames_there_are_no_pauses(machine: Machine, autojump_clock: MockClock) -> None:
    machine.flows = False

    assert await elapsed(run(machine, 100)) == 0


async def test_frames_that_have_ceased_to_flow_slow_nobody(machine: Machine, autojump_clock: MockClock) -> None:
    await run(machine, 1)
    machine.flows = False
    await trio.sleep(QUIET_S * 1.01)

    assert await elapsed(run(machine, 100)) == 0


async def test_short_steps_are_added_up_before_there_is_a_pause(machine: Machine, autojump_clock: MockClock) -> None:
    pacer = machine.pacer

    pacer.charge(QUANTUM_S * 0.4)
    assert await elapsed(run(machine, 0)) == 0
    pacer.charge(QUANTUM_S * 0.4)
    assert await elapsed(run(machine, 0)) == 0
    pacer.charge(QUANTUM_S * 0.4)
    assert await elapsed(run(machine, 0)) == pytest.approx(QUANTUM_S * 1.2 * (1 / SHARE - 1))


async def test_many_requests_get_no_more_than_one_and_take_turns(machine: Machine, autojump_clock: MockClock) -> None:
    log: list[str] = []

    async def all_of_them() -> None:
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(paced, machine, machine.work(4, log, name))

    assert await elapsed(all_of_them()) == pytest.approx(12 * PAUSE_S)
    # Who is first is Trio's choice; from then on nobody has two turns while another waits.
    assert all(set(log[start : start + 3]) == {"a", "b", "c"} for start in range(0, 12, 3))


async def test_no_pause_is_longer_than_a_client_would_notice(machine: Machine, autojump_clock: MockClock) -> None:
    machine.pacer.charge(10.0)

    assert await elapsed(run(machine, 0)) == pytest.approx(LONGEST_PAUSE_S)


async def test_a_lock_handed_over_is_kept_when_the_pause_is_cancelled(
    machine: Machine, autojump_clock: MockClock
) -> None:
    lock = trio.Lock()
    got_it: list[bool] = []

    async def wait_for_it() -> None:
        await lock.acquire()
        got_it.append(True)
        lock.release()
        await trio.sleep_forever()

    await lock.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(paced, machine, wait_for_it())
        await wait_all_tasks_blocked()
        machine.pacer.charge(STEP_S)
        lock.release()  # To the other task, which has a pause before it hears of it.
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got_it
    assert not lock.locked()


async def test_after_stop_nothing_waits(machine: Machine, autojump_clock: MockClock) -> None:
    await run(machine, 1)
    machine.pacer.stop()

    assert await elapsed(run(machine, 100)) == 0


async def test_every_request_is_paced(api: Api, fabric: FakeFabric, autojump_clock: MockClock) -> None:
    charged: list[float] = []
    charge = api.app.pacer.charge

    def note(used_s: float) -> None:
        charged.append(used_s)
        charge(used_s)

    api.app.pacer.charge = note  # type: ignore[method-assign] # to hear of it
    assert (await api.request("GET", "/links")).status == 200
    assert sum(charged) > 0
