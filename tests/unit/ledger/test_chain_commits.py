"""The chain: what it builds, accepts, refuses and remembers."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from consensus import wire
from consensus.events import TimeVerdict
from consensus.types import Digest, VoteKind
from pyrsia_node.ledger import storage
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.machine import context
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import ZERO_SHA256, Sha256
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    VerificationError,
)
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.leaves import Accepted, Expired, Header, decode_outcome
from pyrsia_node.model.purl import Purl
from pyrsia_node.tlog import tree
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies.identities import GENESIS_TIME_MS, genesis_of, identities


@pytest.fixture
def local() -> LocalChain:
    return LocalChain()


def accept_one(local: LocalChain, nonce: int = 0) -> Sha256:
    """Commit a request and its acceptance; return the request's id."""
    body = make.request(local.members[0].id, nonce=nonce, lock=f"lock {nonce}")
    req = local.sign(body).id
    local.commit(body)
    seqs = [local.chain.last_seq(one.id) + 1 for one in local.members]
    document = make.document(f".{nonce}")
    attested = [
        make.batch(one.id, seq, make.built(req, document))
        for one, seq in zip(local.members[:3], seqs, strict=False)
    ]
    local.commit(*attested, make.result(local.members[0].id, req, document))
    return req


def test_height_zero_holds_the_genesis_and_the_first_set(local: LocalChain) -> None:
    chain, genesis = local.chain, local.genesis
    tip = chain.tip
    assert (tip.height, tip.size, tip.time_ms) == (0, 2, GENESIS_TIME_MS)
    assert chain.leaf(0) == genesis.encode()
    assert chain.leaf(1) == genesis.set_leaf().encode()
    assert tip.block_hash == hashlib.sha256(b"\0" + genesis.encode()).digest()
    assert tip.state_root == hashlib.sha256(b"pyrsia/state/1\0" + bytes(32) + b"[]").digest()
    assert chain.decision(0) is None
    start = chain.start()
    assert (start.height, start.tip, start.parent_certificate) == (1, tip.block_hash, None)
    assert start.history == ()


def test_first_block_says_what_the_specification_says(local: LocalChain) -> None:
    local.commit(make.request(local.members[0].id))
    block, _ = local.chain.decision(1) or (b"", b"")
    header = Header.decode(wire.split_block(block).header)
    genesis = local.genesis.encode()
    assert header.parent == hashlib.sha256(b"\0" + genesis).hexdigest()
    assert header.parent_cert == ZERO_SHA256
    assert (header.prev_size, header.n_leaves, header.size) == (2, 1, 4)
    assert wire.split_block(block).parent_certificate == b""


def test_accepted_package_stands_in_the_log_with_its_attestors(local: LocalChain) -> None:
    req = accept_one(local)
    view = local.chain.request(req)
    assert view is not None
    assert view.outcome == "accepted"
    assert view.outcome_leaf is not None
    accepted = decode_outcome(local.chain.leaf(view.outcome_leaf))
    assert isinstance(accepted, Accepted)
    assert accepted.document == make.document(".0")
    assert [each.id for each in accepted.attestors] == [one.id for one in local.members[:3]]
    assert (accepted.k, accepted.level, accepted.differ) == (3, 0, ())
    assert local.chain.open_requests() == []
    assert local.chain.open_requests_count() == 0


def test_every_header_commits_to_the_whole_log_before_it(local: LocalChain) -> None:
    accept_one(local)
    accept_one(local, nonce=1)
    leaves = list(local.chain.leaves(0, local.chain.tip.size))
    for height in range(1, local.chain.tip.height + 1):
        record = local.chain.block(height)
        header = Header.decode(leaves[record.first_leaf])
        before = [tree.leaf_hash(leaf) for leaf in leaves[: header.prev_size]]
        assert header.prev_root == tree.root(before).hex()
        assert local.chain.root_at(header.prev_size).hex() == header.prev_root
    everything = tree.root(tree.leaf_hash(leaf) for leaf in leaves)
    assert local.chain.tip.root == everything


def test_decision_is_the_very_bytes_that_were_committed(local: LocalChain) -> None:
    body = make.request(local.members[0].id)
    block = local.build(local.sign(body).encoded)
    assert block is not None
    certificate = local.certify(block)
    local.chain.commit(block, certificate)
    assert local.chain.decision(1) == (block, certificate)
    assert local.chain.decision(2) is None


def test_restart_gives_the_same_chain(local: LocalChain) -> None:
    req = accept_one(local)
    before, leaves = local.chain.tip, list(local.chain.leaves(0, local.chain.tip.size))
    start = local.chain.start()
    chain = local.reopen()
    assert chain.tip == before
    assert list(chain.leaves(0, chain.tip.size)) == leaves
    assert chain.start() == start
    assert chain.request(req) is not None
    accept_one(local, nonce=1)


def test_each_commit_is_one_synced_write() -> None:
    local = LocalChain()
    store = local.store
    synced = store.synced_writes  # type: ignore[attr-defined] # the fake counts
    local.commit(make.request(local.members[0].id))
    assert store.synced_writes == synced + 1  # type: ignore[attr-defined]


def test_commit_of_the_tip_again_changes_nothing_and_answers_the_same(local: LocalChain) -> None:
    req = accept_one(local)
    block, certificate = local.chain.decision(2) or (b"", b"")
    leaves = local.chain.tip.size
    again = local.chain.commit(block, certificate)
    assert local.chain.tip.size == leaves
    assert again.tip == local.chain.tip
    assert again.leaves == tuple(local.chain.leaves(again.first_leaf, leaves))
    assert isinstance(again.outcomes[0], Accepted)
    assert again.outcomes[0].request == req
    assert len(again.transaction_ids) == 4
    first = LocalChain()
    first.chain.commit(*(local.chain.decision(1) or (b"", b"")))
    assert first.chain.commit(block, certificate) == again


def test_gap_and_old_height_are_refused(local: LocalChain) -> None:
    accept_one(local)
    other = LocalChain()
    with pytest.raises(InvalidInputError, match="height 2 does not follow the tip, height 0"):
        other.chain.commit(*(local.chain.decision(2) or (b"", b"")))
    with pytest.raises(InvalidInputError, match="height 1 does not follow the tip, height 2"):
        local.chain.commit(*(local.chain.decision(1) or (b"", b"")))


def test_second_final_block_at_the_tip_is_a_fork_and_named(local: LocalChain) -> None:
    body = local.sign(make.request(local.members[0].id)).encoded
    block, other = local.build(body), local.build(body, view=1)
    assert block
    assert other
    certificate = local.certify(other)
    local.chain.commit(block, local.certify(block))
    with pytest.raises(VerificationError, match=wire.block_hash(other).hex()):
        local.chain.commit(other, certificate)


@pytest.mark.parametrize(
    ("signers", "kind", "view"),
    [((0, 1), VoteKind.FINALIZE, 0), ((0, 1, 2), VoteKind.NOTARIZE, 0)],
)
def test_block_is_committed_by_a_finalization_alone(
    local: LocalChain, signers: tuple[int, ...], kind: VoteKind, view: int
) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block
    certificate = local.certify(block, signers=signers, kind=kind, view=view)
    with pytest.raises(InvalidInputError, match="certificate"):
        local.chain.commit(block, certificate)
    assert local.chain.tip.height == 0


def test_certificate_with_a_forged_signature_commits_nothing(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block
    certificate = bytearray(local.certify(block))
    certificate[-1] ^= 1
    with pytest.raises(VerificationError, match="does not hold"):
        local.chain.commit(block, bytes(certificate))
    assert local.chain.tip.height == 0


def test_quorum_that_finalizes_an_invalid_block_is_noticed(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block
    parts = wire.split_block(block)
    value = canonical.loads_object(parts.header, bytes_max=9_999)
    lie = canonical.dumps({**value, "state_root": "0" * 64})
    bad = wire.encode_block(lie, parts.parent_certificate, parts.transactions)
    with pytest.raises(VerificationError, match="final but not valid: header: state_root"):
        local.chain.commit(bad, local.certify(bad))
    assert local.chain.tip.height == 0


def test_store_of_another_network_is_refused_with_both_ids(local: LocalChain) -> None:
    other = genesis_of(identities(3))
    with pytest.raises(CorruptStateError) as caught:
        Chain.open(local.store, other)
    assert local.network_id.hex() in str(caught.value)
    assert other.network_id.hex() in str(caught.value)


def test_store_that_lost_a_leaf_is_corrupt(local: LocalChain) -> None:
    local.store.write([(storage.leaf_key(1), None)], sync=True)
    with pytest.raises(CorruptStateError, match="lacks leaf 1"):
        local.reopen()


def test_store_whose_tree_does_not_fit_its_block_is_corrupt(local: LocalChain) -> None:
    empty = tree.EMPTY_FRONTIER.encode()
    local.store.write([(storage.FRONTIER_KEY, empty)], sync=True)
    with pytest.raises(CorruptStateError, match="tree has size 0"):
        local.reopen()


def test_nothing_to_do_builds_no_block(local: LocalChain) -> None:
    assert local.build() is None
    assert local.build(b"rubbish") is None
    assert local.chain.due_ms() is None


def test_due_outcome_alone_makes_a_block(local: LocalChain) -> None:
    local.commit(make.request(local.members[0].id))
    due = local.chain.due_ms()
    assert due == GENESIS_TIME_MS + 1_000 + 600_000
    local.now_ms = due - 1
    assert local.build() is None
    local.now_ms = due
    committed = local.commit()
    assert [type(each) for each in committed.outcomes] == [Expired]
    assert local.chain.due_ms() is None


def test_builder_leaves_out_what_became_invalid_and_keeps_the_rest(local: LocalChain) -> None:
    good = local.sign(make.request(local.members[0].id)).encoded
    other = local.sign(make.request(local.members[1].id, lock="other")).encoded
    gap = local.sign(make.batch(local.members[0].id, 7, make.built("0" * 64))).encoded
    block = local.build(good, good, gap, b"{}", other)
    assert block is not None
    assert wire.split_block(block).transactions == (good, other)
    assert local.chain.check_body(block, 1, local.now_ms).valid


def test_builder_stays_below_the_size_of_a_block() -> None:
    local = LocalChain(params=dataclasses.replace(DEFAULT_PARAMS, burst=200, open_max=200))
    small = make.request(local.members[0].id)
    bodies = [
        dataclasses.replace(
            small, purl=Purl.pypi("six", f"{n}"), recipe={"a": "x" * 3_990, "b": "y" * n}
        )
        for n in range(1_000, 1_190)
    ]
    encoded = [local.sign(body).encoded for body in bodies]
    block = local.build(*encoded, *encoded[:1])
    assert block is not None
    chosen = wire.split_block(block).transactions
    assert wire.BLOCK_BYTES_MAX - 10_000 < len(block) <= wire.BLOCK_BYTES_MAX
    assert chosen == tuple(encoded[: len(chosen)])
    assert local.chain.check_body(block, 1, local.now_ms).valid


def test_time_of_a_block_follows_the_parent_even_when_the_clock_stands_still(
    local: LocalChain,
) -> None:
    local.now_ms = GENESIS_TIME_MS - 5_000
    first = local.commit(make.request(local.members[0].id))
    assert first.tip.time_ms == GENESIS_TIME_MS + 1


@pytest.mark.parametrize(
    ("ahead_ms", "verdict"),
    [
        (0, TimeVerdict.OK),
        (10_000, TimeVerdict.OK),
        (10_001, TimeVerdict.FUTURE),
        (-10_000, TimeVerdict.OK),
        (-10_001, TimeVerdict.PAST),
    ],
)
def test_time_of_a_fresh_block_is_judged_apart_from_its_validity(
    local: LocalChain, ahead_ms: int, verdict: TimeVerdict
) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block
    checked = local.chain.check_body(block, 1, local.now_ms - ahead_ms)
    assert checked.valid
    assert checked.time is verdict


def test_one_millisecond_after_the_parent_is_never_the_future(local: LocalChain) -> None:
    local.now_ms = GENESIS_TIME_MS - 60_000
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block
    assert local.chain.check_body(block, 1, local.now_ms).time is TimeVerdict.OK


def test_verdict_names_parent_origin_and_next_set(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded, view=2)
    assert block
    checked = local.chain.check_body(block, 1, local.now_ms)
    assert checked.parent == local.chain.tip.block_hash
    assert (checked.origin_view, checked.origin_proposer) == (2, local.members[3].id)
    assert checked.next_set == local.chain.tip.members
    assert checked.block_hash == wire.block_hash(block)
    assert checked.body_id == Digest(hashlib.sha256(block).digest())


def test_leaves_beyond_the_log_are_not_found(local: LocalChain) -> None:
    with pytest.raises(NotFoundError, match="leaf 2 is not in the log, which has 2"):
        local.chain.leaf(2)
    with pytest.raises(NotFoundError):
        local.chain.leaves(0, 3)
    with pytest.raises(NotFoundError):
        local.chain.root_at(1)
    with pytest.raises(NotFoundError):
        local.chain.block(1)


def test_block_of_each_leaf_is_known(local: LocalChain) -> None:
    accept_one(local)
    chain = local.chain
    found = [chain.block_of_leaf(index)[0] for index in range(chain.tip.size)]
    assert found == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert chain.block_of_leaf(2)[1] == chain.block(1).time_ms


def test_transaction_status_tells_where_it_was_committed(local: LocalChain) -> None:
    signed = local.sign(make.request(local.members[0].id))
    assert local.chain.transaction_status(signed.id) is None
    local.commit(signed.body)
    status = local.chain.transaction_status(signed.id)
    assert status is not None
    assert (status.leaf, status.height) == (3, 1)


def test_only_the_committed_root_of_a_size_may_be_cosigned(local: LocalChain) -> None:
    local.commit(make.request(local.members[0].id))
    tip = local.chain.tip
    assert local.chain.may_cosign(tip.size, tip.root)
    assert not local.chain.may_cosign(tip.size, bytes(32))
    assert not local.chain.may_cosign(tip.size + 1, tip.root)
    assert not local.chain.may_cosign(0, tree.EMPTY_ROOT)


def test_proposal_that_is_never_committed_leaves_no_trace(local: LocalChain) -> None:
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    local.commit(body)
    words = [make.batch(each, 1, make.built(req, own=each)) for each in members[:3]]
    losing = local.build(*(local.sign(each).encoded for each in words), view=1)
    assert losing is not None
    assert local.chain.check_body(losing, 2, local.now_ms).valid
    local.commit(make.batch(members[0], 1, make.built(req)))
    local.commit(*(make.batch(each, 1, make.built(req)) for each in members[1:3]))
    committed = local.commit(make.result(members[0], req))
    fresh = LocalChain()
    answers = [
        fresh.chain.commit(*(local.chain.decision(height) or (b"", b"")))
        for height in range(1, local.chain.tip.height + 1)
    ]
    assert answers[-1] == committed
    assert isinstance(committed.outcomes[0], Accepted)


def test_memory_of_decoded_records_is_bounded(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "CACHED_RECORDS_MAX", 0)
    accept_one(local)
    accept_one(local, nonce=1)
    known = local.chain._known
    known.trim()
    assert [*known.requests, *known.tallies, *known.items, *known.silent] == []


def test_only_build_requests_have_a_request_view(local: LocalChain) -> None:
    body = make.request(local.members[0].id)
    req = local.sign(body).id
    local.commit(body)
    batch = local.sign(make.batch(local.members[0].id, 1, make.built(req)))
    local.commit(batch.body)
    assert local.chain.request(batch.id) is None
    assert local.chain.request(Sha256("0" * 64)) is None
    view = local.chain.request(req)
    assert view is not None
    assert view.request == body
    assert view.documents_needed == (make.document().digest(),)


def test_open_requests_are_listed_by_what_falls_due_first(local: LocalChain) -> None:
    sponsor = local.members[0].id
    slow = make.request(sponsor, lock="slow", time_class="L")
    quick = make.request(sponsor, lock="quick", time_class="S")
    local.commit(slow, quick)
    expected = [local.sign(quick).id, local.sign(slow).id]
    assert [view.id for view in local.chain.open_requests()] == expected
    assert local.chain.open_requests_count() == 2


def test_replica_starts_with_who_finalized_lately(local: LocalChain) -> None:
    sponsor = local.members[0].id
    for number, signers in enumerate(((0, 1, 2), (1, 2, 3), (0, 1, 2, 3))):
        block = local.build(local.sign(make.request(sponsor, lock=f"{number}")).encoded)
        assert block is not None
        local.chain.commit(block, local.certify(block, signers=signers))
    start = local.reopen().start()
    ids = [one.id for one in local.members]
    # The third block carries the certificate of the second; its own is the parent certificate.
    assert start.history == ((), tuple(ids[:3]), tuple(ids[1:]))
    assert start.parent_certificate is not None
    assert start.parent_certificate.signers == (0, 1, 2, 3)
    assert (start.height, start.tip) == (4, local.chain.tip.block_hash)


def test_body_for_another_height_is_not_judged(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block is not None
    checked = local.chain.check_body(block, 2, local.now_ms)
    assert not checked.valid
    assert checked.reason == "height 2 is not the next, 1"


def test_first_block_carries_no_certificate(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block is not None
    parts = wire.split_block(block)
    value = canonical.loads_object(parts.header, bytes_max=9_999)
    certificate = local.certify(block)
    header = canonical.dumps({**value, "parent_cert": hashlib.sha256(certificate).hexdigest()})
    forged = wire.encode_block(header, certificate, parts.transactions)
    checked = local.chain.check_body(forged, 1, local.now_ms)
    assert checked.reason == "block 1 carries a certificate of the genesis"


def test_proposer_must_be_a_member(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block is not None
    parts = wire.split_block(block)
    value = canonical.loads_object(parts.header, bytes_max=9_999)
    header = canonical.dumps({**value, "proposer": identities(9)[8].id})
    forged = wire.encode_block(header, b"", parts.transactions)
    stranger = identities(9)[8].id not in [one.id for one in local.members]
    assert stranger
    assert "is no authorized node" in local.chain.check_body(forged, 1, local.now_ms).reason


def test_block_that_holds_nothing_is_invalid(local: LocalChain) -> None:
    block = local.build(local.sign(make.request(local.members[0].id)).encoded)
    assert block is not None
    forged = wire.encode_block(wire.split_block(block).header, b"", [])
    reason = local.chain.check_body(forged, 1, local.now_ms).reason
    assert reason == "block without a transaction and without an outcome that is due"


def test_transaction_that_is_committed_is_refused_at_the_door_with_its_place(
    local: LocalChain,
) -> None:
    signed = local.sign(make.request(local.members[0].id))
    local.commit(signed.body)
    with pytest.raises(InvalidInputError, match="in the log already, at index 3"):
        local.chain.check_transaction(signed.encoded, local.now_ms)


def test_door_says_what_a_transaction_waits_for(local: LocalChain) -> None:
    body = make.request(local.members[0].id)
    req = local.sign(body).id
    early = local.sign(make.batch(local.members[1].id, 1, make.built(req)))
    info = local.chain.check_transaction(early.encoded, local.now_ms)
    assert not info.is_ready
    assert info.waits == f"no build request {req} is in the log"
    local.commit(body)
    info = local.chain.check_transaction(early.encoded, local.now_ms)
    assert (info.is_ready, info.kind, info.author, info.sequence) == (
        True,
        "attest_batch",
        local.members[1].id,
        1,
    )
