"""Who votes on which height, after many changes of the set, and what asking for it costs."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.machine.evidence import evidence_of
from pyrsia_node.ledger.storage import ChainReader
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.members import SetLeaf
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies.crimes import crime
from tests.strategies.identities import identity

CHANGES = 6


@pytest.fixture
def local() -> LocalChain:
    """A chain whose set changed six times; every change has a quiet block behind it."""
    local = LocalChain(3)
    for number in range(CHANGES):
        local.commit(*local.add(identity(300 + number)))
        local.commit(make.request(local.members[number % 3].id, lock=f"{number}"))
    return local


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs in the order in which sets were decoded."""
    epochs: list[int] = []

    class Counted(SetLeaf):
        @classmethod
        def decode(cls, data: bytes) -> SetLeaf:
            found = SetLeaf.decode(data)
            epochs.append(found.epoch)
            return found

    monkeypatch.setattr(storage, "SetLeaf", Counted)
    return epochs


def test_every_height_has_the_set_of_the_last_change_before_it(local: LocalChain) -> None:
    reader = ChainReader(local.store)
    for height in range(1, local.chain.tip.height + 2):
        # Heights 1, 3, 5 and so on changed the set, by the set before.
        expected = local.chain.set_leaf_of(height // 2)
        assert reader.epoch_at(height) == height // 2
        assert reader.voters_at(height) == expected
        assert reader.set_hash_at(height) == expected.digest()
        assert local.chain.members_at(height) == expected
    for beyond in (0, -1, local.chain.tip.height + 2):
        assert reader.voters_at(beyond) is None
        assert reader.set_hash_at(beyond) is None


def test_made_up_evidence_of_old_heights_decodes_no_set(
    local: LocalChain, decoded: list[int]
) -> None:
    chain = local.reopen()
    decoded.clear()
    for height in range(1, chain.tip.height):
        guess = dataclasses.replace(
            local.genesis.set_leaf(), epoch=1, prev=Sha256(f"{height:064x}")
        )
        proof = crime(
            local.members[1],
            "two_notarizations",
            network_id=local.network_id,
            voters=guess,
            height=height,
        )
        body = evidence_of(proof, by=local.members[0].id)
        with pytest.raises(InvalidInputError, match=f"the set of height {height} is not"):
            chain.check_transaction(local.sign(body).encoded, local.now_ms)
    # That of the tip says how many there are.
    assert decoded == [CHANGES]


def test_a_set_is_decoded_once_however_often_it_is_asked_for(
    local: LocalChain, decoded: list[int]
) -> None:
    reader = ChainReader(local.store)
    for _ in range(3):
        for height in range(1, local.chain.tip.height + 1):
            reader.voters_at(height)
    assert sorted(decoded) == list(range(CHANGES + 1))


def test_sets_at_hand_are_bounded_by_their_members(
    local: LocalChain, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SETS_MEMBERS_MAX", 3 + CHANGES)  # the newest alone
    reader = ChainReader(local.store)
    for _ in range(2):
        for height in (1, local.chain.tip.height + 1):
            found = reader.voters_at(height)
            assert found is not None
            assert len(found.members) == (3 if height == 1 else 3 + CHANGES)
    assert decoded.count(0) == 2
