"""A member that lost its votes, over real links: silent, told in one sentence, back by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.errors import PyrsiaError
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until

OWN = "authorized-4"
COMMIT_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.create(tmp_path / "net", authorized=4, regular=0) as made:
        made.start()
        made.wait_ready()
        made.wait_connected()
        yield made


class Story:
    """Has transactions ordered, and looks at what the member in question says."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._signing = Signing(cluster, Random(11))
        self._number = 0

    def commit(self, count: int) -> int:
        """Have blocks made, one a transaction; return the last height."""
        for _ in range(count):
            self._number += 1
            request = self._signing.request("authorized-1", f"package{self._number}")
            height = self.height("authorized-1")
            params = {"transaction": request.encoded.decode()}
            self._cluster.call("authorized-1", "submit", params)
            self._until_above(height)
        return self.height("authorized-1")

    def _until_above(self, height: int) -> None:
        until(lambda: self.height("authorized-1") > height, "a commit", COMMIT_S)

    def height(self, label: str) -> int:
        return int(str(self._cluster.status(label)["height"]))

    def silence(self) -> str:
        """Return what the member says of its silence, "" when it votes."""
        try:
            alarms = self._cluster.status(OWN)["alarms"]
        except PyrsiaError:
            return "not up yet"
        assert isinstance(alarms, list)
        return "\n".join(str(each) for each in alarms if "SILENT" in str(each))

    def comes_back(self, why: str) -> None:
        """Check that it is silent and says why, and votes when the log has gone on."""
        until(lambda: why in self.silence() or "has forgotten votes" in self.silence(), why)
        until(lambda: "votes again by itself once height" in self.silence(), "it knows how far")
        before = self.height("authorized-1")
        self.commit(2)
        until(lambda: self.height(OWN) >= before + 2, "it follows while it is silent")
        until(lambda: self.silence() == "", "it votes again")
        self._cluster.stop("authorized-3")
        self.commit(1)  # with another one away its vote is needed
        self._cluster.start("authorized-3")
        self._cluster.wait_ready("authorized-3")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_lost_log_and_restored_image_silence_a_member_until_the_log_has_gone_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    story = Story(cluster)
    layout = cluster.nodes[OWN].layout
    story.commit(2)
    until(lambda: story.height(OWN) == story.height("authorized-1"), "all are at one height")

    cluster.stop(OWN)
    image = tmp_path / "image"
    shutil.copytree(layout.root, image)
    shutil.rmtree(layout.wal)
    layout.wal.mkdir(mode=0o700)
    cluster.start(OWN)
    cluster.wait_ready(OWN)
    story.comes_back("the newest, is gone")
    assert list(layout.wal.glob("*.wal"))

    cluster.stop(OWN)
    shutil.rmtree(layout.root)
    shutil.copytree(image, layout.root)
    cluster.start(OWN)
    cluster.wait_ready(OWN)
    story.comes_back("and our log does not")
