"""Proof of a crime stands by itself, and the judge of a fork names its makers and nobody else."""

from __future__ import annotations

from itertools import combinations

import pytest

from consensus.contradiction import (
    Contradiction,
    Crime,
    contradiction_of,
    decode_contradiction,
    encode_contradiction,
)
from consensus.errors import DecodeError
from consensus.judge import (
    TRANSCRIPT_CERTIFICATES_MAX,
    decode_transcript,
    encode_transcript,
    judge,
)
from consensus.own_votes import foreign_vote
from consensus.quorum import faults, quorum
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from tests.unit.consensus.committee import (
    CHAIN,
    GENESIS_TIP,
    F,
    N,
    X,
    certificate_of,
    keyed_verify,
    make_block,
    member_set,
    names,
    proposal_of,
    vote_of,
)

SET = member_set(names(4))
A, B = Digest(b"a" * 32), Digest(b"b" * 32)
ONE = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP)
TWO = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP, transactions=(b"other",))


def vote(kind: VoteKind, name: Digest = ZERO_DIGEST, node: str = "m001") -> Vote:
    return vote_of(node, SET, kind, view=3, block_hash=name)


PAIRS: list[tuple[Vote | Proposal, Vote | Proposal, Crime]] = [
    (vote(N, A), vote(N, B), Crime.TWO_NOTARIZATIONS),
    (vote(F, A), vote(F, B), Crime.TWO_FINALIZATIONS),
    (vote(N, A), vote(F, B), Crime.NOTARIZED_ANOTHER),
    (vote(X), vote(F, A), Crime.SKIPPED_AND_FINALIZED),
    (
        proposal_of("m001", SET, ONE, view=3),
        proposal_of("m001", SET, TWO, view=3),
        Crime.TWO_PROPOSALS,
    ),
]


def proof_of(one: Vote | Proposal, two: Vote | Proposal) -> Contradiction:
    return contradiction_of(NodeId("m001"), SET.set_hash, one, two)


def key_of(node: str) -> bytes:
    return node.encode().ljust(32, b".")


@pytest.mark.parametrize(("one", "two", "crime"), PAIRS)
def test_every_kind_of_pair_is_a_proof_that_stands_by_itself(
    one: Vote | Proposal, two: Vote | Proposal, crime: Crime
) -> None:
    proof = proof_of(one, two)
    assert proof.crime is crime
    assert proof == proof_of(two, one), "a crime has one proof, whoever finds it"
    assert proof.holds(key_of("m001"), CHAIN, keyed_verify)
    assert not proof.holds(key_of("m002"), CHAIN, keyed_verify), "nobody else is accused"
    assert not proof.holds(key_of("m001"), Digest(b"c" * 32), keyed_verify)
    assert decode_contradiction(encode_contradiction(proof)) == proof


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (vote(X), vote(N, A)),
        (vote(N, A), vote(F, A)),
        (vote(N, A), vote(N, A)),
        (vote(N, A), proposal_of("m001", SET, ONE, view=3)),
    ],
)
def test_what_an_honest_member_may_sign_is_no_proof(
    one: Vote | Proposal, two: Vote | Proposal
) -> None:
    with pytest.raises(DecodeError, match="do not contradict"):
        proof_of(one, two)


def test_proof_has_one_encoding() -> None:
    encoded = encode_contradiction(proof_of(vote(N, A), vote(N, B)))
    head, statement = 44, 97
    first, second = encoded[head : head + statement], encoded[head + statement :][:statement]
    culprit = encoded[head + 2 * statement :]
    wrong = {
        "wrong order": encoded[:head] + second + first + culprit,
        "cut short": encoded[: head + statement],
        "unknown kind": encoded[:head] + b"\x05" + encoded[head + 1 :],
        "names a block wrongly": encoded[:head] + b"\x02" + encoded[head + 1 :],
        "culprit of 0 bytes": encoded[: head + 2 * statement],
        "culprit of 129 bytes": encoded[: head + 2 * statement] + b"m" * 129,
        "at height": encoded[:32] + b"\xff" * 8 + encoded[40:],
    }
    for reason, data in wrong.items():
        with pytest.raises(DecodeError, match=reason):
            decode_contradiction(data)


def judged(*certificates: Certificate, n: int = 4) -> tuple[bool, tuple[NodeId, ...]]:
    verdict = judge(
        certificates,
        height=Height(1),
        members=member_set(names(n)),
        chain_id=CHAIN,
        verify=keyed_verify,
    )
    return verdict.is_fork, verdict.culprits


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10])
def test_two_final_blocks_of_one_view_convict_more_than_f(n: int) -> None:
    members = member_set(names(n))
    low, high = range(quorum(n)), range(n - quorum(n), n)
    is_fork, culprits = judged(
        certificate_of(members, F, view=2, block_hash=A, signers=low),
        certificate_of(members, F, view=2, block_hash=B, signers=high),
        n=n,
    )
    assert is_fork
    assert len(culprits) > faults(n)
    assert set(culprits) == {members.members[index].id for index in set(low) & set(high)}


@pytest.mark.parametrize("skip", [X, N])
def test_final_blocks_of_two_views_convict_with_what_allowed_the_second(skip: VoteKind) -> None:
    name = ZERO_DIGEST if skip is X else B
    first = certificate_of(SET, F, view=0, block_hash=A, signers=(0, 1, 2))
    second = certificate_of(SET, F, view=1, block_hash=B, signers=(1, 2, 3))
    assert judged(first, second) == (True, ())
    allowed = certificate_of(SET, skip, view=0, block_hash=name, signers=(1, 2, 3))
    assert judged(first, second, allowed) == (True, ("m001", "m002"))


def test_certificates_that_do_not_hold_convict_nobody() -> None:
    first = certificate_of(SET, F, view=0, block_hash=A)
    forged = Certificate(F, Height(1), View(0), B, (0, 1, 2), first.signatures)
    other_height = certificate_of(SET, F, view=0, block_hash=B, height=2)
    too_few = certificate_of(SET, F, view=0, block_hash=B, signers=(0, 1))
    assert judged(first, forged, other_height, too_few) == (False, ())


def test_honest_course_of_a_height_convicts_nobody() -> None:
    course = [
        certificate_of(SET, N, view=0, block_hash=A, signers=(0, 1, 2)),
        certificate_of(SET, X, view=0, signers=(1, 2, 3)),
        certificate_of(SET, N, view=1, block_hash=A, signers=(0, 1, 3)),
        certificate_of(SET, F, view=1, block_hash=A, signers=(0, 2, 3)),
    ]
    for part in combinations(course, 3):
        assert judged(*part) == (False, ())


def test_transcript_survives_the_round_trip_within_its_limit() -> None:
    course = (
        certificate_of(SET, X, view=0),
        certificate_of(SET, N, view=1, block_hash=A, signers=(0, 1, 2, 3)),
    )
    assert decode_transcript(encode_transcript(course, n=4), n=4) == course
    many = encode_transcript([course[0]] * (TRANSCRIPT_CERTIFICATES_MAX + 5), n=4)
    assert len(decode_transcript(many, n=4)) == TRANSCRIPT_CERTIFICATES_MAX
    with pytest.raises(DecodeError, match="more than"):
        decode_transcript(many + encode_transcript(course, n=4), n=4)
    with pytest.raises(DecodeError):
        decode_transcript(many[:-1], n=4)


def test_vote_of_ours_that_we_did_not_cast_is_noticed_wherever_it_comes() -> None:
    ours = certificate_of(SET, F, view=0, block_hash=A, signers=(0, 1, 2))
    without_us = certificate_of(SET, F, view=0, block_hash=A, signers=(1, 2, 3))
    skipped = certificate_of(SET, X, view=0, signers=(0, 1, 2))
    proposal = proposal_of("m001", SET, ONE, view=1, nullifications=(skipped,))

    def found(message: Certificate | Decision | Proposal, *, knows: bool) -> Vote | None:
        return foreign_vote(message, me=NodeId("m000"), members=SET, has_cast=lambda _vote: knows)

    for message in (ours, Decision(ONE, ours), proposal):
        stranger = found(message, knows=False)
        assert stranger is not None
        assert stranger.voter == 0
        assert found(message, knows=True) is None
    assert found(without_us, knows=False) is None
    assert found(Decision(ONE, without_us), knows=False) is None
