"""Counters of frames, one set a direction.

Invariant: every frame that entered a direction is in exactly one place: in `frames` (handed on) or
under one reason in `dropped`. Counters only grow, for as long as their owner lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DropReason(StrEnum):
    """Why a frame was not handed on."""

    RUNT = "runt"
    """Shorter than an Ethernet header (14 bytes)."""
    GIANT = "giant"
    """Longer than MTU 9216 with header and 802.1Q tag (9234 bytes)."""
    NO_HOST = "no_host"
    """From a link while no host was attached."""
    NO_LINK = "no_link"
    """From the host while there was no active link that is up."""
    FULL = "full"
    """The socket and the queue behind it were full, although the sources were slowed."""
    CONGESTED = "congested"
    """The link had been full for longer than the sources are slowed for it."""
    REFUSED = "refused"
    """The kernel refused this one frame (EMSGSIZE and its like)."""
    DUPLICATE = "duplicate"
    """A second copy: another link had brought it."""
    REFLECTION = "reflection"
    """The host's own frame, come back over a link, where such are to be dropped."""
    PROBE = "probe"
    """An answer to a question of our own, or the question itself come back; the host has not asked."""
    CLOSED = "closed"
    """Still queued when the peer went away or the drain time ended."""


@dataclass(slots=True)
class DirectionCounters:
    """Frames and bytes (Ethernet header included, no framing) handed on, and drops by reason."""

    frames: int = 0
    bytes: int = 0
    dropped: dict[DropReason, int] = field(default_factory=dict)

    def add(self, frames: int, octets: int) -> None:
        """Count `frames` frames of `octets` bytes together as handed on."""
        self.frames += frames
        self.bytes += octets

    def drop(self, reason: DropReason, frames: int = 1) -> None:
        """Count `frames` frames as lost for `reason`; none at all leaves no entry."""
        if frames:
            self.dropped[reason] = self.dropped.get(reason, 0) + frames

    @property
    def dropped_frames(self) -> int:
        """Frames lost for any reason."""
        return sum(self.dropped.values())
