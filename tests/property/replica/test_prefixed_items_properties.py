"""The list form of peer answers: round trip, and only our error for anything else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.replica.follow import decode_range, encode_range, join_prefixed, split_prefixed


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_joined_items_come_apart_again(items: list[bytes]) -> None:
    assert split_prefixed(join_prefixed(items), items_max=20) == items


@given(st.binary(max_size=200))
def test_any_bytes_are_items_or_our_error(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        assert join_prefixed(split_prefixed(data, items_max=64)) == data


@given(st.lists(st.binary(max_size=3), min_size=3, max_size=8))
def test_more_items_than_allowed_are_refused(items: list[bytes]) -> None:
    refused = False
    try:
        split_prefixed(join_prefixed(items), items_max=2)
    except InvalidInputError:
        refused = True
    assert refused


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**22))
def test_a_range_survives_the_wire(first: int, bytes_max: int) -> None:
    assert decode_range(encode_range(first=first, bytes_max=bytes_max)) == (first, bytes_max)


@given(st.binary(max_size=40))
def test_a_range_of_any_bytes_is_a_range_or_our_error(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        decode_range(data)
