"""A node whose keys were rotated starts its core again, all its processes being up."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from pyrsia_node.core.rotation import make_next_keys
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.store.keys import KeyUse
from tests.integration.network.evidence import process_of
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_core_with_links_ends_when_its_keys_were_rotated_and_commits_with_the_new_ones(
    tmp_path: Path,
) -> None:
    with Cluster.create(tmp_path / "net", authorized=1, regular=0) as cluster:
        cluster.start()
        cluster.wait_ready()
        (node,) = cluster.members
        before = process_of(node, "pyrsia_node.core")
        later = make_next_keys(node.layout)
        cluster.call(node.label, "propose", {"op": "rotate_key", "content": {}})
        until(lambda: not node.layout.next_key.exists(), "the new keys are in force")
        assert process_of(node, "pyrsia_node.core") not in {before, None}
        signing = Signing(cluster, Random(1))
        assert signing.keys[node.label].public(KeyUse.TX) == later.public(KeyUse.TX)
        body = {"op": "set_param", "content": {"name": "open_max", "value": 99}}

        def is_taken() -> bool:
            try:
                cluster.call(node.label, "propose", body)
            except PyrsiaError:
                return False
            return True

        def is_set() -> bool:
            found = cluster.call(node.label, "members", {})["params"]
            assert isinstance(found, dict)
            return bool(found["open_max"] == 99)

        until(is_taken, "the new core takes a wish")
        until(is_set, "the wish is carried out")
