"""What is kept of a height convicts the makers of a fork, whatever else is sent beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from consensus import judge as judge_module
from consensus.judge import decode_transcript, encode_transcript
from consensus.types import ZERO_DIGEST, Certificate, Digest, Height, View, VoteKind
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.forks import ASK_INTERVAL_S
from pyrsia_node.replica.transcripts import merged
from tests.fakes.fork_watch import Watch
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

A, B = Digest(b"a" * 32), Digest(b"b" * 32)
N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def watch() -> Watch:
    """A chain of seven members and one block, which was decided in view 0."""
    local = LocalChain(7)
    local.commit(make.request(local.members[0].id))
    return Watch(local)


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def variants(watch: Watch, kind: VoteKind, name: Digest, *, view: int) -> list[Certificate]:
    """Return every choice of a quorum of signers of one statement: 21 of them."""
    return [
        watch.signed(kind, name, height=1, view=view, signers=signers)
        for signers in combinations(range(7), 5)
    ]


def test_choices_of_signers_take_the_room_of_one_certificate(watch: Watch) -> None:
    for one in variants(watch, X, ZERO_DIGEST, view=0):
        watch.transcripts.keep(1, [one])
    (kept,) = (one for one in watch.transcripts.certificates(1) if one.kind is X)
    assert kept.signers == tuple(range(7))
    # 1-5, then one more member, then the last one: nothing else was news.
    assert watch.transcripts.additions <= 3


def test_what_convicts_comes_before_what_does_not(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transcript that holds four certificates of many names the traitors all the same."""
    monkeypatch.setattr(judge_module, "TRANSCRIPT_CERTIFICATES_MAX", 4)
    noise = [
        watch.signed(X, ZERO_DIGEST, height=1, view=view, signers=tuple(range(2, 7)))
        for view in range(1, 20)
    ]
    skipped = watch.signed(X, ZERO_DIGEST, height=1, view=0, signers=(2, 3, 4, 5, 6))
    other = watch.signed(F, B, height=1, view=30, signers=(2, 3, 4, 5, 6))
    watch.transcripts.keep(1, [*noise, skipped])
    watch.forks.look_at_core(1, [other])
    encoded = watch.transcripts.answer((1).to_bytes(8, "big"))
    found = decode_transcript(encoded, n=7)
    assert [(one.kind, one.view) for one in found] == [(F, 0), (F, 30), (X, 0), (X, 1)]


def test_verdict_is_reached_once_until_something_is_added(watch: Watch) -> None:
    watch.forks.look_at_core(1, [watch.signed(F, B, height=1, view=0, signers=(2, 3, 4, 5, 6))])
    assert watch.forks.forks == (1,)
    first = watch.forks.verdict(1)
    assert len(first.culprits) == 5
    before = watch.checks.count
    for _ in range(10):
        assert watch.forks.words
        assert watch.forks.verdict(1) is first
    assert watch.checks.count == before
    watch.transcripts.keep(1, [watch.signed(F, B, height=1, view=0, signers=(0, 2, 3, 4, 5))])
    assert len(watch.forks.verdict(1).culprits) == 6
    assert watch.checks.count > before


async def test_answer_that_says_nothing_new_costs_no_signature(
    watch: Watch, autojump_clock: MockClock
) -> None:
    """A peer that repeats itself in hundreds of forms cannot keep this node busy."""
    asked = trio.Event()
    answers = [
        # The first time it is news: not enough to name anybody, as view 0's are still unknown.
        encode_transcript(variants(watch, N, B, view=30), n=7),
        encode_transcript(reversed(variants(watch, N, B, view=30)), n=7),
    ]

    async def answer(_to: PeerId, _method: str, _payload: bytes) -> bytes:
        if len(answers) > 1:
            return answers.pop(0)
        asked.set()
        return answers[0]

    watch.peers.peers, watch.peers.answer = [PeerId("liar")], answer
    watch.forks.look_at_core(1, [watch.signed(F, B, height=1, view=30, signers=(2, 3, 4, 5, 6))])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.forks.run)
        await trio.sleep(1)
        before, additions = watch.checks.count, watch.transcripts.additions
        await asked.wait()
        await trio.sleep(3 * ASK_INTERVAL_S)
        nursery.cancel_scope.cancel()
    assert watch.forks.verdict(1).culprits == ()
    # One more verdict over what the first answer added: two times seven votes and five.
    assert watch.checks.count == before + 7 + 7 + 5
    assert watch.transcripts.additions == additions


statements = st.tuples(st.sampled_from([N, X, F]), st.integers(0, 3), st.sampled_from([A, B]))


def said(statement: tuple[VoteKind, int, Digest], signers: Sequence[int]) -> Certificate:
    kind, view, block = statement
    signers = tuple(sorted(signers))
    return Certificate(
        kind,
        Height(1),
        View(view),
        ZERO_DIGEST if kind is X else block,
        signers,
        tuple(bytes([one]) * 64 for one in signers),
    )


certificates = st.builds(said, statements, st.sets(st.integers(0, 6), min_size=5).map(list))


@given(st.lists(certificates, max_size=12))
def test_merging_loses_no_vote_and_adds_none(given_: list[Certificate]) -> None:
    together = merged(given_)
    assert len({(one.kind, one.view, one.block_hash) for one in together}) == len(together)

    def votes(several: Sequence[Certificate]) -> set[tuple[object, ...]]:
        return {
            (one.kind, one.view, one.block_hash, signer, signature)
            for one in several
            for signer, signature in zip(one.signers, one.signatures, strict=True)
        }

    assert votes(together) == votes(given_)
    assert merged(together) == together
    assert merged(reversed(given_)) == together
    assert decode_transcript(encode_transcript(together, n=7), n=7) == together
