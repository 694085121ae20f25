"""Proofs and transcripts from outside: one encoding each, and only our error escapes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.contradiction import (
    Statement,
    StatementKind,
    contradiction,
    decode_contradiction,
    encode_contradiction,
)
from consensus.errors import DecodeError
from consensus.judge import decode_transcript, encode_transcript
from consensus.types import ZERO_DIGEST, Certificate, Digest, Height, NodeId, View
from tests.property.consensus.values import certificates

names = st.binary(min_size=32, max_size=32).filter(lambda name: name != ZERO_DIGEST).map(Digest)
signatures = st.binary(min_size=64, max_size=64)


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    kind = draw(st.sampled_from(StatementKind))
    name = ZERO_DIGEST if kind is StatementKind.NULLIFY else draw(names)
    return Statement(kind, name, draw(signatures))


@given(
    st.tuples(statements(), statements()),
    names,
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**32 - 1),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128),
)
def test_proof_survives_the_round_trip_or_is_none(
    pair: tuple[Statement, Statement], set_hash: Digest, height: int, view: int, culprit: str
) -> None:
    try:
        proof = contradiction(NodeId(culprit), set_hash, Height(height), View(view), pair)
    except DecodeError:
        return
    assert decode_contradiction(encode_contradiction(proof)) == proof


@given(st.binary(max_size=400))
def test_arbitrary_bytes_fail_as_decode_errors_alone(data: bytes) -> None:
    for decode in (decode_contradiction, lambda raw: decode_transcript(raw, n=4)):
        try:
            decode(data)
        except DecodeError:
            continue


@given(st.lists(certificates(n=4), max_size=5), st.data())
def test_transcript_with_a_flipped_byte_is_another_or_none(
    found: list[Certificate], data: st.DataObject
) -> None:
    encoded = encode_transcript(found, n=4)
    assert decode_transcript(encoded, n=4) == tuple(found)
    if not encoded:
        return
    at = data.draw(st.integers(0, len(encoded) - 1))
    flipped = encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
    try:
        assert decode_transcript(flipped, n=4) != tuple(found)
    except DecodeError:
        return
