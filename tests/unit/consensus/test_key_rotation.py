"""Between the block that rotates its key and its next start, a member says nothing of its own."""

from __future__ import annotations

import pytest

from consensus import wire
from consensus.effects import Broadcast, BuildBody, Record, RecordKind
from consensus.events import TimerKind
from consensus.replica import Start
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from tests.unit.consensus.committee import (
    CHAIN,
    GENESIS_TIP,
    Committee,
    F,
    N,
    Node,
    X,
    alone,
    certificate_of,
    keyed_sign,
    make_block,
    member_set,
    names,
    of_type,
    proposal_of,
    proposals_in,
    rotated,
    votes_in,
)

ME = "m000"
NEW_KEY = "m000 again"


def rotate(n: int) -> tuple[Committee, MemberSet]:
    """Return a committee of ``n`` that has just committed block 1, which rotates the key of m000.

    Every frame of height 2 that this brought about has been delivered, too.
    """
    committee = Committee(n)
    after = rotated(committee.members, ME)
    for node in committee.nodes.values():
        node.next_sets = dict.fromkeys(range(1, 20), after)
    committee.leader().work()
    committee.deliver()
    assert {node.replica.height for node in committee.nodes.values()} == {2}
    return committee, after


def go_on(committee: Committee, rounds: int) -> None:
    """Let pending work, timers and frames have their way, and help those behind (R9)."""
    for _ in range(rounds):
        for node in committee.nodes.values():
            node.work()
            node.fire(TimerKind.RETRY)
        committee.deliver()
        for node in committee.nodes.values():
            node.fire()
        committee.deliver()
        for node in committee.nodes.values():
            for other in committee.nodes.values():
                for one in other.committed:
                    if one.height == node.replica.height:
                        node.tell(other.me, Decision(one.block, one.certificate))


def said(node: Node) -> list[Vote | Proposal]:
    """Return every own vote and proposal that the node has let go of, or written down."""
    sent = [one.message for one in of_type(node.done, Broadcast)]
    found = [one for one in sent if isinstance(one, Vote | Proposal)]
    votes = [one.payload for one in node.records if one.kind is RecordKind.VOTE]
    return [one for one in [*found, *map(wire.decode_vote, votes)] if one.height == 2]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_rotated_member_is_silent_until_it_holds_its_new_key_and_the_log_goes_on(n: int) -> None:
    committee, _after = rotate(n)
    old = committee[0]
    go_on(committee, 4)
    assert said(old) == []
    assert all(not node.refused for node in committee.nodes.values()), "nobody said what is false"
    fresh = old.restart(key=NEW_KEY)
    committee.nodes[fresh.me] = fresh
    before = max(node.replica.height for node in committee.nodes.values())
    go_on(committee, 4)
    assert min(node.replica.height for node in committee.nodes.values()) > before
    assert all(not node.refused for node in committee.nodes.values())
    since = fresh.records[len(old.records) :]
    assert any(one.kind is RecordKind.VOTE for one in since), "with its new key it votes"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_members_may_lose_power_in_the_middle_of_a_rotation(n: int) -> None:
    committee, _after = rotate(n)
    for node in committee.nodes.values():
        node.work()
    # Every finalization is lost, then the power.
    committee.deliver(
        lambda _from, _to, frame: not (frame[0] == wire.MessageKind.VOTE and frame[1] == F)
    )
    for node in committee.nodes.values():
        node.fire()
    committee.nodes = {
        name: node.restart(key=NEW_KEY if name == ME else "")
        for name, node in committee.nodes.items()
    }
    go_on(committee, 6)
    assert min(node.replica.height for node in committee.nodes.values()) > 2


def test_rotated_leader_builds_nothing_with_its_old_key() -> None:
    committee, after = rotate(4)
    old = committee[0]
    view = next(View(view) for view in range(8) if old.replica.leader(View(view)) == ME)
    mark = len(old.done)
    for skipped in range(view):
        old.tell("m001", certificate_of(after, X, view=skipped, height=2, signers=(1, 2, 3)))
    old.work()
    assert old.replica.view == view
    assert of_type(old.done[mark:], BuildBody) == []


def test_member_with_a_replaced_key_still_commits_and_relays() -> None:
    committee, after = rotate(4)
    old = committee[0]
    go_on(committee, 4)
    assert old.replica.height > 2
    assert said(old) == []
    relayed = certificate_of(after, X, view=0, height=old.replica.height, signers=(1, 2, 3))
    old.tell("m001", relayed)
    assert {wire.decode_message(frame, n=4) for _, frame in old.sent} >= {relayed}


# -- what an earlier life said with another key ----------------------------------------------------


SET = member_set(names(4))
AFTER = rotated(SET, ME)
BLOCK = make_block(height=2, view=0, proposer="m002", parent=GENESIS_TIP)
NAME = wire.block_hash(BLOCK)


def vote_by(key: str, kind: VoteKind, *, view: int = 0, name: Digest = NAME) -> Vote:
    """A vote of m000 at height 2, under the set after the rotation, by the key of that name."""
    text = wire.vote_bytes(
        kind, Height(2), View(view), name, chain_id=CHAIN, set_hash=AFTER.set_hash
    )
    return Vote(kind, Height(2), View(view), name, 0, keyed_sign(key)(text))


def records_by(key: str) -> list[Record]:
    """What a life with ``key`` wrote: a vote, the certificate it made with it, and what followed.

    This is the log of a member whose signer does not look at the set.
    """
    mine = vote_by(key, N)
    others = certificate_of(AFTER, N, view=0, block_hash=NAME, height=2, signers=(0, 1, 2))
    made = Certificate(
        N, Height(2), View(0), NAME, (0, 1, 2), (mine.signature, *others.signatures[1:])
    )
    text = wire.proposal_bytes(Height(2), View(1), NAME, chain_id=CHAIN, set_hash=AFTER.set_hash)
    proposal = Proposal(Height(2), View(1), BLOCK, made, (), keyed_sign(key)(text))
    return [
        Record(RecordKind.BODY, BLOCK),
        Record(RecordKind.VOTE, wire.encode_vote(mine)),
        Record(RecordKind.CERTIFICATE, wire.encode_certificate(made, n=4)),
        Record(RecordKind.PROPOSAL, wire.encode_proposal(proposal, n=4)),
        Record(RecordKind.VOTE, wire.encode_vote(vote_by(key, F))),
    ]


def started(records: list[Record], *, key: str) -> Node:
    parent = certificate_of(SET, F, view=0, block_hash=GENESIS_TIP)
    start = Start(Height(2), GENESIS_TIP, AFTER, parent, (), SET)
    return Node(names(4)[0], AFTER, start, records=records, key=key)


def test_recovery_drops_what_another_key_than_the_sets_has_signed() -> None:
    node = started(records_by(ME), key=NEW_KEY)
    assert node.replica.view == 0, "the certificate that needed such a vote is none"
    assert node.signer.votes(Height(2)) == []
    assert votes_in(node.done) == []
    assert proposals_in(node) == []
    node.work()
    assert votes_in(node.fire()) == [(X, 0)], "nothing that was never said binds it"


def test_recovery_keeps_what_the_key_of_the_set_has_signed() -> None:
    node = started(records_by(NEW_KEY), key=NEW_KEY)
    assert node.replica.view == 1
    assert {vote_by(NEW_KEY, N), vote_by(NEW_KEY, F)} <= set(node.signer.votes(Height(2)))
    assert {(N, 0), (F, 0)} <= set(votes_in(node.done))


def test_a_replaced_key_put_back_forgets_no_vote_of_its_successor() -> None:
    node = started(records_by(NEW_KEY), key=ME)
    cast = {(vote.kind, vote.view): vote for vote in node.signer.votes(Height(2))}
    assert set(cast) == {(N, 0), (F, 0)}
    node.tell("m002", certificate_of(AFTER, X, view=1, height=2, signers=(1, 2, 3)))
    node.work()
    assert [vote for vote in votes_in(node.fire()) if vote not in {(N, 0), (F, 0)}] == []


def test_certificate_of_others_is_kept_whoever_signed_the_own_votes() -> None:
    skipped = certificate_of(AFTER, X, view=0, height=2, signers=(1, 2, 3))
    records = [
        Record(RecordKind.VOTE, wire.encode_vote(vote_by(ME, X, name=ZERO_DIGEST))),
        Record(RecordKind.CERTIFICATE, wire.encode_certificate(skipped, n=4)),
    ]
    node = started(records, key=NEW_KEY)
    assert node.replica.view == 1
    assert node.signer.votes(Height(2)) == []


def test_votes_of_a_later_height_bind_though_nobody_knows_yet_whose_key_counts_there() -> None:
    node = alone(4, 0)
    node.records = [Record(RecordKind.VOTE, wire.encode_vote(vote_by(ME, X, name=ZERO_DIGEST)))]
    again = node.restart()
    assert [(vote.kind, vote.height) for vote in again.signer.votes(Height(2))] == [(X, 2)]


def test_proposal_of_a_rotated_leader_in_its_old_life_is_heard_by_nobody() -> None:
    committee, after = rotate(4)
    other = committee[1]
    other.tell(ME, proposal_of(ME, after, BLOCK, view=0, height=2))
    assert any("is not signed" in why for why in other.refused)
