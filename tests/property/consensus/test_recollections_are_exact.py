"""Start questions and their answers: one encoding each, and no bytes that break the reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.amnesia import (
    ANSWER_BYTES_MAX,
    Answer,
    Recollection,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
)
from consensus.errors import DecodeError
from consensus.types import Digest, Height
from tests.property.consensus.values import votes

HEIGHTS = st.integers(0, 2**64 - 1).map(Height)
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
ANSWERS = st.builds(Answer, HEIGHTS, st.none() | st.builds(Recollection, DIGESTS, votes(n=100)))


@given(answer=ANSWERS)
def test_answer_is_what_was_encoded(answer: Answer) -> None:
    encoded = encode_answer(answer)
    assert len(encoded) <= ANSWER_BYTES_MAX
    assert decode_answer(encoded) == answer


@given(height=HEIGHTS)
def test_question_is_what_was_encoded(height: Height) -> None:
    assert decode_question(encode_question(height)) == height


@given(data=st.binary(max_size=2 * ANSWER_BYTES_MAX) | st.binary(min_size=151, max_size=151))
def test_any_bytes_are_an_answer_of_one_encoding_or_refused(data: bytes) -> None:
    try:
        answer = decode_answer(data)
    except DecodeError:
        return
    assert encode_answer(answer) == data


@given(answer=ANSWERS, size=st.integers(0, ANSWER_BYTES_MAX - 1))
def test_answer_that_was_cut_off_is_refused_or_says_less(answer: Answer, size: int) -> None:
    encoded = encode_answer(answer)
    cut = encoded[:size]
    if len(cut) == 8:
        assert decode_answer(cut) == Answer(answer.tip, None)
    elif len(cut) < len(encoded):
        with pytest.raises(DecodeError):
            decode_answer(cut)
