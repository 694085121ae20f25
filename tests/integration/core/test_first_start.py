"""A new node's first start over real sockets: from a snapshot if there is one worth it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.first_start import join_if_new
from pyrsia_node.core.peer_methods import PeerMethods
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.model.purl import Purl
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.store.keys import KeyUse, NodeKeys, create_keys
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request
from tests.strategies.identities import identity


@pytest.fixture
def keys(tmp_path: Path) -> NodeKeys:
    return create_keys(tmp_path / "node.key")


def grown() -> LocalChain:
    local = LocalChain()
    for number in range(6):
        local.now_ms += 1_000
        local.commit(request(local.members[0].id, purl=Purl.pypi("six", f"1.{number}")))
    local.commit(*local.add(identity(100)))
    return local


@asynccontextmanager
async def served(local: LocalChain, folder: Path, keys: NodeKeys) -> AsyncIterator[NetworkConfig]:
    """Serve the chain; yield the settings of a node that knows where."""
    config = NetworkConfig(local.network_id.hex(), gossip=False)
    folder.mkdir()
    publisher = Publisher(
        folder,
        trust=Trust.establish(TrustFile(local.genesis.encode())),
        chain=local.chain,
        log_key=keys.public(KeyUse.LOG),
        log_signer=keys.signer(KeyUse.LOG),
        evidence=folder / "evidence",
    )
    keeper = SnapshotKeeper(local.store, local.chain)
    async with Network.open(config, bytes([7]) * 32, clock=SystemClock()) as network:
        PeerMethods(
            chain=local.chain,
            publisher=publisher,
            pending=None,
            find_body=lambda _hash: None,
            snapshots=keeper,
        ).serve_on(network)
        bootstrap = network.addresses[:1]
        yield NetworkConfig(local.network_id.hex(), bootstrap=bootstrap, gossip=False)
    keeper.close()


async def test_new_node_joins_from_a_snapshot_over_real_sockets(
    tmp_path: Path, keys: NodeKeys
) -> None:
    local = grown()
    with LevelDbStore(tmp_path / "db", create=True) as store:
        async with served(local, tmp_path / "log", keys) as settings:
            found = await join_if_new(
                store, local.genesis, settings, keys, SystemClock(), height_min=1
            )
            assert found == 7
            assert Chain.open(store, local.genesis).tip == local.chain.tip
            # There is a chain now: the next start asks nobody.
            again = await join_if_new(
                store, local.genesis, settings, keys, SystemClock(), height_min=1
            )
            assert again is None


async def test_short_history_and_missing_peers_leave_the_store_for_execution(
    tmp_path: Path, keys: NodeKeys
) -> None:
    local = grown()
    with LevelDbStore(tmp_path / "db", create=True) as store:
        async with served(local, tmp_path / "log", keys) as settings:
            assert await join_if_new(store, local.genesis, settings, keys, SystemClock()) is None
        alone = NetworkConfig(local.network_id.hex(), gossip=False)
        assert await join_if_new(store, local.genesis, alone, keys, SystemClock()) is None
        assert list(store.scan(b"")) == []
        assert Chain.open(store, local.genesis).tip.height == 0
