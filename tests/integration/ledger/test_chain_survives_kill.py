"""The chain on real LevelDB: killed at any moment it comes back as it was after some block."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog import tree
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

ROOT = Path(__file__).parents[3]

# Commits requests for ever and says each height after it is durable.
CHILD = """
import sys
from pathlib import Path
from pyrsia_node.model.purl import Purl
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.integration.ledger.test_chain_survives_kill import PARAMS
local = LocalChain(store=LevelDbStore(Path(sys.argv[1]), create=True), params=PARAMS)
while True:
    height = local.chain.tip.height
    local.commit(make.request(local.members[0].id, purl=Purl.pypi("six", f"{height}")))
    print(local.chain.tip.height, local.chain.tip.root.hex(), flush=True)
"""
PARAMS = Params(
    min_authorized=1,
    open_max=100_000,
    rate_per_hour=1,
    burst=100_000,
    k={"pypi": 0},
    class_ms={"L": 3_600_000, "M": 3_600_000, "S": 3_600_000},
)


def check_whole(chain: Chain) -> None:
    """Check that every leaf, root, block and index of the chain fits."""
    frontier = tree.EMPTY_FRONTIER
    for height in range(chain.tip.height + 1):
        record = chain.block(height)
        leaves = list(chain.leaves(record.first_leaf, record.size))
        frontier = frontier.extend(tree.leaf_hash(leaf) for leaf in leaves)
        assert frontier.root().hex() == record.root
        assert chain.root_at(record.size).hex() == record.root
        assert chain.block_of_leaf(record.first_leaf)[0] == height
        if height:
            decision = chain.decision(height)
            assert decision is not None
            assert tree.leaf_hash(leaves[0]).hex() == record.hash
    assert frontier == chain.tip.frontier


def replayed(chain: Chain, params: Params = DEFAULT_PARAMS) -> Chain:
    """Return a fresh chain that executed the same decisions."""
    fresh = LocalChain(params=params)
    for height in range(1, chain.tip.height + 1):
        decision = chain.decision(height)
        assert decision is not None
        fresh.chain.commit(*decision)
    return fresh.chain


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "core.leveldb"
    height = 0
    for life in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            said = [child.stdout.readline() for _ in range(5 + 3 * life)]
            child.kill()  # somewhere inside the next commit
            said += child.stdout.readlines()
        acknowledged = [line.split() for line in said if line.endswith("\n")]
        with LevelDbStore(path) as store:
            local = LocalChain(store=store, params=PARAMS)
            tip = local.chain.tip
            last, root = int(acknowledged[-1][0]), acknowledged[-1][1]
            assert tip.height in {last, last + 1}
            assert local.chain.root_at(local.chain.block(last).size).hex() == root
            assert last > height
            check_whole(local.chain)
            assert replayed(local.chain, PARAMS).tip == tip
            height = tip.height


def test_story_on_leveldb_equals_the_story_in_memory(tmp_path: Path) -> None:
    with LevelDbStore(tmp_path / "db", create=True) as store:
        local = LocalChain(store=store)
        for nonce in range(3):
            body = make.request(local.members[0].id, nonce=nonce, lock=f"{nonce}")
            req = local.sign(body).id
            local.commit(body)
            document = make.document(f".{nonce}")
            seq = nonce + 1
            local.reopen()
            local.commit(
                *(make.batch(m.id, seq, make.built(req, document)) for m in local.members[:3]),
                make.result(local.members[1].id, req, document),
            )
            view = local.chain.request(req)
            assert view is not None
            assert view.outcome_leaf is not None
            assert isinstance(decode_outcome(local.chain.leaf(view.outcome_leaf)), Accepted)
        check_whole(local.chain)
        assert replayed(local.chain).tip == local.chain.tip


class RefusingStore(LevelDbStore):
    """A disk that refuses to write from some moment on."""

    refuses = False

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        if self.refuses:
            raise CorruptStateError("the disk refused")
        super().write(changes, sync=sync)


def test_refused_write_leaves_the_tip_where_it_was(tmp_path: Path) -> None:
    with RefusingStore(tmp_path / "db", create=True) as store:
        local = LocalChain(store=store)
        local.commit(make.request(local.members[0].id))
        tip = local.chain.tip
        block = local.build(local.sign(make.request(local.members[1].id, lock="b")).encoded)
        assert block is not None
        certificate = local.certify(block)
        store.refuses = True
        with pytest.raises(CorruptStateError, match="refused"):
            local.chain.commit(block, certificate)
        assert local.chain.tip == tip
        store.refuses = False
        assert local.reopen().tip == tip
        assert local.chain.commit(block, certificate).tip.height == 2
