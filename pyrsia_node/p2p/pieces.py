"""The ``pieces`` protocol: byte ranges and piece hashes of public artifacts over libp2p.

The slower way for holders that only libp2p reaches (see LIBP2P figures in docs/design/p2p.md).
Bytes are not verified here: the receiver checks each piece against the log's entry.
Specification: docs/spec/peer-protocols.md "pieces".
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from pyrsia_node.model.errors import (
    InvalidInputError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.p2p.doors import Doors
from pyrsia_node.p2p.frames import (
    ERROR_TEXT_BYTES_MAX,
    Status,
    decode_answer,
    encode_answer,
    encode_error,
)
from pyrsia_node.p2p.pacing import TokenBucket
from pyrsia_node.p2p.stats import Counters
from pyrsia_node.p2p.streams import PeerStream, answering, asking
from pyrsia_node.ports import PeerId

CHUNK_BYTES: Final = 128 * 1024
RANGE_BYTES_MAX: Final = 64 * 1024 * 1024
HASHES_BYTES_MAX: Final = 8 * 1024 * 1024
"""Piece hashes of one artifact: 32 bytes for each 4 MiB, so 1 TiB."""

STALL_S: Final = 10.0
"""Longest wait for the next chunk; the library itself resets a writer after five."""

_REQUEST: Final = struct.Struct(">B32sQI")
_SIZE: Final = struct.Struct(">Q")
_KIND_RANGE: Final = 0
_KIND_HASHES: Final = 1
_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PieceRequest:
    """A range of an artifact, or its piece hashes when ``length`` is None."""

    sha256: str
    start: int
    length: int | None


@dataclass(frozen=True, slots=True)
class FileRange:
    """What a handler serves: ``length`` bytes of a local file from ``start``."""

    path: str
    start: int
    length: int


PieceHandler = Callable[[PeerId, PieceRequest], Awaitable[FileRange | bytes]]
"""Returns the range asked for, or the piece hashes; raises NotFoundError or UnavailableError."""


@dataclass(frozen=True, slots=True)
class PieceLimits:
    """How much a node serves over libp2p."""

    at_once: int = 16
    at_once_per_peer: int = 4
    bytes_per_s: float = 50e6


def encode_piece_request(request: PieceRequest) -> bytes:
    """Return a request frame's payload; raises InvalidInputError as the decoder."""
    _check(request)
    kind = _KIND_HASHES if request.length is None else _KIND_RANGE
    digest = bytes.fromhex(request.sha256)
    return _REQUEST.pack(kind, digest, request.start, request.length or 0)


def decode_piece_request(payload: bytes) -> PieceRequest:
    """Return what a request frame's payload says.

    Raises:
        InvalidInputError: Wrong size, unknown kind, or a range out of bounds.
    """
    if len(payload) != _REQUEST.size:
        raise InvalidInputError(f"a piece request has {_REQUEST.size} bytes, not {len(payload)}")
    kind, digest, start, length = _REQUEST.unpack(payload)
    if kind not in (_KIND_RANGE, _KIND_HASHES) or (kind == _KIND_HASHES and (start or length)):
        raise InvalidInputError("a piece request of unknown kind")
    request = PieceRequest(digest.hex(), start, None if kind == _KIND_HASHES else length)
    _check(request)
    return request


def _check(request: PieceRequest) -> None:
    if not _HEX.fullmatch(request.sha256):
        raise InvalidInputError("a piece request names no SHA-256")
    if not 0 <= request.start < 2**63:
        raise InvalidInputError("a piece request starts out of bounds")
    if request.length is not None and not 1 <= request.length <= RANGE_BYTES_MAX:
        raise InvalidInputError(f"a range has 1 to {RANGE_BYTES_MAX} bytes, not {request.length}")


class Chunks:
    """Yields what a holder sends: exactly the size agreed on, or an error. Bytes are unverified.

    A reader that pauses for more than five seconds is cut off by the holder's library.
    """

    def __init__(self, stream: PeerStream, size: int, counters: Counters) -> None:
        self._stream = stream
        self._size = size
        self._left = size
        self._counters = counters

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        with trio.move_on_after(STALL_S) as patience:
            chunk = await self._stream.read_bulk(min(self._left, 2 * CHUNK_BYTES))
        if patience.cancelled_caught or not chunk:
            raise UnavailableError(
                f"holder {self._stream.peer} stopped {self._left} bytes before the end"
                f" of {self._size}"
            )
        self._left -= len(chunk)
        self._counters.piece_bytes_received += len(chunk)
        return chunk


class Pieces:
    """Both sides of the protocol."""

    def __init__(self, doors: Doors, protocol: str, limits: PieceLimits) -> None:
        self._doors = doors
        self._protocol = protocol
        self._counters = doors.counters
        self._limits = limits
        self._handler: PieceHandler | None = None
        self._running: Counter[PeerId] = Counter()
        self._rate = TokenBucket(rate_per_s=limits.bytes_per_s, burst=limits.bytes_per_s, now_s=0.0)

    def serve(self, handler: PieceHandler) -> None:
        """Serve pieces with ``handler`` from now on."""
        self._handler = handler

    # ------------------------------------------------------------------------------- client

    @asynccontextmanager
    async def read(
        self, holder: PeerId, sha256: str, *, start: int, length: int, timeout_s: float
    ) -> AsyncIterator[Chunks]:
        """Give the chunks of a range: exactly ``length`` bytes or an error.

        Leave the context to stop early. Unverified bytes.

        Args:
            holder: Whom to ask.
            sha256: The artifact, lowercase hex.
            start: First byte.
            length: How many bytes.
            timeout_s: Deadline until the first byte; afterwards each chunk has ten seconds.

        Raises:
            UnavailableError: Not reachable, refused, stalled, or ended early.
            NotFoundError: The holder does not have it (any more).
            PeerMisbehaviorError: Another length than asked for.
        """
        request = PieceRequest(sha256, start, length)
        async with self._requested(holder, request, timeout_s) as (stream, size):
            if size != length:
                raise PeerMisbehaviorError(holder, f"offers {size} bytes instead of {length}")
            yield Chunks(stream, size, self._counters)

    async def piece_hashes(self, holder: PeerId, sha256: str, *, timeout_s: float) -> bytes:
        """Return the holder's list of 32-byte piece hashes; raises as ``read``."""
        request = PieceRequest(sha256, 0, None)
        async with self._requested(holder, request, timeout_s) as (stream, size):
            if size > HASHES_BYTES_MAX or size % 32:
                raise PeerMisbehaviorError(holder, f"offers {size} bytes of piece hashes")
            return b"".join([chunk async for chunk in Chunks(stream, size, self._counters)])

    @asynccontextmanager
    async def _requested(
        self, holder: PeerId, request: PieceRequest, timeout_s: float
    ) -> AsyncIterator[tuple[PeerStream, int]]:
        payload = encode_piece_request(request)
        with trio.CancelScope(deadline=trio.current_time() + timeout_s) as patience:
            await self._doors.reach(holder)
            stream = await self._doors.open_stream(holder, self._protocol)
        if patience.cancelled_caught:
            raise UnavailableError(f"holder {holder} was not reached within {timeout_s:g} s")
        async with asking(stream):
            with trio.CancelScope(deadline=patience.deadline) as patience:
                await stream.write_frame(payload)
                frame = await stream.read_frame(bytes_max=1 + ERROR_TEXT_BYTES_MAX)
            if patience.cancelled_caught:
                raise UnavailableError(f"holder {holder} did not answer within {timeout_s:g} s")
            yield stream, _size_in(holder, frame)

    # ------------------------------------------------------------------------------- server

    async def answer(self, stream: PeerStream) -> None:
        """Serve one stream of a welcomed peer."""
        peer = stream.peer
        is_full = self._running.total() >= self._limits.at_once
        if is_full or self._running[peer] >= self._limits.at_once_per_peer:
            self._doors.refuse("too many piece streams", peer)
            await stream.reset()
            return
        self._running[peer] += 1
        try:
            async with answering(stream):
                await self._answer_one(stream)
        finally:
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]

    async def _answer_one(self, stream: PeerStream) -> None:
        try:
            with trio.fail_after(STALL_S):
                payload = await stream.read_frame(bytes_max=_REQUEST.size)
            request = decode_piece_request(payload)
            if self._handler is None:
                raise UnavailableError("this node serves no pieces")
            with trio.fail_after(STALL_S):
                found = await self._handler(stream.peer, request)
        except trio.TooSlowError:
            await stream.write(encode_error(UnavailableError("too slow")))
            return
        except PyrsiaError as error:
            await stream.write(encode_error(error))
            return
        size = len(found) if isinstance(found, bytes) else found.length
        await stream.write(encode_answer(Status.OK, _SIZE.pack(size)))
        if isinstance(found, bytes):
            await self._send(stream, found)
        else:
            await self._send_file(stream, found)

    async def _send_file(self, stream: PeerStream, found: FileRange) -> None:
        async with await trio.open_file(found.path, "rb") as file:
            await file.seek(found.start)
            left = found.length
            while left:
                chunk = await file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise UnavailableError(f"{found.path} ends {left} bytes early")
                await self._send(stream, chunk)
                left -= len(chunk)

    async def _send(self, stream: PeerStream, data: bytes) -> None:
        for at in range(0, len(data), CHUNK_BYTES):
            chunk = data[at : at + CHUNK_BYTES]
            await trio.sleep(self._rate.spend(len(chunk), trio.current_time()))
            await stream.write(chunk)
            self._counters.piece_bytes_sent += len(chunk)


def _size_in(holder: PeerId, frame: bytes) -> int:
    try:
        payload = decode_answer(frame, peer=holder)
        return int(_SIZE.unpack(payload)[0])
    except (InvalidInputError, struct.error) as error:
        raise PeerMisbehaviorError(holder, f"malformed answer: {error}") from error
