"""Node records outlive a restart, and one that does not hold does not."""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.known_peers import KnownPeers
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.p2p.records import NodeFacts, make_record
from pyrsia_node.store.leveldb import LevelDbStore

NETWORK = "ab" * 32
FACTS = NodeFacts("north", "regular", ("/ip4/127.0.0.1/tcp/4001",), "", "")


async def test_records_are_known_after_a_restart_and_false_ones_are_forgotten(
    tmp_path: Path,
) -> None:
    record = make_record(bytes([7]) * 32, network=NETWORK, seq=1, facts=FACTS)
    config = NetworkConfig(genesis=NETWORK, gossip=False)
    with LevelDbStore(tmp_path / "store", create=True) as store:
        store.write([(b"peers/nonsense", b"not a record")], sync=False)
        async with Network.open(config, bytes(32), clock=SystemClock()) as network:
            network.learn_record(record.raw)
            KnownPeers(store, network).save()
        async with Network.open(config, bytes(32), clock=SystemClock()) as network:
            assert KnownPeers(store, network).load() == 1
            assert [each.peer for each in network.records()] == [record.peer]
        assert store.get(b"peers/nonsense") is None
