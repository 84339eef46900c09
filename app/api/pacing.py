"""Frames come first: how much of the loop's time the API may have while frames flow.

    step of a request | pause, four times as long | step | pause | ...          at most a fifth of the time

A step is what a task does between two of its awaits: nothing else runs meanwhile, no frame is forwarded. `paced` runs
a coroutine step by step, takes the time of each, and puts the pauses between them. All tasks of one pacer take turns, in
the order in which they came, and the pause after one's step is everybody's: so 200 clients get no more of the loop than
one. While no frames flow there are no pauses. Steps are kept short by whoever writes them: what is long has
awaits in it.

Invariant: what a step was given it gets, the pause only comes first. Hence pauses are shielded from cancellation
(a lock that a task has been handed would be lost with the pause), and short; after `stop` there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

import trio

SHARE: Final = 0.2
"""Of the loop's time, while frames flow. A quarter is the most it may be; and after a step caches are cold."""
QUANTUM_S: Final = 0.0003
"""Steps shorter than this are taken in one go: a pause costs a wake-up."""
LONGEST_PAUSE_S: Final = 0.05
QUIET_S: Final = 0.05
"""Without a frame for so long, frames do not flow."""

ResultT = TypeVar("ResultT")
