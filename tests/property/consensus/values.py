"""Hypothesis strategies for the values of the protocol, and ways to damage their bytes."""

from __future__ import annotations

from hypothesis import strategies as st

from consensus import wire
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Message,
    Proposal,
    Status,
    View,
    Vote,
    VoteKind,
)

sizes = st.integers(1, 40)
heights = st.integers(0, wire.HEIGHT_MAX).map(Height)
views = st.integers(0, 2**32 - 1).map(View)
digests = st.binary(min_size=32, max_size=32).filter(lambda one: one != ZERO_DIGEST).map(Digest)
signatures = st.binary(min_size=64, max_size=64)


def _names(kind: VoteKind) -> st.SearchStrategy[Digest]:
    return st.just(ZERO_DIGEST) if kind is VoteKind.NULLIFY else digests


@st.composite
def votes(draw: st.DrawFn, *, n: int) -> Vote:
    kind = draw(st.sampled_from(VoteKind))
    return Vote(
        kind,
        draw(heights),
        draw(views),
        draw(_names(kind)),
        draw(st.integers(0, n - 1)),
        draw(signatures),
    )


@st.composite
def certificates(
    draw: st.DrawFn,
    *,
    n: int,
    kind: VoteKind | None = None,
    height: Height | None = None,
    view: View | None = None,
    name: Digest | None = None,
) -> Certificate:
    kind = kind or draw(st.sampled_from(VoteKind))
    quorum = n - (n - 1) // 3
    count = draw(st.integers(quorum, n))
    signers = tuple(sorted(draw(st.permutations(range(n)))[:count]))
    seed = draw(signatures)
    return Certificate(
        kind,
        draw(heights) if height is None else height,
        draw(views) if view is None else view,
        draw(_names(kind)) if name is None else name,
        signers,
        tuple(bytes([signer]) + seed[1:] for signer in signers),
    )


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    header = draw(st.binary(min_size=1, max_size=60))
    parent = draw(st.binary(max_size=60))
    transactions = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
    return wire.encode_block(header, parent, transactions)


@st.composite
def proposals(draw: st.DrawFn, *, n: int) -> Proposal:
    height = draw(heights)
    view = draw(st.integers(0, 40).map(View))
    block = draw(blocks())
    notarization = None
    if view > 0 and draw(st.booleans()):
        notarization = draw(
            certificates(
                n=n,
                kind=VoteKind.NOTARIZE,
                height=height,
                view=View(draw(st.integers(0, view - 1))),
                name=wire.block_hash(block),
            )
        )
    skipped = draw(st.sets(st.integers(0, view - 1), max_size=3)) if view > 0 else set()
    nullifications = tuple(
        draw(certificates(n=n, kind=VoteKind.NULLIFY, height=height, view=View(one)))
        for one in sorted(skipped)
    )
    return Proposal(height, view, block, notarization, nullifications, draw(signatures))


@st.composite
def decisions(draw: st.DrawFn, *, n: int) -> Decision:
    block = draw(blocks())
    name = wire.block_hash(block)
    return Decision(block, draw(certificates(n=n, kind=VoteKind.FINALIZE, name=name)))


@st.composite
def statuses(draw: st.DrawFn) -> Status:
    count = draw(st.integers(0, 4))
    points = st.lists(st.integers(0, 500), min_size=2 * count, max_size=2 * count, unique=True)
    ends = sorted(draw(points))
    # Neighbouring ranges would be one range, so every second gap is widened.
    ranges = tuple(
        (View(first + 2 * index), View(last + 2 * index))
        for index, (first, last) in enumerate(zip(ends[::2], ends[1::2], strict=True))
    )
    bodies = tuple(sorted(draw(st.sets(digests, max_size=3))))
    return Status(draw(heights), draw(views), ranges, bodies)


def messages(n: int) -> st.SearchStrategy[Message]:
    return st.one_of(votes(n=n), certificates(n=n), proposals(n=n), decisions(n=n), statuses())
