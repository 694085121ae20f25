"""A member votes after a start only when nothing speaks against it, and late when it forgot."""

from __future__ import annotations

import pytest

from consensus.amnesia import (
    HEIGHTS_LOOKED_THROUGH_MAX,
    Answer,
    Phase,
    Recollection,
    Restart,
    answers_needed,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    heights_to_look_through,
    newest_in,
    newest_of,
)
from consensus.errors import DecodeError
from consensus.quorum import faults
from consensus.types import ZERO_DIGEST, Certificate, Digest, Height, NodeId, View, Vote, VoteKind
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


TIP = Height(7)


def restart(
    n: int = 4,
    *,
    votes: tuple[Vote, ...] = (),
    forgot: str = "",
    is_whole: bool = True,
    silent_below: int = 0,
) -> Restart:
    return Restart(
        ME,
        member_set(names(n)),
        committed=TIP,
        votes=votes,
        forgot=forgot,
        is_whole=is_whole,
        silent_below=Height(silent_below),
    )


def member(index: int) -> NodeId:
    return NodeId(f"m{index:03}")


# The table of docs/design/consensus.md 8: of a log that is vouched for, and of one that is not.
ANSWERS = [
    (1, 0, 0), (2, 1, 1), (3, 2, 2), (4, 2, 3), (5, 3, 3),
    (6, 4, 4), (7, 4, 5), (8, 5, 5), (9, 6, 6), (10, 6, 7),
]  # fmt: skip


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(("n", "whole", "unknown"), ANSWERS)
def test_start_votes_after_enough_others_have_answered_and_not_before(
    n: int, whole: int, unknown: int, *, is_whole: bool
) -> None:
    start = restart(n, is_whole=is_whole)
    for index in range(1, 1 + (whole if is_whole else unknown)):
        assert (start.phase, start.first_height) == (Phase.ASKING, None)
        start.recalled(member(index), TIP, None)
    assert start.phase is Phase.VOTING
    assert start.first_height == 0
    assert start.wanted() == []


@pytest.mark.parametrize("n", range(1, 101))
def test_of_enough_answers_one_is_of_an_honest_member_that_missed_no_vote(n: int) -> None:
    """At most f lie and at most f honest ones missed what was forgotten; small sets have f = 0."""
    f = faults(n)
    unknown = answers_needed(n, is_whole=False)
    assert unknown > 2 * f or n == 1
    assert unknown <= n - 1
    assert answers_needed(n, is_whole=True) <= n - 1 - f, "f members may be down"


def test_word_that_the_log_is_whole_ends_a_wait_for_one_that_is_down() -> None:
    start = restart(is_whole=False)
    start.recalled(member(1), TIP, None)
    # q - 1 answers are asked for in any case.
    assert (start.needed, start.lacks_only_word) == (2, False)
    start.recalled(member(2), TIP, None)
    assert (start.needed, start.lacks_only_word) == (1, True)
    assert (start.first_height, start.wanted()) == (None, ["m003"])
    start.vouch()
    assert (start.needed, start.lacks_only_word) == (0, False)
    assert start.first_height == 0


def test_word_that_the_log_is_whole_outweighs_no_vote_that_it_lacks() -> None:
    start = restart(is_whole=False)
    start.recalled(member(1), TIP, mine(F))
    start.vouch()
    for index in (1, 2, 3):
        start.recalled(member(index), TIP, None)
    assert start.phase is Phase.FORGOT


def test_answer_of_a_member_that_is_ahead_counts_once_its_tip_is_committed() -> None:
    """It no longer knows every vote of a height that it has committed, and we might vote there."""
    start = restart()
    start.recalled(member(1), Height(9), None)
    start.recalled(member(2), TIP, None)
    assert start.first_height is None
    assert start.wanted() == ["m001", "m003"], "it is asked again meanwhile"
    start.entered(member_set(names(4)), Height(8))
    assert start.first_height is None
    assert start.lacks_only_heights
    start.entered(member_set(names(4)), Height(9))
    assert start.phase is Phase.VOTING
    assert not start.lacks_only_heights


def test_start_lacks_only_heights_once_enough_have_answered_and_not_before() -> None:
    start = restart(is_whole=False)
    for index in (1, 2):
        start.recalled(member(index), Height(9), None)
    assert not start.lacks_only_heights, "of four, all three others are needed"
    start.recalled(member(3), TIP, None)
    assert (start.lacks_only_heights, start.needed) == (True, 2)


def test_who_claims_to_be_far_ahead_counts_for_nothing_and_hurts_nobody() -> None:
    start = restart()
    start.recalled(member(1), Height(2**64 - 1), None)
    for index in (2, 3):
        start.recalled(member(index), TIP, None)
    assert start.phase is Phase.VOTING


def test_answers_count_once_and_only_of_other_members() -> None:
    start = restart()
    for _ in range(3):
        start.recalled(member(1), TIP, None)
        start.recalled(ME, TIP, None)
        start.recalled(NodeId("stranger"), TIP, None)
    assert start.needed == 1
    assert start.wanted() == ["m002", "m003"]


@pytest.mark.parametrize(
    "answer", [None, mine(), mine(F, height=7, name=B), mine(X, height=1, view=9)]
)
def test_votes_that_the_log_holds_or_that_are_decided_speak_against_nothing(
    answer: Vote | None,
) -> None:
    start = restart(votes=(mine(),))
    start.recalled(member(1), TIP, answer)
    start.recalled(member(2), TIP, None)
    assert start.phase is Phase.VOTING


def test_votes_that_an_earlier_start_has_given_up_are_not_missed_again() -> None:
    start = restart(silent_below=12)
    start.recalled(member(1), TIP, mine(F, height=11))
    start.recalled(member(2), TIP, None)
    assert start.first_height == 12
    other = restart(silent_below=12)
    other.recalled(member(1), TIP, mine(F, height=12))
    assert other.phase is Phase.FORGOT


def test_member_vouches_for_others_unless_it_has_forgotten_and_not_yet_passed_that() -> None:
    assert restart().may_answer, "a network that lost power as a whole asks itself"
    assert not restart(forgot="the log has a hole").may_answer
    # One more start, while the log is at 7.
    assert [_vouches_at(height, silent_below=9) for height in (7, 8)] == [False, True]


def _vouches_at(height: int, *, silent_below: int) -> bool:
    start = restart(silent_below=silent_below)
    start.entered(member_set(names(4)), Height(height))
    return start.may_answer


def test_member_that_has_passed_what_it_forgot_vouches_for_others_again() -> None:
    start = restart(forgot="the log has a hole")
    for index in (1, 2, 3):
        start.decided(member(index), TIP)
    assert start.first_height == 10
    vouches: list[bool] = []
    for height in (8, 9):
        start.entered(member_set(names(4)), Height(height))
        vouches.append(start.may_answer)
    start.foreign(mine(F, height=10))  # its key runs elsewhere
    assert [*vouches, start.may_answer] == [False, True, False]


@pytest.mark.parametrize(
    "answer",
    [mine(F), mine(name=B), mine(view=1), mine(height=9), mine(X, height=10**9)],
)
def test_vote_newer_than_the_log_means_forgotten_votes(answer: Vote) -> None:
    start = restart(votes=(mine(),))
    start.recalled(member(1), TIP, answer)
    assert start.phase is Phase.FORGOT
    assert str(answer.height) in start.forgot
    start.recalled(member(2), TIP, None)
    start.recalled(member(3), TIP, None)
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
    start.recalled(member(1), TIP, mine(F))
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
    other.recalled(member(1), TIP, None)
    other.recalled(member(2), TIP, None)
    other.foreign(mine(F))
    assert other.phase is Phase.DOUBLED
    assert other.first_height is None
    assert other.wanted() == []


def test_answer_that_comes_late_names_no_double() -> None:
    start = restart()
    start.recalled(member(1), TIP, None)
    start.recalled(member(2), TIP, None)
    start.recalled(member(3), TIP, mine(F))  # cast since
    assert start.phase is Phase.VOTING


def test_only_answers_of_the_current_set_count() -> None:
    start = restart()
    start.recalled(member(1), TIP, None)
    start.entered(member_set(["m000", "m002", "m003", "m004"], epoch=1), Height(8))
    assert start.needed == 2
    start.recalled(member(4), TIP, None)
    start.recalled(member(2), TIP, None)
    assert start.phase is Phase.VOTING


def test_answers_have_one_form_and_convince_by_signature_alone() -> None:
    members = member_set(names(4))
    found = Recollection(members.set_hash, mine())
    for answer in (Answer(TIP, found), Answer(TIP, None)):
        assert decode_answer(encode_answer(answer)) == answer
    assert found.holds(b"m000".ljust(32, b"."), CHAIN, keyed_verify)
    assert not found.holds(b"m001".ljust(32, b"."), CHAIN, keyed_verify)
    other_set = Recollection(Digest(b"s" * 32), mine())
    assert not other_set.holds(b"m000".ljust(32, b"."), CHAIN, keyed_verify)
    encoded = encode_answer(Answer(TIP, found))
    for data in (b"", b"x", encoded[:7], encoded[:9], encoded[:-1], encoded + b"x"):
        with pytest.raises(DecodeError):
            decode_answer(data)
    assert decode_question(encode_question(Height(5))) == 5
    with pytest.raises(DecodeError):
        decode_question(b"\0" * 9)


def test_newest_vote_is_by_height_then_view_then_kind() -> None:
    votes = [mine(), mine(F), mine(X, view=1), mine(height=7, view=9)]
    assert newest_of(votes) == votes[2]
    assert newest_of([]) is None


def test_newest_vote_of_a_height_may_stand_in_any_certificate_of_it() -> None:
    final = certificate(F, 1, B, (1, 2, 3))
    skipped = certificate(X, 0, ZERO_DIGEST, (0, 1, 3))
    assert newest_in([final], 0) is None
    found = newest_in([final, skipped], 0)
    assert found is not None
    assert (found.kind, found.view, found.voter) == (X, 0, 0)
    assert newest_in([skipped, final], 1) == newest_in([final], 1)


def certificate(kind: VoteKind, view: int, name: Digest, signers: tuple[int, ...]) -> Certificate:
    signatures = tuple(bytes([signer]) * 64 for signer in signers)
    return Certificate(kind, Height(8), View(view), name, signers, signatures)


def test_only_the_newest_heights_are_looked_through() -> None:
    assert list(heights_to_look_through(Height(9), Height(6))) == [9, 8, 7]
    assert list(heights_to_look_through(Height(6), Height(9))) == []
    assert len(heights_to_look_through(Height(10**9), Height(0))) == HEIGHTS_LOOKED_THROUGH_MAX
