"""Two real nodes: one that holds a prepared chain and its files, and one that knows its address.

The chain's members are in this process, but for the source, which is one of them with the keys of
its own data directory, so that the newcomer asks it for bytes. It alone cannot decide any block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pyrsia_node.audit.replay import ScratchStore
from pyrsia_node.core.founding import initialize, join_network
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import NetworkPlan, PlannedNode
from pyrsia_node.devnet.ports import LOOPBACK, free_ports
from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.members import SignedMember
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.sections import DataSection, HttpSection, NodeSection, P2pSection
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.keys import load_keys
from pyrsia_node.store.leveldb import LevelDbStore
from tests.strategies.identities import Identity, identity

SOURCE, NEWCOMER = "source", "newcomer"

Fill = Callable[[KeyValueStore, tuple[Identity, ...], Path], Genesis]
"""Makes a chain of these members in a store, the last one being the source, publishes its head
below a ``log`` folder, and returns the genesis."""


def prepare(folder: Path, fill: Fill, files: Mapping[str, bytes]) -> Cluster:
    """Return the two nodes, not started. ``files`` lie in the source's store.

    What is derived from the chain is derived here, as a node does before it first answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(6)
    source = _node(folder, SOURCE, ports[:3])
    newcomer = _node(folder, NEWCOMER, ports[3:])
    layout = source.layout
    record = SignedMember.decode(layout.member_record.read_bytes())
    itself = Identity(record, dict(load_keys(layout.node_key).member_signers()))
    with LevelDbStore(layout.chain) as store:
        founders = (*(identity(number) for number in range(3)), itself)
        genesis = fill(ScratchStore(store), founders, layout.log)
        _derive(layout, Chain.open(store, genesis))
    join_network(layout, genesis, [])
    join_network(newcomer.layout, genesis, [source.p2p_address])
    blobs = FileBlobStore(layout.blobs, cached_bytes_max=1 << 40)
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        blobs.adopt(str(path), sha256_of(content))
    plan = NetworkPlan(genesis.name, genesis.network_id.hex(), "", "", (source, newcomer))
    return Cluster(plan)


def _node(folder: Path, label: str, ports: list[int]) -> PlannedNode:
    http_port, data_port, p2p_port = ports
    data_url = f"https://{LOOPBACK}:{data_port}"
    listen = f"/ip4/{LOOPBACK}/tcp/{p2p_port}"
    layout = Layout((folder / label).absolute())
    config = Config(
        node=NodeSection(label, "regular"),
        http=HttpSection(port=http_port),
        data=DataSection(host=LOOPBACK, port=data_port, url=data_url),
        p2p=P2pSection(listen=(listen,)),
    )
    peer_id = initialize(layout, config).record.id
    return PlannedNode(
        label=label,
        role="regular",
        peer_id=str(peer_id),
        data=str(layout.root),
        log_file=str((folder / f"{label}.log").absolute()),
        http_url=f"http://{LOOPBACK}:{http_port}",
        data_url=data_url,
        p2p_address=f"{listen}/p2p/{peer_id}",
    )


def _derive(layout: Layout, chain: Chain) -> None:
    tip = chain.tip
    TileWriter(layout.log).catch_up(chain, size=tip.size, root=tip.root)
    CertificateWriter(layout.log).catch_up(chain, height=tip.height)
    with IndexWriter.current(layout.root, network_id=chain.genesis.network_id) as index:
        index.catch_up(chain, size=tip.size)
