"""A new node's first start over real sockets: from a snapshot if there is one worth it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.first_start import HEIGHT_MIN, Joined, join_if_new
from pyrsia_node.core.founding import initialize
from pyrsia_node.core.peer_methods import PeerMethods
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.purl import Purl
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import NodeSection
from pyrsia_node.store.keys import KeyUse, NodeKeys, create_keys
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request
from tests.strategies.identities import identity

CONFIG = Config(node=NodeSection("newcomer", "regular"))


@pytest.fixture
def keys(tmp_path: Path) -> NodeKeys:
    return create_keys(tmp_path / "node.key")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "newcomer")
    initialize(found, CONFIG)
    return found


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


async def first_start(
    layout: Layout,
    store: LevelDbStore,
    local: LocalChain,
    settings: NetworkConfig,
    *,
    height_min: int = HEIGHT_MIN,
) -> Joined | None:
    return await join_if_new(
        layout,
        CONFIG,
        store,
        local.genesis,
        settings,
        clock=SystemClock(),
        height_min=height_min,
    )


async def test_new_node_joins_from_a_snapshot_over_real_sockets(
    tmp_path: Path, keys: NodeKeys, layout: Layout
) -> None:
    local = grown()
    with LevelDbStore(tmp_path / "db", create=True) as store:
        async with served(local, tmp_path / "log", keys) as settings:
            found = await first_start(layout, store, local, settings, height_min=1)
            assert found is not None
            assert found.height == 7
            assert Chain.open(store, local.genesis).tip == local.chain.tip
            # There is a chain now: the next start asks nobody.
            again = await first_start(layout, store, local, settings, height_min=1)
            assert again is None
            # What is derived from it is here as well, so that the node serves at once.
            size = local.chain.tip.size
            assert TileFiles(layout.log).entry(size - 1, size=size) == local.chain.leaf(size - 1)
            assert IndexReader(layout.root).applied_size() == size


async def test_short_history_and_missing_peers_leave_the_store_for_execution(
    tmp_path: Path, keys: NodeKeys, layout: Layout
) -> None:
    local = grown()
    with LevelDbStore(tmp_path / "db", create=True) as store:
        async with served(local, tmp_path / "log", keys) as settings:
            assert (
                await join_if_new(
                    layout, CONFIG, store, local.genesis, settings, clock=SystemClock()
                )
                is None
            )
        alone = NetworkConfig(local.network_id.hex(), gossip=False)
        assert await first_start(layout, store, local, alone) is None
        assert list(store.scan(b"")) == []
        assert Chain.open(store, local.genesis).tip.height == 0
