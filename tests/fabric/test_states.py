from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.errors import LinkStateError
from app.fabric.states import TRANSITIONS, LinkEvent, LinkState, Role, next_state

# Written out a second time: a change of the table has to be meant.
EXPECTED = {
    ("connecting", "opened"): "up",
    ("connecting", "failed"): "down",
    ("connecting", "closed"): "retired",
    ("up", "failed"): "down",
    ("up", "retiring"): "draining",
    ("up", "closed"): "retired",
    ("draining", "restored"): "up",
    ("draining", "failed"): "retired",
    ("draining", "closed"): "retired",
    ("down", "redialled"): "connecting",
    ("down", "closed"): "retired",
}
PAIRS = list(product(LinkState, LinkEvent))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=[f"{state}-{event}" for state, event in PAIRS])
def test_every_pair(state: LinkState, event: LinkEvent) -> None:
    expected = EXPECTED.get((state.value, event.value))
    if expected is None:
        with pytest.raises(LinkStateError, match=f"a link that is {state} cannot be {event}"):
            next_state(state, event)
    else:
        assert next_state(state, event) is LinkState(expected)


def test_the_table_has_nothing_more() -> None:
    assert {(state.value, event.value): after.value for (state, event), after in TRANSITIONS.items()} == EXPECTED


def test_names_are_those_of_the_api() -> None:
    assert [state.value for state in LinkState] == ["connecting", "up", "draining", "down", "retired"]
    assert [role.value for role in Role] == ["active", "standby"]


@given(st.lists(st.sampled_from(LinkEvent)))
def test_any_life_ends_in_retired_and_only_there(events: list[LinkEvent]) -> None:
    state = LinkState.CONNECTING
    for event in events:
        try:
            state = next_state(state, event)
        except LinkStateError:
            continue
    if state is LinkState.RETIRED:
        assert not any((state, event) in TRANSITIONS for event in LinkEvent)
    else:
        assert next_state(state, LinkEvent.CLOSED) is LinkState.RETIRED
