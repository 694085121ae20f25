"""What a core has opened, and who is who in its network: handed to every part of the root."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.ed25519 import Verify
from consensus.types import Digest, NodeId
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, PeerId
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import NodeKeys
from pyrsia_node.store.leveldb import LevelDbStore


@dataclass(frozen=True, slots=True)
class Opened:
    """Open resources of one core, closed by whoever opened them.

    ``me`` is this node's member id, member or not: the peer id of its p2p key. ``verify`` is the
    verifier of the chain: parts that check the same signatures share it.
    """

    layout: Layout
    config: Config
    clock: Clock
    keys: NodeKeys
    store: LevelDbStore
    chain: Chain
    network: Network
    gateway: LinkClient
    worker: LinkClient
    me: NodeId
    verify: Verify

    @property
    def chain_id(self) -> Digest:
        """The chain id that votes are bound to: the network id."""
        return Digest(self.chain.genesis.network_id)

    @property
    def is_member(self) -> bool:
        """Whether this node is in the member set of the next height, with the keys that it has."""
        record = self.chain.tip.set_leaf.record_of(self.me)
        return record is not None and record.keys == self.keys.member_keys()

    @property
    def may_become_member(self) -> bool:
        """Whether this node has to be ready to vote: as a member, or once it is admitted."""
        return self.is_member or self.config.node.role == "authorized"

    def peer_of(self, node: NodeId) -> PeerId:
        """Return the peer id of a member's current p2p key."""
        record = self.chain.tip.set_leaf.record_of(node)
        return PeerId(peer_id_of(record.keys.p2p)) if record is not None else PeerId(node)

    def member_peers(self) -> dict[PeerId, NodeId]:
        """Return all members by the peer id of their current p2p key."""
        return {
            PeerId(peer_id_of(record.keys.p2p)): NodeId(record.id)
            for record in self.chain.tip.set_leaf.members
        }

    def labels(self) -> dict[str, str]:
        """Return member labels by id."""
        return {record.id: record.label for record in self.chain.tip.set_leaf.members}
