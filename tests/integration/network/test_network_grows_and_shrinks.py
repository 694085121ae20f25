"""One node founds a network; others come, and the first ones go, while it works and is killed."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.schema.config import Config
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.integration.network.evidence import assert_prefixes, leaves_on_disk, processes_of
from tests.integration.network.growing import STEP_S, Acknowledged, Growing, Load, sizes
from tests.integration.network.waiting import until


def without_builds(config: Config) -> Config:
    """Order requests and leave them: their locks exist nowhere, and the machine is small."""
    return replace(config, build=replace(config.build, enabled=False))


def live(folder: Path, *, most: int, fewest: int, kill_every: int) -> None:
    """Grow from one member to ``most`` and shrink to ``fewest``; the founder goes first."""
    seed = int(os.environ.get("PYRSIA_SEED", secrets.randbits(32)))
    sys.stdout.write(f"PYRSIA_SEED={seed}\n")
    made = Cluster.create(
        folder / "net", authorized=most, regular=0, founders=1, configure=without_builds
    )
    with made as cluster:
        growing = Growing(cluster, Random(seed))
        labels = list(cluster.nodes)
        growing.start(labels[0])
        load = Load(growing, seed)
        load.start()
        try:
            for number, label in enumerate(labels[1:], start=1):
                growing.start(label)
                growing.change("add_node", label, kill=number % kill_every == 0)
            for number, label in enumerate(labels[: most - fewest], start=1):
                growing.change("remove_node", label, kill=number % kill_every == 0)
        finally:
            known = load.stop()
            sys.stdout.write(f"{len(known.places)} transactions; {', '.join(growing.steps)}\n")
        check(growing, known, epochs=[*range(1, most + 1), *range(most - 1, fewest - 1, -1)])
    assert processes_of(folder) == {}


def check(growing: Growing, known: Acknowledged, *, epochs: list[int]) -> None:
    """Check that all nodes, those that were removed as well, hold the same log and trust."""
    cluster, labels = growing.cluster, growing.running
    assert known.places
    last = max(leaf for leaf, _ in known.places.values())

    def is_level() -> bool:
        try:
            found = sizes(cluster, labels)
        except PyrsiaError:
            return False
        return len(found) == 1 and min(found) > last

    until(is_level, "all nodes have published the same size", STEP_S)
    for label in labels:
        if label not in growing.seated:
            wish = {"op": "remove_node", "content": {"node": growing.signing.ids[label]}}
            with pytest.raises(UnavailableError, match="only authorized nodes"):
                cluster.call(label, "propose", wish)
    cluster.stop()
    logs = {node.label: leaves_on_disk(node) for node in cluster.members}
    assert_prefixes(logs)
    for leaves in logs.values():
        for transaction, (leaf, _) in known.places.items():
            found = decode_transaction(leaves[leaf], network_id=growing.signing.network_id)
            assert found.id == transaction
    for each in cluster.members:
        trust = Trust.establish(TrustFile.parse(each.layout.trust.read_bytes()))
        assert [len(epoch.members.members) for epoch in trust.epochs] == epochs


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_network_of_one_grows_to_four_and_shrinks_to_three_under_kills(tmp_path: Path) -> None:
    live(tmp_path, most=4, fewest=3, kill_every=2)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_network_of_one_grows_to_seven_and_shrinks_back_under_kills(tmp_path: Path) -> None:
    live(tmp_path, most=7, fewest=1, kill_every=1)
