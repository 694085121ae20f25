"""fsck of a chain whose set changed: what is right is silent, each broken link is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.fsck import check, repair
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies.identities import Identity, identity
from tests.strategies.small_logs import cosigned


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalChain]:
    with LevelDbStore(tmp_path / "core.leveldb", create=True) as store:
        local = LocalChain(4, store=store)
        local.commit(make.request(local.members[0].id))
        local.commit(*local.add(identity(100)))
        local.commit(*local.rotate(local.members[0].id, identity(101)))
        local.commit(make.request(local.members[0].id, lock="2"))
        local.commit(*local.remove(local.members[1].id))
        local.commit(make.request(local.members[0].id, lock="3"))
        derive(tmp_path, local, signers=local.members[:3])
        yield local


def derive(root: Path, local: LocalChain, *, signers: tuple[Identity, ...]) -> None:
    tip = local.chain.tip
    TileWriter(root / "log").catch_up(local.chain, size=tip.size, root=bytes(tip.root))
    with IndexWriter.current(root, network_id=local.network_id) as index:
        index.catch_up(local.chain, size=tip.size)
    head = Checkpoint(local.genesis.origin, tip.size, bytes(tip.root))
    lines = tuple(cosigned(head, one) for one in signers)
    (root / "log/checkpoint").write_bytes(SignedCheckpoint(head, lines).encode())


def findings(root: Path, local: LocalChain) -> list[str]:
    trust = Trust.establish(TrustFile(local.genesis.encode()))
    return [each.what for each in check(root, local.chain, trust).findings]


def test_a_chain_that_changed_its_set_is_sound_under_the_genesis_alone(
    tmp_path: Path, local: LocalChain
) -> None:
    assert local.chain.tip.epoch == 3
    assert findings(tmp_path, local) == []


def test_a_head_signed_with_retired_keys_is_found_and_removed_by_repair(
    tmp_path: Path, local: LocalChain
) -> None:
    derive(tmp_path, local, signers=LocalChain(4).members[:3])
    [what] = findings(tmp_path, local)
    assert "has 1 cosignatures of epoch 3, needs 3 of 4" in what
    repair(tmp_path, local.chain, Trust.establish(TrustFile(local.genesis.encode())))
    assert findings(tmp_path, local) == []


def test_a_lost_epoch_row_is_found(tmp_path: Path, local: LocalChain) -> None:
    local.store.write([(storage.epoch_key(2), None)], sync=True)
    assert findings(tmp_path, local) == ["block 3: epoch 2 is not committed; the newest is 3"]


def test_an_epoch_row_that_names_another_height_is_found(tmp_path: Path, local: LocalChain) -> None:
    local.store.write([(storage.epoch_key(2), storage.encode_number(2))], sync=True)
    [what] = findings(tmp_path, local)
    first = local.chain.set_leaf_of(1).digest()
    assert what == f"block 3: the stored set of epoch 2 is another: {first}"


def test_a_set_leaf_of_another_epoch_is_found(tmp_path: Path, local: LocalChain) -> None:
    index = local.chain.block(3).set_leaf
    local.store.write([(storage.leaf_key(index), local.chain.leaf(1))], sync=True)
    first = findings(tmp_path, local)[0]
    assert first.startswith("block 3: body_root is")
    assert any("the set leaf is of epoch 0 after" in what for what in findings(tmp_path, local))
