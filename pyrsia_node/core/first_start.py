"""A new node's first start: it joins from a snapshot of its network, if somebody offers one.

Only where there is no chain yet, for nodes that are not of the genesis (those start the network),
and for a network that is long enough for it to pay. Whatever goes wrong, the node then executes the
history from the genesis on, as it would have without.
Design: docs/design/catchup.md, "Snapshots".
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.adopting import clear_unfinished
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, KeyValueStore
from pyrsia_node.replica.joining import Joiner
from pyrsia_node.store.keys import KeyUse, NodeKeys
from pyrsia_node.tlog.trust import Trust, TrustFile

_LOG = logging.getLogger("pyrsia.core.first_start")

HEIGHT_MIN: Final = 1_000
"""A shorter history is executed in seconds."""

PEERS_WAIT_S: Final = 5.0
"""How long to wait for the first peers."""

MORE_PEERS_S: Final = 1.0
"""How long to wait for others after the first: several serve faster than one."""


async def join_if_new(
    store: KeyValueStore,
    genesis: Genesis,
    settings: NetworkConfig,
    keys: NodeKeys,
    clock: Clock,
    *,
    height_min: int = HEIGHT_MIN,
) -> int | None:
    """Fill an empty store from the network's newest snapshot; return the height, if that went well.

    Uses the node's own network addresses, so call it before its network is opened.

    Raises:
        CorruptStateError: The store cannot be written.
    """
    clear_unfinished(store)
    me = peer_id_of(keys.public(KeyUse.P2P))
    is_founder = any(member.record.id == me for member in genesis.members)
    if store.get(storage.leaf_key(0)) is not None or is_founder or not settings.bootstrap:
        return None
    async with Network.open(settings, keys.p2p_seed(), clock=clock) as network:
        with trio.move_on_after(PEERS_WAIT_S):
            while not network.connected():  # noqa: ASYNC110 - the port tells of no event
                await trio.sleep(0.1)
            await trio.sleep(MORE_PEERS_S)
        height = await Joiner(
            requests=network,
            store=store,
            genesis=genesis,
            trust=Trust.establish(TrustFile(genesis.encode())),
            height_min=height_min,
        ).run()
    if height is not None:
        _LOG.info("joined at height %d from a snapshot", height)
    return height
