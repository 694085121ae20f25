"""Frames beside those of consensus: exact both ways, and no error on anything hostile."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.sim.frames import (
    body_asked_frame,
    body_frame,
    decisions_asked_frame,
    decisions_frame,
    read_body_asked,
    read_decisions,
    read_height,
)
from consensus.types import Digest, Height

HEIGHTS = st.integers(0, 2**64 - 1).map(Height)
HASHES = st.binary(min_size=32, max_size=32).map(Digest)


@given(height=HEIGHTS, name=HASHES, body=st.binary(max_size=100))
def test_questions_and_bodies_come_back(height: Height, name: Digest, body: bytes) -> None:
    assert read_body_asked(body_asked_frame(height, name)) == (height, name)
    assert read_height(decisions_asked_frame(height)) == (height, b"")
    assert read_height(body_frame(height, body)) == (height, body)


@given(decisions=st.lists(st.binary(max_size=50), max_size=6))
def test_decisions_come_back(decisions: list[bytes]) -> None:
    assert read_decisions(decisions_frame(decisions)) == decisions


@given(frame=st.binary(min_size=1, max_size=80))
def test_anything_else_is_refused_without_an_error(frame: bytes) -> None:
    asked = read_body_asked(frame)
    assert asked is None or body_asked_frame(*asked)[1:] == frame[1:]
    decisions = read_decisions(frame)
    assert decisions is None or decisions_frame(decisions)[1:] == frame[1:]
    height = read_height(frame)
    assert (height is None) == (len(frame) < 9)
