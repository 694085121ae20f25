"""Hints by gossip: "there is something new", never the thing itself.

Gossip loses in bursts, after restarts and to late joiners, so every hint leads to a pull and
nothing depends on one; the network works with gossip switched off. Authors are limited here, by
their authenticated id, because the library's own limit drops what it should not.
Specification: docs/spec/peer-protocols.md "hints", docs/design/p2p.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from libp2p.abc import ISubscriptionAPI
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.doors import Doors
from pyrsia_node.p2p.frames import METHOD_BYTES_MAX
from pyrsia_node.p2p.hardening.gossip import HardenedPubsub, new_gossip
from pyrsia_node.p2p.hardening.host import HardenedHost
from pyrsia_node.p2p.pacing import PeerBuckets
from pyrsia_node.ports import Hint, PeerId

HINT_BYTES_MAX: Final = 4096
AUTHOR_PER_S: Final = 20.0
AUTHOR_BURST: Final = 100.0

_QUEUE_MAX: Final = 256
_LOG: Final = logging.getLogger("pyrsia.p2p")


def encode_hint(topic: str, payload: bytes) -> bytes:
    """Return the gossip message of a hint.

    Raises:
        InvalidInputError: The topic is no short ASCII text, or the payload is over 4 KiB.
    """
    if not (topic.isascii() and topic.isprintable() and 0 < len(topic) <= METHOD_BYTES_MAX):
        raise InvalidInputError(f"hint topic {topic[:64]!r} is no text of 1 to 32 ASCII letters")
    if len(payload) > HINT_BYTES_MAX:
        raise InvalidInputError(f"a hint of {len(payload)} bytes exceeds {HINT_BYTES_MAX}")
    return bytes([len(topic)]) + topic.encode("ascii") + payload


def decode_hint(source: PeerId, message: bytes) -> Hint:
    """Return the hint in a gossip message.

    Raises:
        InvalidInputError: The message is truncated, too long, or its topic is not ASCII.
    """
    if not message or 1 + message[0] > len(message):
        raise InvalidInputError("a hint that ends within its topic")
    end = 1 + message[0]
    topic = message[1:end].decode("ascii", "replace")
    payload = message[end:]
    if encode_hint(topic, payload) != message:
        raise InvalidInputError("a hint whose topic is not ASCII")
    return Hint(topic, source, payload)


class GossipHints:
    """Publishes and yields hints; does nothing, quietly, where gossip is switched off."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._counters = doors.counters
        self._own = ""
        self._pubsub: HardenedPubsub | None = None
        self._topic = ""
        self._buckets = PeerBuckets(rate_per_s=AUTHOR_PER_S, burst=AUTHOR_BURST)
        self._send_out, self._outbox = trio.open_memory_channel[bytes](_QUEUE_MAX)
        self._send_in, self._inbox = trio.open_memory_channel[Hint](_QUEUE_MAX)

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue a hint; a full queue drops it. Raises InvalidInputError as ``encode_hint``."""
        message = encode_hint(topic, payload)
        if self._pubsub is None:
            return
        try:
            self._send_out.send_nowait(message)
        except trio.WouldBlock:
            self._counters.hints_dropped += 1

    def hints(self) -> AsyncIterator[Hint]:
        """Return what yields the hints of others until the network closes."""
        return self._inbox

    def close(self) -> None:
        """End the iteration of ``hints``."""
        self._send_in.close()

    @asynccontextmanager
    async def running(
        self, host: HardenedHost, *, topic: str, first_sequence: int
    ) -> AsyncIterator[None]:
        """Run gossip on a host whose swarm runs but does not listen or dial yet."""
        self._own = host.get_id().to_base58()
        pubsub, router = new_gossip(
            host, topic=topic, message_bytes_max=HINT_BYTES_MAX, first_sequence=first_sequence
        )
        pubsub.set_topic_validator(topic, self._is_wanted, is_async_validator=False)
        async with background_trio_service(router), background_trio_service(pubsub):
            await pubsub.wait_until_ready()
            subscription = await pubsub.subscribe(topic)
            self._pubsub, self._topic = pubsub, topic
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish_queued, pubsub)
                nursery.start_soon(self._deliver, subscription)
                yield
                self._pubsub = None
                nursery.cancel_scope.cancel()

    def _is_wanted(self, _forwarder: ID, message: rpc_pb2.Message) -> bool:
        # A False message is neither delivered nor passed on. Never raises [K6].
        author = PeerId(ID(message.from_id).to_base58())
        if author == self._own:
            return True
        try:
            decode_hint(author, message.data)
        except InvalidInputError:
            self._doors.refuse("malformed hint", author)
            return False
        if not self._buckets.take(author, trio.current_time()):
            self._doors.refuse("too many hints", author)
            return False
        return True

    async def _publish_queued(self, pubsub: HardenedPubsub) -> None:
        async for message in self._outbox:
            with trio.move_on_after(5.0):
                await pubsub.publish(self._topic, message)
                self._counters.hints_sent += 1

    async def _deliver(self, subscription: ISubscriptionAPI) -> None:
        while True:
            message = await subscription.get()
            author = PeerId(ID(message.from_id).to_base58())
            if author == self._own:
                continue
            self._counters.hints_received += 1
            try:
                self._send_in.send_nowait(decode_hint(author, message.data))
            except trio.WouldBlock:
                self._counters.hints_dropped += 1
            except InvalidInputError as error:
                _LOG.debug("hint of %s: %s", author, error)
