"""The chain while its set changes: leaves, headers, certificates, requests, restarts."""

from __future__ import annotations

import dataclasses

import pytest

from consensus import wire
from consensus.types import Digest, VoteKind
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.leaves import Accepted, Failed, Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog import tree
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import member_bodies as change
from tests.strategies.identities import identity

NEW = identity(100)


@pytest.fixture
def local() -> LocalChain:
    return LocalChain()


def header_of(local: LocalChain, height: int) -> Header:
    return Header.decode(local.chain.leaf(local.chain.block(height).first_leaf))


def test_set_leaf_is_the_last_leaf_of_the_block_that_changes_the_set(local: LocalChain) -> None:
    before = local.chain.tip.set_leaf
    committed = local.commit(*local.add(NEW))
    after = SetLeaf.decode(committed.leaves[-1])
    assert committed.next_set == after == local.chain.tip.set_leaf
    assert (after.epoch, after.prev) == (1, before.digest())
    assert {record.id for record in after.members} == {
        *(record.id for record in before.members),
        NEW.id,
    }
    header = header_of(local, 1)
    assert (header.set, header.next_set) == (before.digest(), after.digest())
    assert header.n_leaves == len(committed.leaves) - 1
    body = [tree.leaf_hash(leaf) for leaf in committed.leaves[1:]]
    assert header.body_root == tree.root(body).hex()
    assert local.chain.leaf(local.chain.block(1).set_leaf) == after.encode()


def test_headers_point_back_to_the_height_that_changed_the_set_last(local: LocalChain) -> None:
    local.commit(make.request(local.members[0].id))
    local.commit(*local.add(NEW))
    local.commit(make.request(local.members[0].id, lock="2"))
    local.commit(*local.remove(NEW.id))
    local.commit(make.request(local.members[0].id, lock="3"))
    found = [header_of(local, height).prev_epoch_height for height in range(1, 6)]
    assert found == [0, 0, 2, 2, 4]
    chain = local.chain
    assert [chain.set_leaf_of(epoch).epoch for epoch in (0, 1, 2)] == [0, 1, 2]
    assert [chain.members_at(height).epoch for height in range(1, 7)] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(NotFoundError, match="epoch 3 is not committed; the newest is 2"):
        chain.set_leaf_of(3)
    for height in (0, 7):
        with pytest.raises(NotFoundError, match=f"who votes on height {height}"):
            chain.members_at(height)


def test_next_height_is_decided_by_the_new_set_alone(local: LocalChain) -> None:
    before = local.chain.tip.members
    local.commit(*local.add(NEW))
    block = local.build(local.sign(make.request(NEW.id)).encoded)
    assert block is not None
    assert local.chain.check_body(block, 2, local.now_ms).valid
    votes = wire.decode_certificate(local.certify(block, signers=range(4)), n=5)
    # Four of the old set of four, with its hash in their votes: what they could make before.
    signed = wire.vote_bytes(
        VoteKind.FINALIZE,
        votes.height,
        votes.view,
        votes.block_hash,
        chain_id=Digest(local.network_id),
        set_hash=before.set_hash,
    )
    stale = dataclasses.replace(
        votes,
        signatures=tuple(local.members[index].sign["vote"](signed) for index in votes.signers),
    )
    with pytest.raises(VerificationError, match="a signature does not hold"):
        local.chain.commit(block, wire.encode_certificate(stale, n=5))
    local.chain.commit(block, local.certify(block, signers=range(4)))
    assert local.chain.tip.height == 2


def test_newcomer_speaks_from_the_next_height_on_and_a_removed_member_no_more(
    local: LocalChain,
) -> None:
    wish = local.sign(make.request(local.members[0].id))
    newcomers_wish = make.request(NEW.id, lock="n")
    local.know(NEW)
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        local.chain.check_transaction(local.sign_as(NEW, newcomers_wish).encoded, local.now_ms)
    local.commit(*local.add(NEW))
    local.commit(newcomers_wish)
    gone = local.members[0]
    local.commit(*local.remove(gone.id))
    with pytest.raises(InvalidInputError, match=f"{gone.id} is no authorized node"):
        local.chain.check_transaction(wish.encoded, local.now_ms)


def test_request_keeps_the_members_it_opened_with(local: LocalChain) -> None:
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    local.commit(body, *local.add(NEW))
    view = local.chain.request(req)
    assert view is not None
    assert (list(view.members), view.k) == (members, 3)
    batch = local.sign_as(NEW, make.batch(NEW.id, 1, make.built(req)))
    with pytest.raises(InvalidInputError, match="was not authorized when"):
        local.chain.check_transaction(batch.encoded, local.now_ms)
    words = [make.batch(each, 1, make.built(req)) for each in members[:3]]
    committed = local.commit(*words, make.result(members[0], req))
    assert [type(each) for each in committed.outcomes] == [Accepted]


def test_removal_re_evaluates_the_requests_that_lose_a_member(local: LocalChain) -> None:
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    local.commit(body)
    local.commit(make.batch(members[0], 1, make.failed(req)))
    committed = local.commit(*local.remove(members[3]))
    # Two may still build and three are needed: no use to wait for the deadline.
    assert [type(each) for each in committed.outcomes] == [Failed]
    assert SetLeaf.decode(committed.leaves[-1]) == committed.next_set
    assert local.chain.due_ms() is None


def test_restart_and_second_commit_of_a_change_give_the_same(local: LocalChain) -> None:
    committed = local.commit(*local.add(NEW))
    block, certificate = local.chain.decision(1) or (b"", b"")
    assert local.chain.commit(block, certificate) == committed
    tip, start = local.chain.tip, local.chain.start()
    assert local.reopen().tip == tip
    assert local.chain.start() == start
    assert start.members.epoch == 1
    assert start.parent_members is not None
    assert start.parent_members.epoch == 0
    local.commit(make.request(NEW.id))


def test_chain_of_changes_is_the_same_for_one_that_follows_later(local: LocalChain) -> None:
    local.commit(*local.add(NEW))
    local.commit(*local.rotate(local.members[1].id, identity(101)))
    local.commit(*local.set_param("k.pypi", 2))
    local.commit(*local.remove(local.members[0].id))
    body = make.request(local.members[0].id)
    local.commit(body)
    other = LocalChain()
    for height in range(1, local.chain.tip.height + 1):
        other.chain.commit(*(local.chain.decision(height) or (b"", b"")))
    assert other.chain.tip == local.chain.tip
    assert other.chain.params.listed() == local.chain.params.listed()
    view = other.chain.request(local.sign(body).id)
    assert view is not None
    assert (view.k, len(view.members)) == (2, 4)


def test_rotated_keys_hold_from_the_next_height_on(local: LocalChain) -> None:
    old = local.members[2]
    local.commit(*local.rotate(old.id, identity(101)))
    assert local.members[2].id == old.id
    assert local.members[2].member.record.keys != old.member.record.keys
    body = make.request(old.id)
    with pytest.raises(InvalidInputError, match=r"signature of .* does not hold under key"):
        local.chain.check_transaction(local.sign_as(old, body).encoded, local.now_ms)
    local.commit(body)


def test_parameters_hold_from_the_next_height_on_and_after_a_restart(local: LocalChain) -> None:
    committed = local.commit(*local.set_param("min_authorized", 5))
    assert committed.next_set is None
    assert local.chain.params.params.min_authorized == 5
    request = local.sign(make.request(local.members[0].id)).encoded
    with pytest.raises(InvalidInputError, match="build requests need 5"):
        local.chain.check_transaction(request, local.now_ms)
    assert local.reopen().params.value_of("min_authorized") == 5
    local.commit(*local.set_param("min_authorized", 4))
    assert local.chain.check_transaction(request, local.now_ms).is_ready


@pytest.mark.parametrize("n", [1, 2])
def test_network_of_one_or_two_members_grows(n: int) -> None:
    local = LocalChain(n)
    request = local.sign(make.request(local.members[0].id)).encoded
    with pytest.raises(InvalidInputError, match="too few: build requests need 3"):
        local.chain.check_transaction(request, local.now_ms)
    for number in range(n, 4):
        local.commit(*local.add(identity(100 + number)))
    assert local.chain.tip.members.epoch == 4 - n
    assert local.chain.check_transaction(request, local.now_ms).is_ready


def test_higher_rules_stop_this_program_from_deciding_and_leave_it_serving(
    local: LocalChain,
) -> None:
    assert local.chain.upgrade_needed() is None
    local.commit(make.request(local.members[0].id))
    local.commit(*local.set_param("rules", 3))
    chain = local.reopen()
    assert chain.upgrade_needed() == 3
    assert local.build(local.sign(make.request(local.members[1].id, lock="x")).encoded) is None
    # A block of the rules that it knows, as a member that did not notice would make it.
    twin = LocalChain()
    twin.commit(make.request(local.members[0].id))
    block = twin.build(twin.sign(make.request(local.members[1].id, lock="x")).encoded)
    assert block is not None
    assert "upgrade to rules >= 3" in chain.check_body(block, 3, local.now_ms).reason
    with pytest.raises(UnavailableError, match="upgrade to rules >= 3"):
        chain.commit(block, b"")
    assert chain.leaf(2) == chain.leaf(chain.block(1).first_leaf)
    assert chain.decision(2) is not None


def test_pending_approvals_are_listed_until_their_operation_happened(local: LocalChain) -> None:
    operation = local.add(NEW)
    local.commit(*operation[:2])
    members = [one.id for one in local.members]
    assert [each.by for each in local.chain.approvals()] == members[:2]
    subject = NEW.member.record.digest()
    assert {(each.op, each.subject) for each in local.chain.approvals()} == {("add_node", subject)}
    waits = local.chain.check_transaction(local.sign(operation[-1]).encoded, local.now_ms).waits
    assert waits == (
        f"add_node {subject} has 2 of 3 approvals; not yet by {members[2]}, {members[3]}"
    )
    local.commit(operation[2], operation[-1])
    assert local.chain.approvals() == []


def test_proof_of_possession_is_checked_at_the_door(local: LocalChain) -> None:
    tip = local.chain.tip
    head = Head(tip.size, Sha256(tip.root.hex()))
    good = change.add(local.members[0].id, NEW, local.network_id, height=0, head=head)
    elsewhere = change.add(local.members[0].id, NEW, bytes(32), height=0, head=head)
    stranger = dataclasses.replace(
        good, proof=change.proof(identity(101), local.network_id, height=0, head=head)
    )
    unsound = dataclasses.replace(
        good,
        member=dataclasses.replace(
            good.member, signatures=(bytes(64), *good.member.signatures[1:])
        ),
    )
    for operation, why in (
        (elsewhere, "the join proof of height 0 is not signed by its tx key"),
        (stranger, "the join proof of height 0 is not signed by its tx key"),
        (unsound, "signature of key cosign"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            local.chain.check_transaction(local.sign(operation).encoded, local.now_ms)
    assert local.chain.check_transaction(local.sign(good).encoded, local.now_ms).waits


def test_low_min_authorized_lets_a_single_member_build() -> None:
    local = LocalChain(1, params=dataclasses.replace(DEFAULT_PARAMS, min_authorized=1))
    member = local.members[0].id
    body = make.request(member)
    req = local.sign(body).id
    local.commit(body)
    committed = local.commit(make.batch(member, 1, make.built(req)), make.result(member, req))
    assert [type(each) for each in committed.outcomes] == [Accepted]


def test_chain_that_follows_refuses_a_set_leaf_that_nobody_approved(local: LocalChain) -> None:
    """A header that names another next set is not the header that execution gives."""
    block = local.build(*(local.sign(each).encoded for each in local.add(NEW)))
    assert block is not None
    parts = wire.split_block(block)
    header = Header.decode(parts.header)
    for lie in (header.set, Sha256("0" * 64)):
        forged = wire.encode_block(
            dataclasses.replace(header, next_set=lie).encode(), b"", parts.transactions
        )
        reason = Chain.open(local.store, local.genesis).check_body(forged, 1, local.now_ms).reason
        assert reason.startswith("header: next_set is")
