from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fabric.ethernet import MAX_FRAME_SIZE, MIN_FRAME_SIZE
from app.fabric.framing import HEADER_SIZE, MAX_ENCODED_SIZE, StreamParser, encode_frame

LIMIT = 64


def read(parser: StreamParser, chunks: list[bytes], limit: int = LIMIT) -> list[bytes]:
    """The frames in `chunks`, read as the parser is to be used.

    The buffer begins with the tail of the one before; where the limit was reached, the rest is parsed again.
    """
    frames: list[bytes] = []
    for chunk in chunks:
        buffer = memoryview(parser.tail + chunk)
        while True:
            offsets, lengths, used = parser.parse(buffer, limit)
            assert len(offsets) == len(lengths) <= limit
            assert 0 <= used <= len(buffer)
            frames += [bytes(buffer[start : start + length]) for start, length in zip(offsets, lengths, strict=True)]
            if len(offsets) < limit:
                assert used == len(buffer)
                break
            assert parser.tail == b""
            buffer = buffer[used:]
        assert len(parser.tail) < MAX_ENCODED_SIZE
    return frames


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    ends = sorted(position % (len(stream) + 1) for position in at)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


def blob(length: int) -> bytes:
    """`length` bytes that would be read as something else if the reader lost its place."""
    return bytes((7 * i + length) % 251 for i in range(length))


# What a stream may hold, by length: frames, keep-alives (0), runts and giants.
_LENGTHS = st.one_of(
    st.integers(MIN_FRAME_SIZE, 80),
    st.just(0),
    st.integers(1, MIN_FRAME_SIZE - 1),
    st.sampled_from([MIN_FRAME_SIZE, 1514, MAX_FRAME_SIZE - 1, MAX_FRAME_SIZE]),
    st.sampled_from([MAX_FRAME_SIZE + 1, 0xFFFF]),
)
_STREAMS = st.lists(_LENGTHS, max_size=12)
_CUTS = st.lists(st.integers(0, 2**18), max_size=12)


def test_a_frame_goes_out_with_its_length_in_one_piece() -> None:
    assert encode_frame(b"x" * 14) == b"\x00\x0e" + b"x" * 14
    assert encode_frame(b"x" * 1514)[:2] == b"\x05\xea"
    assert len(encode_frame(bytes(MAX_FRAME_SIZE))) == MAX_ENCODED_SIZE == 9236


@given(_STREAMS, _CUTS, st.integers(1, 6))
def test_any_split_of_any_stream_gives_the_same_frames(lengths: list[int], cuts: list[int], limit: int) -> None:
    stream = b"".join(encode_frame(blob(length)) for length in lengths)
    parser = StreamParser()
    frames = read(parser, cut(stream, cuts), limit)
    assert frames == [blob(length) for length in lengths if MIN_FRAME_SIZE <= length <= MAX_FRAME_SIZE]
    assert parser.runts == sum(0 < length < MIN_FRAME_SIZE for length in lengths)
    assert parser.giants == sum(length > MAX_FRAME_SIZE for length in lengths)
    assert not parser.in_mid_frame


@given(_STREAMS.filter(bool), st.integers(0, 2**18), _CUTS)
def test_an_end_in_mid_frame_is_known(lengths: list[int], end: int, cuts: list[int]) -> None:
    pieces = [encode_frame(blob(length)) for length in lengths]
    stream = b"".join(pieces)
    end %= len(stream)
    boundaries = {sum(map(len, pieces[:count])) for count in range(len(pieces))}
    parser = StreamParser()
    read(parser, cut(stream[:end], cuts))
    assert parser.in_mid_frame == (end not in boundaries)


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 4))
def test_hostile_bytes_never_confuse_the_offsets(chunks: list[bytes], limit: int) -> None:
    frames = read(StreamParser(), chunks, limit)
    assert all(MIN_FRAME_SIZE <= len(frame) <= MAX_FRAME_SIZE for frame in frames)
    assert read(StreamParser(), [b"".join(chunks)]) == frames


def test_one_byte_at_a_time() -> None:
    stream = encode_frame(blob(60)) + encode_frame(b"") + encode_frame(blob(14))
    parser = StreamParser()
    assert read(parser, [bytes([byte]) for byte in stream]) == [blob(60), blob(14)]
    assert not parser.in_mid_frame


@pytest.mark.parametrize("length", [1, 13])
def test_runts_are_counted_and_skipped(length: int) -> None:
    parser = StreamParser()
    assert read(parser, [encode_frame(blob(length)) + encode_frame(blob(60))]) == [blob(60)]
    assert (parser.runts, parser.giants) == (1, 0)


@pytest.mark.parametrize("length", [9235, 0xFFFF])
def test_a_giant_is_skipped_to_its_last_byte_across_chunks(length: int) -> None:
    stream = encode_frame(blob(length)) + encode_frame(blob(60))
    parser = StreamParser()
    assert read(parser, [stream[start : start + 1000] for start in range(0, len(stream), 1000)]) == [blob(60)]
    assert (parser.runts, parser.giants) == (0, 1)


def test_a_giant_whose_end_has_not_come_is_mid_frame_and_keeps_nothing() -> None:
    parser = StreamParser()
    read(parser, [encode_frame(blob(20000))[:12000]])
    assert parser.in_mid_frame
    assert parser.tail == b""
    assert read(parser, [blob(20000)[12000 - HEADER_SIZE :] + encode_frame(blob(60))]) == [blob(60)]


def test_zero_lengths_are_nothing() -> None:
    parser = StreamParser()
    assert read(parser, [bytes(200), encode_frame(blob(60)), b"\0"]) == [blob(60)]
    assert (parser.runts, parser.giants) == (0, 0)
    assert parser.in_mid_frame  # half of a header
    read(parser, [b"\0"])
    assert not parser.in_mid_frame


def test_the_limit_leaves_the_rest_to_the_caller() -> None:
    frames = [blob(length) for length in (60, 61, 62)]
    chunk = memoryview(b"".join(map(encode_frame, frames)) + b"\0")
    parser = StreamParser()
    offsets, lengths, used = parser.parse(chunk, 2)
    assert (offsets, lengths, used) == ([2, 64], [60, 61], 125)
    assert parser.tail == b""
    offsets, lengths, used = parser.parse(chunk[used:], 2)
    assert (offsets, lengths, used) == ([2], [62], 65)
    assert parser.tail == b"\0"


def test_the_limit_reached_with_the_last_frame() -> None:
    chunk = memoryview(encode_frame(blob(60)))
    parser = StreamParser()
    assert parser.parse(chunk, 1) == ([2], [60], 62)
    assert parser.parse(chunk[62:], 1) == ([], [], 0)
    assert not parser.in_mid_frame
