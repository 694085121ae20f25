"""A member votes after a start only when nothing speaks against it, and late when it forgot."""

from __future__ import annotations

import pytest

from consensus.amnesia import (
    Phase,
    Recollection,
    Restart,
    decode_question,
    decode_recollection,
    encode_question,
    encode_recollection,
    newest_of,
)
from consensus.errors import DecodeError
from consensus.types import Digest, Height, NodeId, Vote, VoteKind
from tests.unit.consensus.committee import (
    CHAIN,
    F,
    N,
    X,
    keyed_verify,
    member_set,
    names,
    vote_of,
)

A, B = Digest(b"a" * 32), Digest(b"b" * 32)
ME = NodeId("m000")


def mine(kind: VoteKind = N, *, height: int = 8, view: int = 0, name: Digest = A) -> Vote:
    members = member_set(names(4))
    return vote_of(ME, members, kind, view=view, block_hash=name, height=height)


def restart(n: int = 4, *, votes: tuple[Vote, ...] = (), forgot: str = "") -> Restart:
    return Restart(ME, member_set(names(n)), committed=Height(7), votes=votes, forgot=forgot)


def member(index: int) -> NodeId:
    return NodeId(f"m{index:03}")


@pytest.mark.parametrize(("n", "answers"), [(1, 0), (2, 1), (3, 2), (4, 2), (7, 4)])
def test_start_votes_after_q_minus_1_others_have_answered_and_not_before(
    n: int, answers: int
) -> None:
    start = restart(n)
    for index in range(1, 1 + answers):
        assert (start.phase, start.first_height) == (Phase.ASKING, None)
        start.recalled(member(index), None)
    assert start.phase is Phase.VOTING
    assert start.first_height == 0
    assert start.wanted() == []


def test_answers_count_once_and_only_of_other_members() -> None:
    start = restart()
    for _ in range(3):
        start.recalled(member(1), None)
        start.recalled(ME, None)
        start.recalled(NodeId("stranger"), None)
    assert start.needed == 1
    assert start.wanted() == ["m002", "m003"]


@pytest.mark.parametrize(
    "answer", [None, mine(), mine(F, height=7, name=B), mine(X, height=1, view=9)]
)
def test_votes_that_the_log_holds_or_that_are_decided_speak_against_nothing(
    answer: Vote | None,
) -> None:
    start = restart(votes=(mine(),))
    start.recalled(member(1), answer)
    start.recalled(member(2), None)
    assert start.phase is Phase.VOTING


@pytest.mark.parametrize(
    "answer",
    [mine(F), mine(name=B), mine(view=1), mine(height=9), mine(X, height=10**9)],
)
def test_vote_newer_than_the_log_means_forgotten_votes(answer: Vote) -> None:
    start = restart(votes=(mine(),))
    start.recalled(member(1), answer)
    assert start.phase is Phase.FORGOT
    assert str(answer.height) in start.forgot
    start.recalled(member(2), None)
    start.recalled(member(3), None)
    assert start.first_height is None, "such answers are no way out"


def test_forgetful_member_votes_two_heights_above_where_q_others_work() -> None:
    start = restart(forgot="the log has a hole")
    start.decided(member(1), Height(20))
    start.decided(member(2), Height(22))
    assert (start.needed, start.first_height) == (1, None)
    start.decided(member(3), Height(21))
    # W = 23: silent until 24 is committed.
    assert start.first_height == 25
    start.decided(member(1), Height(90))
    assert start.first_height == 25, "once settled it stays"


def test_claims_from_before_it_was_known_that_votes_are_missing_do_not_count() -> None:
    start = restart()
    for index in range(1, 4):
        start.decided(member(index), Height(3))
    start.recalled(member(1), mine(F))
    assert start.needed == 3


@pytest.mark.parametrize(("n", "is_hopeless"), [(1, True), (2, True), (3, True), (4, False)])
def test_small_networks_cannot_bring_forgotten_votes_back(n: int, *, is_hopeless: bool) -> None:
    assert restart(n, forgot="the log has a hole").is_hopeless is is_hopeless
    assert not restart(n).is_hopeless


def test_vote_seen_while_asking_is_forgotten_and_while_voting_somebody_elses() -> None:
    start = restart()
    start.foreign(mine(F))
    assert start.phase is Phase.FORGOT
    other = restart()
    other.recalled(member(1), None)
    other.recalled(member(2), None)
    other.foreign(mine(F))
    assert other.phase is Phase.DOUBLED
    assert other.first_height is None
    assert other.wanted() == []


def test_answer_that_comes_late_names_no_double() -> None:
    start = restart()
    start.recalled(member(1), None)
    start.recalled(member(2), None)
    start.recalled(member(3), mine(F))  # cast since
    assert start.phase is Phase.VOTING


def test_only_answers_of_the_current_set_count() -> None:
    start = restart()
    start.recalled(member(1), None)
    start.entered(member_set(["m000", "m002", "m003", "m004"], epoch=1))
    assert start.needed == 2
    start.recalled(member(4), None)
    start.recalled(member(2), None)
    assert start.phase is Phase.VOTING


def test_answers_have_one_form_and_convince_by_signature_alone() -> None:
    members = member_set(names(4))
    found = Recollection(members.set_hash, mine())
    assert decode_recollection(encode_recollection(found)) == found
    assert decode_recollection(b"") is None
    assert found.holds(b"m000".ljust(32, b"."), CHAIN, keyed_verify)
    assert not found.holds(b"m001".ljust(32, b"."), CHAIN, keyed_verify)
    other_set = Recollection(Digest(b"s" * 32), mine())
    assert not other_set.holds(b"m000".ljust(32, b"."), CHAIN, keyed_verify)
    for data in (b"x", encode_recollection(found)[:-1], encode_recollection(found) + b"x"):
        with pytest.raises(DecodeError):
            decode_recollection(data)
    assert decode_question(encode_question(Height(5))) == 5
    with pytest.raises(DecodeError):
        decode_question(b"\0" * 9)


def test_newest_vote_is_by_height_then_view_then_kind() -> None:
    votes = [mine(), mine(F), mine(X, view=1), mine(height=7, view=9)]
    assert newest_of(votes) == votes[2]
    assert newest_of([]) is None
