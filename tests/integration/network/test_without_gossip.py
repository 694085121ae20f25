"""Hints make a network fast; it converges without them, by pulling alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.schema.config import Config
from tests.integration.network.evidence import leaves_on_disk
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until


def _without_gossip(config: Config) -> Config:
    return replace(config, p2p=replace(config.p2p, gossip=False))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_network_without_gossip_converges_to_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    with Cluster.create(folder, authorized=3, regular=1, configure=_without_gossip) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.wait_connected()
        signing = Signing(cluster, Random(7))
        for number, node in enumerate([*cluster.members, *cluster.members]):
            transaction = signing.request(node.label, f"quiet{number}")
            cluster.call(node.label, "submit", {"transaction": transaction.encoded.decode()})
            known_to = ["regular-1", node.label]
            until(partial(_is_known, cluster, known_to, transaction.id), "commit", 60)
        size = int(str(cluster.status("authorized-1")["size"]))
        until(lambda: _published(cluster) == {size}, f"everybody has published {size} leaves", 60)
        cluster.stop()
        logs = [leaves_on_disk(node) for node in cluster.plan.nodes]
        assert len(logs[0]) == size
        assert all(log == logs[0] for log in logs)


def _is_known(cluster: Cluster, labels: list[str], transaction: str) -> bool:
    return all(
        cluster.call(label, "transaction", {"id": transaction})["committed"] for label in labels
    )


def _published(cluster: Cluster) -> set[int]:
    return {int(str(cluster.status(label)["published_size"])) for label in cluster.nodes}
