from __future__ import annotations

from itertools import product

import pytest

from app.fabric.handoff_states import FINAL_STATES, PHASES, TRANSITIONS, HandoffState, OldLinks, may_follow

# Written out a second time: a change of the table has to be meant.
EXPECTED = {
    "making": {"verifying", "rolled_back", "aborted"},
    "verifying": {"overlapping", "rolled_back", "aborted"},
    "overlapping": {"draining", "rolled_back", "aborted"},
    "draining": {"completed", "rolled_back", "aborted"},
    "completed": set(),
    "rolled_back": set(),
    "aborted": set(),
}


@pytest.mark.parametrize(("state", "following"), list(product(HandoffState, HandoffState)))
def test_every_pair(state: HandoffState, following: HandoffState) -> None:
    assert may_follow(state, following) is (following.value in EXPECTED[state.value])


def test_names_are_those_of_the_api() -> None:
    assert [state.value for state in HandoffState] == list(EXPECTED)
    assert [old.value for old in OldLinks] == ["retire", "standby"]


def test_what_is_final_is_followed_by_nothing_and_everything_else_by_something() -> None:
    assert set(TRANSITIONS) == set(HandoffState)
    assert {state for state in HandoffState if not TRANSITIONS[state]} == FINAL_STATES
    assert set(PHASES) == set(HandoffState) - FINAL_STATES
