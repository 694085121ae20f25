"""Gossip: a message can fail only itself [K4 K5 K6], and queues hold what a burst needs.

See the package's docstring for the names in brackets.
"""

from __future__ import annotations

from typing import Final

from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import PriorityQueue, RpcQueue

from pyrsia_node.p2p.hardening.host import HardenedHost
from pyrsia_node.p2p.hardening.measures import Guard, Measure

GOSSIP_PROTOCOL: Final = TProtocol("/meshsub/1.1.0")
GOSSIP_QUEUE_MESSAGES: Final = 1024
"""Length of gossip's outbound and subscription queues; the library's 32 overflow silently."""


class HardenedPubsub(Pubsub):
    """Pubsub in which a message can fail only itself [K4 K5 K6], with queues of a useful size."""

    guard: Guard

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Check one message and pass it on; any error in checking rejects it."""
        # K4, K5: validators.py re-raises when a message's key does not parse or is of an unknown
        # type; K6: pubsub.py expects nothing but its own error of a topic validator. Both happen
        # in a task of the service, which ends the service.
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            if not self.guard.has(Measure.CONTAIN_MESSAGES):
                raise
            self.guard.refuse(f"gossip rejected: {type(error).__name__}", msg_forwarder)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            _enlarge(queue)


def _enlarge(queue: RpcQueue) -> None:
    inner: PriorityQueue = queue._queue  # noqa: SLF001  the library offers no parameter
    inner.max_size = GOSSIP_QUEUE_MESSAGES


def new_gossip(
    host: HardenedHost, *, topic: str, message_bytes_max: int, first_sequence: int
) -> tuple[HardenedPubsub, GossipSub]:
    """Return pubsub and its router; both must run before the first dial or every dial hangs.

    Args:
        host: Whose connections carry the gossip.
        topic: The one topic that peers may subscribe to.
        message_bytes_max: Bound of a message; frames get room for a few.
        first_sequence: Start of the message numbers. The library starts at whole seconds, so that
            after a restart within two minutes every message repeats a number that was seen, and
            is lost: give a clock in nanoseconds.
    """
    pubsub_module.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_QUEUE_MESSAGES
    router = GossipSub(
        protocols=[GOSSIP_PROTOCOL],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=1,
        # "Adaptive" gossip sets the heartbeat back to a minute or more.
        adaptive_gossip_enabled=False,
        # The spam limit silently drops above 10 messages/s, our own included; the diversity rule
        # punishes every peer of a network behind one address. We limit by author ourselves.
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )
    pubsub = HardenedPubsub(
        host,
        router,
        strict_signing=True,
        max_inbound_rpc_size=max(64 * 1024, 4 * message_bytes_max),
        max_subscriptions_per_rpc=8,
        max_subscriptions_per_peer=8,
        allowed_topics={topic},
    )
    pubsub.guard = host.guard
    pubsub.counter = first_sequence
    return pubsub, router
