"""One hand-off: make the new path, verify it, let both carry, drain the old one; or roll back.

A new link is `standby` until it is verified: it is heard, but nothing of the host's is sent to it, so that a switch
at the far end does not learn the host behind a path that swallows everything. Until draining begins the old links are
not touched at all.

Invariant: when `run` returns, the state is a final one, and nothing it made is left but what it reports.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from app.fabric.errors import LinkStateError, MultilinkError, describe_bug
from app.fabric.handoff_report import PathCount, ReportObserver
from app.fabric.handoff_states import (
    FINAL_STATES,
    HandoffState,
    OldLinks,
    Verify,
    VerifyAddress,
    VerifyAuto,
    VerifyFrames,
    VerifyNothing,
    may_follow,
)
from app.fabric.link import Link, Observer
from app.fabric.multilink import Multilink
from app.fabric.states import LinkState, Role
from app.fabric.vnl import Vnl

_POLL_S: Final = 0.01
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HandoffPlan:
    """What is asked for, every name resolved. Seconds.

    `to` is a locator to be dialled, or a link that is there; `old` are the links that the host is to leave.
    """

    to: Vnl | Link
    to_name: str | None
    old: tuple[Link, ...]
    verify: Verify
    verify_timeout_s: float
    overlap_s: float
    drain_s: float
    old_become: OldLinks


@dataclass(slots=True)
class Phase:
    """One phase: when it began (unix time), and how long it took so far."""

    state: HandoffState
    started: float
    duration_s: float | None = None


class _RollBackError(Exception):
    """The new path is no good; the words say why."""


class Handoff:
    """One hand-off, from asking to its end and after.

    Args:
        multilink: whose host moves.
        plan: what is to be done.
        tell: told which links are dialled, retired and change their role.
        progressed: told of every change of state; must not await.
        clock: monotonic seconds, for durations.
    """

    def __init__(
        self,
        multilink: Multilink,
        plan: HandoffPlan,
        tell: Observer,
        progressed: Callable[[Handoff], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = f"h{secrets.token_hex(6)}"
        self.multilink = multilink.name
        self.plan = plan
        self.state = HandoffState.MAKING
        self.phases: list[Phase] = []
        self.verified_by = ""
        self.reason = ""
        self.new_link: Link | None = None
        self.ended = trio.Event()
        self.report = ReportObserver(self._name_of_slot)
        self._multilink = multilink
        self._tell = tell
        self._progressed = progressed
        self._clock = clock
        self._phase_began = 0.0
        self._scope = trio.CancelScope()
        self._roles = {link: link.role for link in (*plan.old, plan.to) if isinstance(link, Link)}
        self._baseline: dict[Link, tuple[int, int]] = {}
        self._slot_names: dict[int, str] = {}

    @property
    def is_over(self) -> bool:
        """Whether the state is a final one."""
        return self.state in FINAL_STATES

    def abort(self) -> None:
        """Stop and roll back; `ended` is set when that is done.

        Raises:
            LinkStateError: it is over already.
        """
        if self.is_over:
            raise LinkStateError(f"the hand-off {self.id} is {self.state} already: there is nothing to abort")
        self._scope.cancel()

    async def run(self) -> None:
        """Carry it through; the one supervisor of a hand-off, which catches what may fail."""
        self._multilink.inspection.want(self)
        self._multilink.observe(self.report)
        try:
            with self._scope:
                await self._carry_out()
            if not self.is_over:
                await self._roll_back(HandoffState.ABORTED, "aborted on request")
        except _RollBackError as error:
            await self._roll_back(HandoffState.ROLLED_BACK, str(error))
        except Exception as error:  # noqa: BLE001 -- the one supervisor: a bug ends this hand-off, and rolls it back
            _log.exception("hand-off failed", handoff=self.id, multilink=self.multilink)
            await self._roll_back(HandoffState.ROLLED_BACK, describe_bug(error))
        finally:
            if not self.is_over:
                self.reason = "the service has stopped"  # It ends the links too: there is nothing to put back.
                self._enter(HandoffState.ABORTED)
            self.update_report()
            self._multilink.observe(None)
            self._multilink.inspection.release(self)
            self.ended.set()

    def update_report(self) -> None:
        """Bring `report` up to date with the counters of the links; when all is over it stays as it is."""
        if self.ended.is_set():
            return
        self._multilink.inspection.settle(trio.current_time())
        self.report.settle()
        for link, (frames, dropped) in self._baseline.items():
            path = self.report.from_host.paths.setdefault(link.name, PathCount())
            path.frames, path.dropped = link.tx.frames - frames, link.tx.dropped_frames - dropped

    async def _carry_out(self) -> None:
        self._enter(HandoffState.MAKING)
        for link in self.plan.old:
            self._watch_counters(link)
        new = await self._make()
        self.new_link = new
        self._watch_counters(new)
        await self._while_up(new, self._go_over)

    async def _go_over(self, new: Link) -> None:
        self._enter(HandoffState.VERIFYING)
        self.verified_by = await self._verify(new)
        self._enter(HandoffState.OVERLAPPING)
        self._set_role(new, Role.ACTIVE)
        await trio.sleep(self.plan.overlap_s)
        self._enter(HandoffState.DRAINING)
        await self._drain()
        self._enter(HandoffState.COMPLETED)

    async def _make(self) -> Link:
        plan = self.plan
        if isinstance(plan.to, Link):
            if plan.to.state is not LinkState.UP:
                raise _RollBackError(f"the link {plan.to.name} is {plan.to.state}: {plan.to.detail}")
            return plan.to
        try:
            link = await self._multilink.dial(plan.to, name=plan.to_name, role=Role.STANDBY)
        except MultilinkError as error:
            raise _RollBackError(error.detail) from error
        self._tell("dialled", link)
        return link

    async def _verify(self, new: Link) -> str:
        verified = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._step_in, new)
            with trio.move_on_after(self.plan.verify_timeout_s):
                verified = await self._proof(new)
            nursery.cancel_scope.cancel()
        if verified:
            return verified
        if self.plan.old and not self._is_an_old_one_up():
            return "nothing: every old link has gone meanwhile, and this one is what is left"
        raise _RollBackError(
            f"{new.name} is connected but has not proved within {self.plan.verify_timeout_s:g} s that it carries:"
            f" {self._what_was_awaited()}"
        )

    async def _step_in(self, new: Link) -> None:
        """Send to the new link, proved or not, once every old one is gone: nothing else is left to send to."""
        while self._is_an_old_one_up():
            for link in self.plan.old:
                await link.wait_left_up()
        if self.plan.old:
            self._set_role(new, Role.ACTIVE)

    def _is_an_old_one_up(self) -> bool:
        return any(link.state is LinkState.UP for link in self.plan.old)

    async def _proof(self, new: Link) -> str:
        """Return once the new link has proved to carry, and how it did."""
        match self.plan.verify:
            case VerifyNothing():
                return "nothing: not asked for"
            case VerifyFrames(frames):
                return await self._frames_from(new, frames)
            case VerifyAddress(address):
                answer = await self._multilink.prober.ask(new, [address])
                return f"{answer.address} answered within {answer.after_s * 1e3:.1f} ms"
            case VerifyAuto():
                return await self._proof_of_any_kind(new)

    async def _proof_of_any_kind(self, new: Link) -> str:
        addresses = self._multilink.inspection.recent_addresses()
        if not addresses:
            return "being connected: nobody has been heard who could be asked"
        proofs: list[str] = []
        async with trio.open_nursery() as nursery:

            async def first(proof: Callable[[], Awaitable[str]]) -> None:
                proofs.append(await proof())
                nursery.cancel_scope.cancel()

            async def answer() -> str:
                answer = await self._multilink.prober.ask(new, addresses)
                return f"{answer.address} answered within {answer.after_s * 1e3:.1f} ms"

            nursery.start_soon(first, partial(self._frames_from, new, 1))
            nursery.start_soon(first, answer)
        return proofs[0]

    async def _frames_from(self, new: Link, wanted: int) -> str:
        def heard() -> int:
            return new.rx.frames + new.rx.dropped_frames

        before = heard()
        while heard() - before < wanted:  # noqa: ASYNC110 -- counters are not to wake anybody: the frame path pays
            await trio.sleep(_POLL_S)
        return f"{wanted} frame{'s' if wanted > 1 else ''} that came over it"

    def _what_was_awaited(self) -> str:
        match self.plan.verify:
            case VerifyAddress(address):
                return f"{address} has not answered over it"
            case VerifyFrames(frames):
                return f"fewer than {frames} frames came over it"
            case _:
                return "no frame came over it, and none of those heard lately answered over it"

    async def _drain(self) -> None:
        plan = self.plan
        if plan.old_become is OldLinks.STANDBY:
            for link in plan.old:
                self._set_role(link, Role.STANDBY)
            deadline = trio.current_time() + plan.drain_s
            with trio.move_on_at(deadline):
                for link in plan.old:
                    await link.wait_queue_empty()
            await trio.sleep_until(deadline)
            return
        for link in plan.old:
            self._tell("retired", link)
            link.begin_retirement(plan.drain_s)
        for link in plan.old:
            await link.ended.wait()

    async def _while_up(self, new: Link, body: Callable[[Link], Awaitable[None]]) -> None:
        """Run `body`; if the new link goes down before it is done, roll back."""
        died = False
        failure: _RollBackError | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal died
                await new.wait_left_up()
                died = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await body(new)
            except _RollBackError as error:
                failure = error  # Raised below: a nursery would wrap it into a group.
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if died and not self.is_over:
            raise _RollBackError(f"{new.name} went {new.state} while {self.state}: {new.detail or 'it was retired'}")

    async def _roll_back(self, state: HandoffState, reason: str) -> None:
        """Put the old links back as they were, and take out the new one, if it was made here."""
        # Bounded: nothing in here waits for a peer. A cancelled service has it done by the end of the links.
        with trio.CancelScope(shield=True):
            for link in self.plan.old:
                if self.state is HandoffState.DRAINING and link.resume():
                    self._tell("dialled", link)
                self._set_role(link, self._roles[link])
            new = self.new_link
            if new is not None and not new.ended.is_set():
                if new is self.plan.to:
                    self._set_role(new, self._roles[new])
                else:
                    self._tell("retired", new)
                    new.begin_retirement(0)
                    await new.ended.wait()
        self.reason = reason
        self._enter(state)

    def _enter(self, state: HandoffState) -> None:
        now = self._clock()
        if self.phases:
            self.phases[-1].duration_s = now - self._phase_began
            if not may_follow(self.state, state):
                self._refuse(state)
        self.state = state
        self._phase_began = now
        if state not in FINAL_STATES:
            self.phases.append(Phase(state, time.time()))
        self._progressed(self)

    def _refuse(self, state: HandoffState) -> NoReturn:
        raise LinkStateError(f"a hand-off that is {self.state} cannot become {state}")

    def _set_role(self, link: Link, role: Role) -> None:
        if link.role is not role and not link.ended.is_set():
            link.set_role(role)
            self._tell("role", link)

    def _watch_counters(self, link: Link) -> None:
        self._baseline[link] = (link.tx.frames, link.tx.dropped_frames)

    def _name_of_slot(self, slot: int) -> str | None:
        name = self._multilink.inspection.link_name_of(slot)
        if name is not None:
            self._slot_names[slot] = name
        return self._slot_names.get(slot)
