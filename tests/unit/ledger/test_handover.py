"""The proofs that a chain holds of its set changes convince who holds an older set."""

from __future__ import annotations

from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request
from tests.strategies.identities import identity


def grown(changes: int) -> LocalChain:
    local = LocalChain()
    for number in range(changes):
        local.commit(request(local.members[0].id, lock=str(number)))
        local.commit(*local.add(identity(100 + number)))
    return local


def test_set_changes_of_a_chain_are_proved_from_the_genesis_on() -> None:
    local = grown(3)
    trust = Trust.establish(TrustFile(local.genesis.encode(), tuple(set_changes(local.chain))))
    assert trust.current == local.chain.tip.set_leaf
    assert [epoch.height for epoch in trust.epochs] == [0, 2, 4, 6]


def test_later_changes_extend_an_older_trust_and_none_are_repeated() -> None:
    local = grown(3)
    changes = set_changes(local.chain)
    older = Trust.establish(TrustFile(local.genesis.encode(), tuple(changes[:1])))
    later = set_changes(local.chain, first_epoch=2)
    assert later == changes[1:]
    assert older.extended(*later).current == local.chain.tip.set_leaf
    assert set_changes(local.chain, first_epoch=4) == []


def test_an_answer_is_cut_at_its_limit_but_never_empty() -> None:
    local = grown(3)
    changes = set_changes(local.chain)
    assert set_changes(local.chain, bytes_max=1) == changes[:1]
    assert set_changes(local.chain, bytes_max=10**6) == changes
