"""The resource /links/{id}/capture: the frames of a link as they pass, as a pcapng file that has no end until asked.

Invariant: it costs the network nothing but the copying: a reader that is slow loses copies, and the file says how many.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Final, Self

import trio
from pydantic import Field
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from app import __version__
from app.api.parsing import read_query
from app.api.problems import ApiError
from app.api.schema_types import QueryModel
from app.fabric import pcapng
from app.fabric.capture import CapturedFrame, CaptureReader, Captures
from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE
from app.fabric.link import Link

if TYPE_CHECKING:
    from app.fabric.fabric import Fabric

CAPTURE_TYPE: Final = pcapng.MEDIA_TYPE
MAX_CAPTURES: Final = 16
"""At a time, in a service: each may hold BUFFER_BYTES."""
MAX_SECONDS: Final = 86_400.0
MAX_FRAMES: Final = 1_000_000_000
_FRAMES_A_STEP: Final = 100
_PIECE_BYTES: Final = 64 << 10


class CaptureQuery(QueryModel):
    """When a capture ends, and how much of each frame it has."""

    frames: int | None = Field(default=None, ge=1, le=MAX_FRAMES, description="end after so many frames")
    seconds: float | None = Field(
        default=None, gt=0, le=MAX_SECONDS, allow_inf_nan=False, description="end after so many seconds"
    )
    snaplen: int = Field(
        default=MAX_FRAME_SIZE, ge=MIN_FRAME_SIZE, le=MAX_FRAME_SIZE, description="bytes to keep of each frame"
    )


class TooManyCapturesError(ApiError):
    """As many captures as may be are under way."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "too_many_captures"
    title: ClassVar[str] = "Too many captures"


class CaptureHandlers:
    """The operation that captures.

    Args:
        fabric: what has the links; owned by the caller.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    def blueprint(self) -> Blueprint:
        """The routes of this resource."""
        routes = Blueprint("capture", __name__)
        routes.add_url_rule("/links/<link_id>/capture", view_func=self.get_capture, methods=["GET"])
        return routes

    async def get_capture(self, link_id: str) -> Response:
        """GET /links/{id}/capture: from now on, until one of the limits, the link's end or the reader's."""
        query = read_query(CaptureQuery)
        link = self._fabric.find_link(link_id)
        if len(self._fabric.captures) >= MAX_CAPTURES:
            raise TooManyCapturesError(f"{MAX_CAPTURES} captures are under way: end one of them, or wait for its end.")
        body = b"" if request.method == "HEAD" else CaptureBody(self._fabric.captures, link, query)
        response = Response(body, content_type=CAPTURE_TYPE)
        response.timeout = None
        return response


class CaptureBody(ResponseBody):
    """One reader's file, piece by piece; it holds no cancel scope and no nursery from one piece to the next.

    Args:
        captures: opens the reader.
        link: what is captured.
        query: for how long, and how much.
    """

    def __init__(self, captures: Captures, link: Link, query: CaptureQuery) -> None:
        self._captures = captures
        self._link = link
        self._query = query
        self._deadline = float("inf")
        self._frames: list[CapturedFrame] = []
        self._written = 0
        self._is_complete = False
        self._stack = ExitStack()
        self._reader: CaptureReader
        self._head = b""

    async def __aenter__(self) -> Self:
        query, link = self._query, self._link
        if query.seconds is not None:
            self._deadline = trio.current_time() + query.seconds
        self._reader = self._stack.enter_context(self._captures.open(link, snaplen=query.snaplen, limit=query.frames))
        if link.ended.is_set():
            self._reader.end()
        what = link.url or link.description or str(link.kind)
        self._head = pcapng.section_header(f"vde-multilink {__version__}") + pcapng.interface_description(
            link.name, f"link {link.id} of the multilink {link.multilink}: {what}", query.snaplen
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stack.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._is_complete:
            raise StopAsyncIteration
        if not self._frames:
            self._frames = await self._next_frames()
        if not self._frames:
            self._is_complete = True
            return pcapng.interface_statistics(
                self._reader.started_ns, time.time_ns(), self._written, self._reader.lost
            )
        return await self._written_piece()

    async def _next_frames(self) -> list[CapturedFrame]:
        """What has come; nothing at the end."""
        reader = self._reader
        frames: list[CapturedFrame] = []
        with trio.move_on_at(self._deadline):
            frames = await reader.take()
        if not frames:
            reader.end()
        return frames or reader.take_now()

    async def _written_piece(self) -> bytes:
        piece = bytearray()
        done = 0
        while done < len(self._frames) and len(piece) < _PIECE_BYTES:
            for frame in self._frames[done : done + _FRAMES_A_STEP]:
                piece += pcapng.frame_block(
                    frame.at_ns,
                    frame.octets,
                    frame.size,
                    is_inbound=frame.is_inbound,
                    lost_before=frame.lost_before,
                )
            done = min(done + _FRAMES_A_STEP, len(self._frames))
            await trio.lowlevel.checkpoint()
        del self._frames[:done]
        self._written += done
        return bytes(piece)
