"""Brings missed blocks from other nodes: on boot, on every hint, and every few seconds.

A peer is asked for the decisions after our tip; nothing that it claims is a target. Each decision
carries its certificate and is verified, under the set of its own height, before it is applied. A
peer that answers with less than others have costs one round: the next round asks another.
Wire form: ``decisions`` in docs/spec/peer-protocols.md.
"""

from __future__ import annotations

import logging
import secrets
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PeerId, PeerRequests

_LOG = logging.getLogger("pyrsia.replica.follow")

PULL_INTERVAL_S: Final = 2.0
"""Pause between rounds that brought nothing; jittered by half."""

SHUNNED_S: Final = 15.0
"""How long a peer that failed us is not asked while others are there."""

HINTED_MAX: Final = 8
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
ASK_TIMEOUT_S: Final = 10.0

Apply = Callable[[bytes], Awaitable[bool]]
"""Applies one encoded Decision; True if it was the next height and is now committed."""


def encode_range(*, first: int, bytes_max: int) -> bytes:
    """Return the request for decisions from height ``first`` on, ``bytes_max`` in all."""
    return struct.pack(">QI", first, bytes_max)


def decode_range(payload: bytes) -> tuple[int, int]:
    """Return (first, bytes_max) of a request.

    Raises:
        InvalidInputError: on any other length.
    """
    if len(payload) != 12:
        raise InvalidInputError(f"decisions: request has {len(payload)} bytes, 12 expected")
    first, bytes_max = struct.unpack(">QI", payload)
    return first, min(bytes_max, ANSWER_BYTES_MAX)


def join_prefixed(items: list[bytes]) -> bytes:
    """Return the items, each behind its u32 length."""
    return b"".join(struct.pack(">I", len(item)) + item for item in items)


def split_prefixed(payload: bytes, *, items_max: int) -> list[bytes]:
    """Undo ``join_prefixed``.

    Raises:
        InvalidInputError: when a length runs past the end or there are too many items.
    """
    items: list[bytes] = []
    offset = 0
    while offset < len(payload):
        if len(items) == items_max:
            raise InvalidInputError(f"more than {items_max} items")
        if offset + 4 > len(payload):
            raise InvalidInputError("item length is cut short")
        (length,) = struct.unpack_from(">I", payload, offset)
        offset += 4
        if offset + length > len(payload):
            raise InvalidInputError(f"item of {length} bytes runs past the end")
        items.append(payload[offset : offset + length])
        offset += length
    return items


class Follower:
    """Pulls decisions until no peer has more, for ever."""

    def __init__(self, *, requests: PeerRequests, height: Callable[[], int], apply: Apply) -> None:
        """Follow the chain whose tip ``height`` names, through ``apply``."""
        self._requests = requests
        self._height = height
        self._apply = apply
        self._hinted: list[PeerId] = []
        self._shunned_until: dict[PeerId, float] = {}
        self._wake = trio.Event()

    def hint(self, source: PeerId, height: int) -> None:
        """Note that ``source`` speaks of ``height``; it is asked next if that is news."""
        if height <= self._height() or source in self._hinted or self._is_shunned(source):
            return
        self._hinted = [*self._hinted[1 - HINTED_MAX :], source]
        self._wake.set()

    async def run(self) -> None:
        """Pull for ever. Cancel to stop."""
        while True:
            peer = self._choose()
            progressed = peer is not None and await self._pull(peer)
            if not progressed and not self._hinted:
                await self._pause()

    def _choose(self) -> PeerId | None:
        connected = self._requests.connected()
        while self._hinted:
            peer = self._hinted.pop(0)
            if peer in connected and not self._is_shunned(peer):
                return peer
        # Without this a peer that stalls each round, and hints that it has more, is asked for ever.
        trusted = [peer for peer in connected if not self._is_shunned(peer)]
        candidates = trusted or connected
        return secrets.choice(candidates) if candidates else None

    def _is_shunned(self, peer: PeerId) -> bool:
        return self._shunned_until.get(peer, 0.0) > trio.current_time()

    def _shun(self, peer: PeerId) -> None:
        now = trio.current_time()
        self._shunned_until = {
            each: until for each, until in self._shunned_until.items() if until > now
        }
        self._shunned_until[peer] = now + SHUNNED_S

    async def _pause(self) -> None:
        self._wake = trio.Event()
        jitter = 0.5 + secrets.randbelow(1000) / 1000
        with trio.move_on_after(PULL_INTERVAL_S * jitter):
            await self._wake.wait()

    async def _pull(self, peer: PeerId) -> bool:
        """Ask ``peer`` once; True if at least one block was applied.

        Raises:
            CorruptStateError: our own chain contradicts itself; nothing a peer sends raises it.
        """
        before = self._height()
        request = encode_range(first=self._height() + 1, bytes_max=ANSWER_BYTES_MAX)
        try:
            answer = await self._requests.ask(
                peer,
                "decisions",
                request,
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=ANSWER_BYTES_MAX + 65_536,
            )
            decisions = split_prefixed(answer, items_max=100_000)
            for decision in decisions:
                await self._apply(decision)
        except CorruptStateError:
            raise
        except (UnavailableError, NotFoundError) as error:
            _LOG.debug("decisions from %s: %s", peer, error)
            self._shun(peer)
        except (PeerMisbehaviorError, InvalidInputError, VerificationError) as error:
            _LOG.warning("peer %s sent decisions that do not hold: %s", peer, error)
            self._shun(peer)
        return self._height() > before
