"""The signer refuses by itself whatever would contradict what it signed before."""

from __future__ import annotations

import pytest

from consensus.errors import SignerRefusal
from consensus.signer import GENESIS, Signer
from consensus.types import (
    ZERO_DIGEST,
    Digest,
    Height,
    MemberSet,
    NodeId,
    View,
    Vote,
    VoteKind,
)
from tests.unit.consensus.committee import (
    CHAIN,
    F,
    N,
    X,
    keyed_public,
    keyed_sign,
    rotated,
    vote_of,
)
from tests.unit.consensus.first_height import SET

A, B = Digest(b"a" * 32), Digest(b"b" * 32)


def signer_of(node: str, *, first_height: Height | None = GENESIS) -> Signer:
    """A signer that holds the key of ``node`` and takes itself for m000."""
    me = NodeId("m000")
    return Signer(CHAIN, me, keyed_public(node), keyed_sign(node), first_height=first_height)


def fresh(*, first_height: Height | None = GENESIS) -> Signer:
    signer = signer_of("m000", first_height=first_height)
    signer.enter(Height(1), SET)
    return signer


def sign(signer: Signer, kind: VoteKind, name: Digest, *, height: int = 1, view: int = 0) -> Vote:
    return signer.sign_vote(kind, Height(height), View(view), name, voter=0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((N, A), (N, B)),
        ((F, A), (F, B)),
        ((N, A), (F, B)),
        ((F, A), (N, B)),
        ((F, A), (N, A)),
        ((X, ZERO_DIGEST), (N, A)),
        ((X, ZERO_DIGEST), (F, A)),
        ((F, A), (X, ZERO_DIGEST)),
    ],
)
def test_signer_refuses_the_second_of_two_votes_that_contradict(
    first: tuple[VoteKind, Digest], second: tuple[VoteKind, Digest]
) -> None:
    signer = fresh()
    sign(signer, *first)
    with pytest.raises(SignerRefusal):
        sign(signer, *second)
    sign(signer, *second, view=1)


def test_signer_allows_a_nullification_after_a_notarization() -> None:
    signer = fresh()
    sign(signer, N, A)
    assert sign(signer, X, ZERO_DIGEST).kind is X


def test_signer_gives_the_same_vote_again() -> None:
    signer = fresh()
    assert sign(signer, N, A) == sign(signer, N, A) == vote_of("m000", SET, N, view=0, block_hash=A)


def test_signer_remembers_votes_of_an_earlier_life() -> None:
    signer = signer_of("m000")
    signer.restore_vote(vote_of("m000", SET, X, view=0, height=2))
    signer.enter(Height(1), SET)
    signer.enter(Height(2), SET)
    with pytest.raises(SignerRefusal, match="nullified"):
        sign(signer, F, A, height=2)


def test_signer_refuses_committed_heights() -> None:
    signer = fresh()
    signer.enter(Height(2), SET)
    with pytest.raises(SignerRefusal, match="committed 1"):
        sign(signer, N, A, height=1)


def test_silent_signer_signs_nothing_until_the_height_it_is_given() -> None:
    signer = fresh(first_height=None)
    with pytest.raises(SignerRefusal):
        sign(signer, N, A)
    signer.resume(Height(3))
    with pytest.raises(SignerRefusal):
        sign(signer, N, A, height=2)
    signer.enter(Height(2), SET)
    with pytest.raises(SignerRefusal, match="first 3"):
        sign(signer, N, A, height=2)
    signer.enter(Height(3), SET)
    assert sign(signer, N, A, height=3).height == 3


def test_signer_proposes_one_block_a_view() -> None:
    signer = fresh()
    one = signer.sign_proposal(Height(1), View(0), A)
    assert signer.sign_proposal(Height(1), View(0), A) == one
    with pytest.raises(SignerRefusal, match="another block"):
        signer.sign_proposal(Height(1), View(0), B)
    signer.sign_proposal(Height(1), View(1), B)


def test_signer_proposes_nothing_in_a_view_it_nullified() -> None:
    signer = fresh()
    sign(signer, X, ZERO_DIGEST)
    with pytest.raises(SignerRefusal, match="nullified"):
        signer.sign_proposal(Height(1), View(0), A)


def test_proposal_of_an_earlier_life_binds() -> None:
    signer = signer_of("m000")
    signer.restore_proposal(Height(1), View(0), A)
    signer.enter(Height(1), SET)
    with pytest.raises(SignerRefusal):
        signer.sign_proposal(Height(1), View(0), B)


def test_silenced_signer_signs_nothing_more_though_it_remembers() -> None:
    signer = fresh()
    vote = sign(signer, N, A)
    assert signer.has_cast(vote)
    assert not signer.has_cast(vote_of("m000", SET, N, view=0, block_hash=B))
    signer.silence()
    assert not signer.may_sign(Height(1))
    with pytest.raises(SignerRefusal):
        sign(signer, X, ZERO_DIGEST)
    assert signer.has_cast(vote)


# -- whose key the set names -------------------------------------------------------------------


def test_signer_signs_nothing_from_the_height_on_whose_set_names_another_key() -> None:
    signer = fresh()
    sign(signer, N, A)
    signer.enter(Height(2), rotated(SET, "m000"))
    assert not signer.may_sign(Height(2))
    for kind, name in ((N, A), (F, A), (X, ZERO_DIGEST)):
        with pytest.raises(SignerRefusal, match="does not name this vote key for m000"):
            sign(signer, kind, name, height=2)
    with pytest.raises(SignerRefusal, match="does not name this vote key"):
        signer.sign_proposal(Height(2), View(0), A)
    assert signer.votes(Height(2)) == []


def test_new_key_signs_from_the_height_on_whose_set_names_it_and_not_before() -> None:
    signer = signer_of("m000 again")
    signer.enter(Height(1), SET)
    with pytest.raises(SignerRefusal, match="does not name this vote key"):
        sign(signer, N, A)
    signer.enter(Height(2), rotated(SET, "m000"))
    assert sign(signer, N, A, height=2).voter == 0


def test_key_of_another_member_is_not_this_members_key() -> None:
    signer = signer_of("m001")
    signer.enter(Height(1), SET)
    assert not signer.may_sign(Height(1))
    with pytest.raises(SignerRefusal):
        sign(signer, N, A)


def test_rotation_of_another_member_changes_nothing_for_this_one() -> None:
    signer = fresh()
    signer.enter(Height(2), rotated(SET, "m001"))
    assert sign(signer, N, A, height=2).height == 2


def test_signer_outside_the_set_signs_nothing() -> None:
    signer = signer_of("m000")
    rest = MemberSet(1, SET.members[1:], SET.set_hash)
    signer.enter(Height(1), rest)
    with pytest.raises(SignerRefusal):
        sign(signer, X, ZERO_DIGEST)


def test_signer_signs_for_no_height_whose_set_it_does_not_know() -> None:
    signer = fresh()
    with pytest.raises(SignerRefusal, match="only the next height"):
        sign(signer, N, A, height=2)
    assert not signer.may_sign(Height(2))


def test_signer_signs_nothing_before_it_knows_a_set() -> None:
    with pytest.raises(SignerRefusal):
        sign(signer_of("m000"), N, A)
