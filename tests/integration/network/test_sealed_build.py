"""A sealed network builds a real package: promises first, answers after, also across a kill -9."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consensus.types import NodeId
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.sealing import commitment
from pyrsia_node.model.transactions import parse_item
from tests.integration.network.evidence import leaves_on_disk, process_of, processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

BUILD_S = 240.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.create(tmp_path / "net", authorized=4, regular=0) as made:
        made.start()
        made.wait_ready(timeout_s=120)
        made.wait_connected()
        yield made
    assert processes_of(tmp_path) == {}


def leaves(cluster: Cluster, kind: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (index, leaf) of every published leaf of a kind."""
    found = [json.loads(leaf) for leaf in leaves_on_disk(cluster.members[0])]
    return [(index, leaf) for index, leaf in enumerate(found) if leaf["t"] == kind]


def core_of(cluster: Cluster, label: str) -> int:
    pid = process_of(cluster.nodes[label], "pyrsia_node.core")
    assert pid is not None
    return pid


def seal(cluster: Cluster) -> None:
    content = {"name": "sealed", "value": 1}
    for node in cluster.members[:3]:
        cluster.call(node.label, "propose", {"op": "set_param", "content": content})
    until(lambda: bool(leaves(cluster, "set_param")), "the network is sealed", 60)


def test_sealed_network_accepts_what_was_promised_before_anybody_showed_it(
    cluster: Cluster,
) -> None:
    seal(cluster)
    # While one member stands still the others wait for it: time enough to kill another one.
    slow = core_of(cluster, "authorized-4")
    os.kill(slow, signal.SIGSTOP)
    try:
        wish = {"ecosystem": "pypi", "name": "six", "version": "1.17.0"}
        cluster.call("authorized-1", "build", wish)
        until(lambda: len(leaves(cluster, "attest_commit")) == 3, "three promises", BUILD_S)
        assert leaves(cluster, "attest_batch") == []
        os.kill(core_of(cluster, "authorized-2"), signal.SIGKILL)
    finally:
        os.kill(slow, signal.SIGCONT)
    until(lambda: bool(leaves(cluster, "accepted")), "accepted", BUILD_S)
    killed = cluster.nodes["authorized-2"].peer_id
    until(lambda: killed in shown(cluster), "the killed member shows its answer", BUILD_S)

    ((border, unsealed),) = leaves(cluster, "unsealed")
    promises = {leaf["voter"]: (index, leaf) for index, leaf in leaves(cluster, "attest_commit")}
    assert sorted(promises) == unsealed["committed"]
    network = bytes.fromhex(cluster.plan.network)
    for voter, (index, item) in shown(cluster).items():
        at, promise = promises[voter]
        assert at < border < index
        opened = commitment(parse_item(item), voter=NodeId(voter), network_id=network)
        assert opened == promise["commit"]


def shown(cluster: Cluster) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the first item of each member, with its leaf's index."""
    return {
        leaf["voter"]: (index, leaf["items"][0]) for index, leaf in leaves(cluster, "attest_batch")
    }
