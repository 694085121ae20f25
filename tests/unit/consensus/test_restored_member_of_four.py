"""Four members, one traitor, one that comes back from an image without its NULLIFY.

Real signatures; every honest vote is one that the signer allows. m0, m1 and the traitor nullify
view 0 of height 1, then m1, m2 and the traitor decide c in view 1; m1 commits it, m2 has notarized
b in view 0 and has not heard of the decision. If the restored m0 voted now, b could become final
as well.
"""

from __future__ import annotations

import pytest

from consensus import ed25519
from consensus.amnesia import Phase, Recollection, Restart, newest_in
from consensus.ingress import verify_certificate
from consensus.signer import Signer
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Digest,
    Height,
    Member,
    MemberSet,
    NodeId,
    View,
    Vote,
    VoteKind,
)
from tests.unit.consensus.committee import F, N, X

SEEDS = [bytes([index + 1]) * 32 for index in range(4)]
NAMES = [NodeId(f"m{index}") for index in range(4)]
MEMBERS = MemberSet(
    epoch=0,
    members=tuple(
        Member(name, ed25519.public_key(seed)) for name, seed in zip(NAMES, SEEDS, strict=True)
    ),
    set_hash=Digest(b"\1" * 32),
)
CHAIN = Digest(b"\2" * 32)
B, C = Digest(b"b" * 32), Digest(b"c" * 32)
H = Height(1)
M0, M1, M2, TRAITOR = range(4)


def signer(index: int, *, first_height: Height | None = H) -> Signer:
    made = Signer(
        CHAIN,
        NAMES[index],
        ed25519.public_key(SEEDS[index]),
        ed25519.signer(SEEDS[index]),
        first_height=first_height,
    )
    made.enter(H, MEMBERS)
    return made


class Scene:
    """What was signed before the image was put back."""

    def __init__(self) -> None:
        self.m1, self.m2 = signer(M1), signer(M2)
        self.notarized_b = self._vote(self.m2, M2, N, 0, B)
        self.skipped = self._certify(X, 0, ZERO_DIGEST, {M0: signer(M0), M1: self.m1})
        self._certify(N, 1, C, {M1: self.m1, M2: self.m2})
        self.final_c = self._certify(F, 1, C, {M1: self.m1, M2: self.m2})

    def _vote(self, by: Signer, index: int, kind: VoteKind, view: int, name: Digest) -> Vote:
        return by.sign_vote(kind, H, View(view), name, voter=index)

    def _certify(
        self, kind: VoteKind, view: int, name: Digest, honest: dict[int, Signer]
    ) -> Certificate:
        by = {**honest, TRAITOR: signer(TRAITOR)}
        votes = [self._vote(by[index], index, kind, view, name) for index in sorted(by)]
        made = Certificate(
            kind,
            H,
            View(view),
            name,
            tuple(vote.voter for vote in votes),
            tuple(vote.signature for vote in votes),
        )
        assert verify_certificate(made, MEMBERS, CHAIN, ed25519.verify)
        return made

    def decide_b_too(self, restored: Signer) -> Certificate:
        """Complete a second decision of the height with the restored member's votes."""
        self._certify(N, 0, B, {M0: restored, M2: self.m2})
        return self._certify(F, 0, B, {M0: restored, M2: self.m2})


@pytest.fixture
def scene() -> Scene:
    return Scene()


def restarted() -> Restart:
    return Restart(NAMES[M0], MEMBERS, committed=Height(0), votes=[])


def test_restored_member_that_voted_would_fork_the_log(scene: Scene) -> None:
    final_b = scene.decide_b_too(signer(M0))
    assert final_b.height == scene.final_c.height
    assert final_b.block_hash != scene.final_c.block_hash


def test_traitor_and_one_honest_member_are_not_enough(scene: Scene) -> None:
    start = restarted()
    start.recalled(NAMES[TRAITOR], Height(0), None)
    start.recalled(NAMES[M1], Height(1), None)
    assert start.first_height is None
    assert not start.lacks_only_word, "m1 has committed a height that m0 has not"


def test_who_has_committed_the_height_finds_the_nullify_in_its_transcript(scene: Scene) -> None:
    assert newest_in([scene.final_c], M0) is None
    found = newest_in([scene.final_c, scene.skipped], M0)
    assert found is not None
    assert Recollection(MEMBERS.set_hash, found).holds(
        ed25519.public_key(SEEDS[M0]), CHAIN, ed25519.verify
    )
    start = restarted()
    start.recalled(NAMES[M1], Height(1), found)
    assert start.phase is Phase.FORGOT
    assert "NULLIFY of height 1, view 0" in start.forgot


def test_once_the_height_is_committed_nothing_more_can_be_signed_there() -> None:
    start = restarted()
    for index in (M1, M2, TRAITOR):
        start.recalled(NAMES[index], Height(1), None)
    waiting = start.wanted()
    start.entered(MEMBERS, H)
    assert (waiting, start.first_height) == ([NAMES[M1], NAMES[M2], NAMES[TRAITOR]], 0)
    restored = signer(M0)
    restored.enter(Height(2), MEMBERS)
    assert not restored.may_sign(H)
