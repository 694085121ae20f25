"""A new node's first start: it joins from a snapshot of its network, if somebody offers one.

Only where there is no chain yet, for nodes that are not of the genesis (those start the network),
and for a network that is long enough for it to pay. Whatever goes wrong, the node then executes the
history from the genesis on, as it would have without. While it joins it serves by what peers can
prove to it.
Design: docs/design/catchup.md, "Snapshots".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import trio

from pyrsia_node.core.deriving import derived_lock
from pyrsia_node.core.deriving_link import DerivingLink
from pyrsia_node.core.joining_node import OTHERS, JoiningNode
from pyrsia_node.core.link_server import LinkServer
from pyrsia_node.core.relay import RelayServer
from pyrsia_node.ledger import storage
from pyrsia_node.ledger.adopting import clear_unfinished
from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, KeyValueStore
from pyrsia_node.replica.head_start import HeadStart
from pyrsia_node.replica.joining import Joiner
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import KeyUse, load_keys
from pyrsia_node.tlog.trust import Trust, TrustFile

_LOG = logging.getLogger("pyrsia.core.first_start")

HEIGHT_MIN: Final = 1_000
"""A shorter history is executed in seconds."""

PEERS_WAIT_S: Final = 5.0
"""How long to wait for the first peers."""

MORE_PEERS_S: Final = 1.0
"""How long to wait for others after the first: several serve faster than one."""

LEAVES_BETWEEN_LOOKS: Final = 1024
"""Leaves that are derived from before it is seen that the node is to stop."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The height of the snapshot, and what the gateway is answered by until a head is published."""

    height: int
    start: HeadStart | None


async def join_if_new(
    layout: Layout,
    config: Config,
    store: KeyValueStore,
    genesis: Genesis,
    settings: NetworkConfig,
    *,
    clock: Clock,
    height_min: int = HEIGHT_MIN,
) -> Joined | None:
    """Fill an empty store from the network's newest snapshot; return how far, if that went well.

    Meanwhile the gateway is answered (``core.joining_node``), until what is derived from the chain
    is here as well. Uses the node's own network addresses and ``run/core.sock``, so call it before
    either is opened.

    Raises:
        CorruptStateError: The store cannot be written.
    """
    await trio.to_thread.run_sync(_wait_for_deriving, layout)
    clear_unfinished(store)
    keys = load_keys(layout.node_key)
    me = peer_id_of(keys.public(KeyUse.P2P))
    is_founder = any(member.record.id == me for member in genesis.members)
    if store.get(storage.leaf_key(0)) is not None or is_founder or not settings.bootstrap:
        return None
    async with (
        Network.open(settings, keys.p2p_seed(), clock=clock) as network,
        trio.open_nursery() as nursery,
    ):
        node = JoiningNode(
            layout, config, genesis=genesis, network=network, store=store, clock=clock
        )

        def answer_meanwhile() -> None:
            # Not before: a short log is executed in seconds, and then only the whole core answers.
            link = LinkServer(layout.core_socket, node.table(), others=OTHERS)
            nursery.start_soon(link.serve)
            nursery.start_soon(RelayServer(layout.relay_socket, network).serve)
            nursery.start_soon(node.run)

        await _wait_for_peers(network)
        with DerivingLink(layout, genesis, nursery) as deriving:
            joiner = Joiner(
                requests=network,
                store=store,
                genesis=genesis,
                trust=Trust.establish(TrustFile(genesis.encode())),
                height_min=height_min,
                on_chosen=answer_meanwhile,
                on_closed_known=node.closed_known,
                on_blocks=deriving.take,
            )
            height = await joiner.run()
            if height is not None:
                _LOG.info("the history is here up to height %d; files and index follow", height)
                await deriving.finish()
                # What the deriving process did not do, and the root of all that it did.
                await trio.to_thread.run_sync(_derive, layout, Chain.open(store, genesis))
                _LOG.info("joined at height %d from a snapshot", height)
        nursery.cancel_scope.cancel()
    return None if height is None else Joined(height, node.start)


async def _wait_for_peers(network: Network) -> None:
    with trio.move_on_after(PEERS_WAIT_S):
        while not network.connected():  # noqa: ASYNC110 - the port tells of no event
            await trio.sleep(0.1)
        await trio.sleep(MORE_PEERS_S)


def _wait_for_deriving(layout: Layout) -> None:
    """Wait until one whose core was killed has ended: one process writes at a time."""
    with derived_lock(layout):
        pass


def _derive(layout: Layout, chain: Chain) -> None:
    """Derive what is missing of tiles, certificates and index of a chain that was adopted.

    Seconds where the deriving process went before, minutes where it failed.
    """
    tip, leaves = chain.tip, _UntilCancelled(chain)
    TileWriter(layout.log).catch_up(leaves, size=tip.size, root=tip.root)
    CertificateWriter(layout.log).catch_up(chain, height=tip.height)
    with IndexWriter.current(layout.root, network_id=chain.genesis.network_id) as index:
        index.catch_up(leaves, size=tip.size)


class _UntilCancelled:
    """The leaves of a chain, for a thread that must end when its node stops."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        for index in range(start, end):
            if index % LEAVES_BETWEEN_LOOKS == 0:
                trio.from_thread.check_cancelled()
            yield self._chain.leaf(index)
