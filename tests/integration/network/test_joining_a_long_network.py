"""A real node joins a network with a long history and several changes of its set, and serves."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import httpx
import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.ports import KeyValueStore
from tests.fakes.executed_log import ExecutedLog
from tests.fakes.prepared_network import NEWCOMER, SOURCE, prepare
from tests.strategies.identities import Identity

BLOCKS = 1_050
CHANGES = 5
CONTENT = b"the bytes of a wheel" * 1000
FILE = "planted-1.0-py3-none-any.whl"
GONE = "gone-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE_S = 150

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Return a source with executed blocks, five sets of members, and a newcomer."""

    def fill(store: KeyValueStore, members: tuple[Identity, ...], log: Path) -> Genesis:
        executed = ExecutedLog(store, members=members, keeps_keys=[members[-1].id])
        executed.plant("planted", CONTENT, file=FILE)
        executed.plant("gone", b"gone", file=GONE)
        executed.withdraw_package("gone")
        executed.grow(BLOCKS, changes=CHANGES - 1)
        executed.rotate()
        executed.publish(log, time_s=int(time.time()))
        assert executed.local.chain.tip.set_leaf.epoch == CHANGES
        return executed.local.genesis

    return prepare(tmp_path / "net", fill, {FILE: CONTENT})


def served(cluster: Cluster, path: str) -> httpx.Response:
    """Return the newcomer's answer as soon as it is no "not yet"."""
    deadline = time.monotonic() + PATIENCE_S
    url = cluster.nodes[NEWCOMER].http_url + path
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, timeout=30)
        except httpx.TransportError:
            answer = httpx.Response(503)
        if answer.status_code != 503:
            return answer
        time.sleep(0.1)
    raise AssertionError(cluster.last_lines(NEWCOMER))


def standing_of_newcomer(cluster: Cluster) -> object:
    """Return its height, and the size of the head that it can serve by alone."""
    try:
        status = cluster.status(NEWCOMER)
    except UnavailableError:
        return None  # for a moment, once the history is here, nobody listens
    return status["height"], status["published_size"]


def test_new_node_joins_a_long_network_from_a_snapshot_and_serves_its_files(
    cluster: Cluster,
) -> None:
    with cluster:
        cluster.start(SOURCE)
        cluster.wait_ready(SOURCE, timeout_s=PATIENCE_S)
        cluster.start(NEWCOMER)
        page = served(cluster, "/pypi/simple/planted/")
        assert page.status_code == 200
        assert SHA256 in page.text
        file = served(cluster, f"/pypi/files/{SHA256}/{FILE}")
        assert file.content == CONTENT
        assert file.headers["x-pyrsia-verified"] == "log"
        gone = hashlib.sha256(b"gone").hexdigest()
        refused = served(cluster, f"/pypi/files/{gone}/{GONE}")
        assert refused.status_code in {403, 410, 451}
        assert "withdrawn by the network" in refused.text

        source = cluster.status(SOURCE)
        deadline = time.monotonic() + PATIENCE_S
        while standing_of_newcomer(cluster) != (source["height"], source["published_size"]):
            assert time.monotonic() < deadline, cluster.last_lines(NEWCOMER)
            assert served(cluster, "/pypi/simple/planted/").status_code == 200
        log = Path(cluster.nodes[NEWCOMER].log_file).read_text()
        assert f"joined at height {source['height']} from a snapshot" in log

        # From here on it stands alone: its own log, and the sets that it has followed.
        cluster.stop(SOURCE, NEWCOMER)
        cluster.start(NEWCOMER)
        assert SHA256 in served(cluster, "/pypi/simple/planted/").text
        assert served(cluster, f"/pypi/files/{SHA256}/{FILE}").content == CONTENT
