"""What every part of the build service works with; made once by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from consensus.types import NodeId
from pyrsia_node.builds.links import Vault, Worker
from pyrsia_node.builds.logged_images import NewestImage
from pyrsia_node.builds.maven import Origin
from pyrsia_node.builds.mirror_link import Mirror
from pyrsia_node.builds.records import BuildRecords
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import Sign
from pyrsia_node.ports import Clock, PeerId, PeerRequests

Submit = Callable[[bytes], Awaitable[None]]
"""Checks a signed transaction, keeps it durably until it is committed, sends it to the members.

Raises InvalidInputError, naming the rule, when it can never be valid.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and the key with which it signs transactions."""

    me: NodeId
    network_id: bytes
    sign_transaction: Sign
    sign_wish: Sign


@dataclass(frozen=True, slots=True)
class BuildContext:
    """Ports and services of the build service.

    Attributes:
        newest_image: What the log says a tag is.
        origin_of: Where the log says that a version of a Maven artifact comes from.
        is_pending: Whether a submitted transaction still waits to be committed.
        published_size: Leaves that this node serves to clients: those of its checkpoint.
        beyond: Waits until the committed height exceeds the one given; returns it.
        peer_of: The peer id of a member's current p2p key.
        labels: Gives the labels of the current members by id, for people.
        is_member: Whether this node is in the member set now.
        parallel: Rebuilds at the same time.
        seconds_max: Time limit of one build.
        has_pipeline: Whether an external pipeline is configured for this node's worker.
        unmapped_sources: Whether this node vouches for sources that no mapping in the log names.
        faults: Development networks only: which lies this node tells; mutable, usually empty.
    """

    identity: Identity
    chain: Chain
    records: BuildRecords
    worker: Worker
    vault: Vault
    mirror: Mirror
    newest_image: NewestImage
    origin_of: Callable[[Purl], Origin | None]
    requests: PeerRequests
    clock: Clock
    submit: Submit
    is_pending: Callable[[str], bool]
    published_size: Callable[[], int]
    beyond: Callable[[int], Awaitable[int]]
    peer_of: Callable[[NodeId], PeerId]
    labels: Callable[[], Mapping[str, str]]
    is_member: Callable[[], bool]
    parallel: int
    seconds_max: int
    has_pipeline: bool
    unmapped_sources: bool
    faults: dict[str, str]
