"""The ``ask`` protocol: one request and one answer a stream, between welcomed peers.

Serving is bounded in every direction: requests at once and per second by peer and in all, request
and answer bytes, seconds per handler. Only errors raised on purpose are told to the peer.
Specification: docs/spec/peer-protocols.md "ask".
"""

from __future__ import annotations

import logging
from collections import Counter
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
    LENGTH_BYTES,
    METHOD_BYTES_MAX,
    Status,
    decode_answer,
    decode_length,
    decode_request,
    encode_answer,
    encode_error,
    encode_request,
)
from pyrsia_node.p2p.pacing import PeerBuckets
from pyrsia_node.p2p.streams import PeerStream, answering, asking
from pyrsia_node.ports import PeerId, RequestHandler

ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
"""Largest answer that is sent or awaited."""

_REQUEST_S: Final = 10.0
_HANDLER_S: Final = 30.0
_WRITE_S: Final = 30.0
_HEAD_BYTES_MAX: Final = 1 + METHOD_BYTES_MAX
_LOG: Final = logging.getLogger("pyrsia.p2p")


@dataclass(frozen=True, slots=True)
class AskLimits:
    """How much answering a node does for others."""

    at_once: int = 128
    at_once_per_peer: int = 16
    per_second: float = 100.0
    """Of one peer, on average; the burst is four seconds' worth."""


@dataclass(frozen=True, slots=True)
class _Served:
    handler: RequestHandler
    request_bytes_max: int


class Asker:
    """Both sides of the protocol."""

    def __init__(self, doors: Doors, protocol: str, limits: AskLimits) -> None:
        self._doors = doors
        self._protocol = protocol
        self._counters = doors.counters
        self._limits = limits
        self._methods: dict[str, _Served] = {}
        self._running: Counter[PeerId] = Counter()
        self._buckets = PeerBuckets(rate_per_s=limits.per_second, burst=4 * limits.per_second)

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        """Answer ``method`` with ``handler`` from now on.

        Raises:
            InvalidInputError: The name is no method's name, or is taken.
        """
        encode_request(method, b"")
        if method in self._methods:
            raise InvalidInputError(f"method {method} is served already")
        self._methods[method] = _Served(handler, request_bytes_max)

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        """Return a peer's answer, connecting to it first if need be.

        Args:
            to: Whom to ask.
            method: One of docs/spec/peer-protocols.md.
            payload: The request; its form is the method's affair.
            timeout_s: Deadline of everything together.
            answer_bytes_max: Largest answer to take.

        Raises:
            UnavailableError: Not reachable, too slow, refused, or failed over there.
            PeerMisbehaviorError: The answer is malformed or too large.
            NotFoundError, InvalidInputError, VerificationError: The peer said so of the request.
        """
        request = encode_request(method, payload)
        self._counters.asks_sent += 1
        try:
            with trio.fail_after(timeout_s):
                return await self._exchange(to, request, min(answer_bytes_max, ANSWER_BYTES_MAX))
        except trio.TooSlowError:
            self._counters.asks_failed += 1
            raise UnavailableError(
                f"peer {to} did not answer {method!r} within {timeout_s:g} s"
            ) from None
        except PyrsiaError:
            self._counters.asks_failed += 1
            raise

    async def _exchange(self, to: PeerId, request: bytes, answer_bytes_max: int) -> bytes:
        await self._doors.reach(to)
        async with asking(await self._doors.open_stream(to, self._protocol)) as stream:
            await stream.write(request)
            # An error's text may be longer than the answer would be.
            bytes_max = 1 + max(answer_bytes_max, ERROR_TEXT_BYTES_MAX)
            frame = await stream.read_frame(bytes_max=bytes_max)
        if not frame or frame[0] not in set(Status):
            raise PeerMisbehaviorError(to, "an answer without a known status")
        answer = decode_answer(frame, peer=to)
        if len(answer) > answer_bytes_max:
            raise PeerMisbehaviorError(to, f"an answer of {len(answer)} bytes, not asked for")
        return answer

    async def answer(self, stream: PeerStream) -> None:
        """Serve one stream of a welcomed peer."""
        peer = stream.peer
        why = self._why_not(peer)
        if why:
            self._doors.refuse(why, peer)
            await stream.write(encode_error(UnavailableError(why)))
            await stream.close()
            return
        self._running[peer] += 1
        try:
            async with answering(stream):
                await self._answer_one(stream)
        finally:
            self._running[peer] -= 1
            if not self._running[peer]:
                del self._running[peer]

    def _why_not(self, peer: PeerId) -> str:
        """Return why a peer's request is not even read, or an empty text."""
        if not self._buckets.take(peer, trio.current_time()):
            return "too many requests"
        if self._running.total() >= self._limits.at_once:
            return "too many requests of all peers at once"
        if self._running[peer] >= self._limits.at_once_per_peer:
            return "too many requests at once"
        return ""

    async def _answer_one(self, stream: PeerStream) -> None:
        try:
            with trio.fail_after(_REQUEST_S):
                served, payload = await self._read(stream)
            answer = await self._handle(served, stream.peer, payload)
        except trio.TooSlowError:
            answer = encode_error(UnavailableError("too slow"))
        except PyrsiaError as error:
            answer = encode_error(error)
        except Exception as error:  # noqa: BLE001  whatever a handler does, the peer is answered
            # A handler's defect is ours, not the peer's: shown here in full, there by one word.
            _LOG.exception("a request handler failed")
            answer = encode_error(error)
        self._counters.asks_answered += 1
        with trio.fail_after(_WRITE_S):
            await stream.write(answer)

    async def _read(self, stream: PeerStream) -> tuple[_Served, bytes]:
        # The method is read before the payload, so that the payload's limit is the method's own.
        length = decode_length(
            await stream.read_exactly(LENGTH_BYTES), bytes_max=_HEAD_BYTES_MAX + ANSWER_BYTES_MAX
        )
        head = await stream.read_exactly(min(length, 1))
        name = await stream.read_exactly(min(length - len(head), head[0] if head else 0))
        method = decode_request(head + name).method
        served = self._methods.get(method)
        if served is None:
            raise UnavailableError(f"this node does not answer {method!r}")
        left = length - len(head) - len(name)
        if left > served.request_bytes_max:
            raise InvalidInputError(
                f"a request {method!r} of {left} bytes exceeds {served.request_bytes_max}"
            )
        return served, await stream.read_exactly(left)

    async def _handle(self, served: _Served, peer: PeerId, payload: bytes) -> bytes:
        with trio.fail_after(_HANDLER_S):
            answer = await served.handler(peer, payload)
        if len(answer) > ANSWER_BYTES_MAX:
            raise UnavailableError(f"the answer of {len(answer)} bytes exceeds the limit")
        return encode_answer(Status.OK, answer)
