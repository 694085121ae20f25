"""Signed build requests of a network's members: transactions to fill a log with.

Their lock exists nowhere, so nobody ever rebuilds anything for them.
"""

from __future__ import annotations

import time
from random import Random
from typing import Final

from consensus.types import NodeId
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import (
    BuildRequest,
    Pipeline,
    SignedTransaction,
    Source,
    sign_transaction,
)
from pyrsia_node.store.keys import KeyUse, load_keys

_LAPSES_AFTER_MS: Final = 3_600_000


class Signing:
    """Signs as the members of one network."""

    def __init__(self, cluster: Cluster, rng: Random) -> None:
        """Load the members' keys; names and nonces come from ``rng``."""
        self.network_id = bytes.fromhex(cluster.plan.network)
        self._rng = rng
        self._members = {node.label: node for node in cluster.members}
        self.keys = {node.label: load_keys(node.layout.node_key) for node in cluster.members}
        self.ids = {node.label: NodeId(node.peer_id) for node in cluster.members}

    def reload(self, label: str) -> None:
        """Take the keys that ``label`` has now; they may have been rotated."""
        self.keys[label] = load_keys(self._members[label].layout.node_key)

    def request(self, label: str, project: str) -> SignedTransaction:
        """Return a build request that the member ``label`` sponsors."""
        body = BuildRequest(
            sponsor=self.ids[label],
            purl=Purl.pypi(project, "1.0"),
            claim="rebuilt",
            source=Source("sdist", f"{project}-1.0.tar.gz", Sha256("0" * 64), 1),
            pipeline=Pipeline("pypi", 1, Sha256("1" * 64)),
            toolchain=Sha256("2" * 64),
            lock=Sha256("3" * 64),
            recipe={},
            time_class="L",
            until=int(time.time() * 1000) + _LAPSES_AFTER_MS,
            nonce=f"{self._rng.getrandbits(128):032x}",
        )
        return sign_transaction(
            body, network_id=self.network_id, sign=self.keys[label].signer(KeyUse.TX)
        )
