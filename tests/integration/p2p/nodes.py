"""Networks in one process, on loopback, for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import trio

from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.identity import peer_id_of, public_key_of_seed
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from tests.integration.p2p.victim import GENESIS, WallClock

CONFIG = NetworkConfig(GENESIS, gossip=False)


def seed(number: int) -> bytes:
    return bytes([number]) * 32


def peer(number: int) -> PeerId:
    return peer_id_of(public_key_of_seed(seed(number)))


@asynccontextmanager
async def node(
    number: int, *bootstrap: Network, config: NetworkConfig = CONFIG
) -> AsyncIterator[Network]:
    """Run a node that knows the addresses of others."""
    addresses = tuple(address for other in bootstrap for address in other.addresses)
    config = replace(config, bootstrap=config.bootstrap + addresses, label=f"node-{number}")
    async with Network.open(config, seed(number), clock=WallClock()) as network:
        yield network


@asynccontextmanager
async def nodes(count: int, config: NetworkConfig = CONFIG) -> AsyncIterator[list[Network]]:
    """Run nodes that are all connected to the first."""
    async with AsyncExitStack() as stack:
        networks: list[Network] = []
        for number in range(1, count + 1):
            first = networks[:1]
            networks.append(await stack.enter_async_context(node(number, *first, config=config)))
        with trio.fail_after(10):
            for other in networks[1:]:
                await other.until_connected(networks[0].peer_id)
                await networks[0].until_connected(other.peer_id)
        yield networks
