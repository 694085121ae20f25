"""The list form of peer answers: round trip, and only our error for anything else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.replica.catchup_wire import (
    DecisionRange,
    decode_changes,
    decode_first_epoch,
    decode_head,
    decode_range,
    encode_changes,
    encode_first_epoch,
    encode_head,
    encode_range,
    join_prefixed,
    split_prefixed,
)
from pyrsia_node.tlog.trust import SetChange


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


@given(st.integers(0, 2**64 - 1), st.integers(0, 4096), st.integers(0, 2**22))
def test_a_range_survives_the_wire(first: int, count: int, bytes_max: int) -> None:
    request = encode_range(first=first, count=count, bytes_max=bytes_max)
    assert decode_range(request) == DecisionRange(first, count, bytes_max)


@given(st.integers(1, 2**64 - 1))
def test_an_epoch_survives_the_wire(epoch: int) -> None:
    assert decode_first_epoch(encode_first_epoch(epoch)) == epoch


_PART = st.binary(max_size=60)


@given(st.lists(st.builds(SetChange, _PART, _PART, _PART), max_size=8))
def test_set_changes_survive_the_wire(changes: list[SetChange]) -> None:
    assert decode_changes(encode_changes(changes)) == changes


@given(_PART, _PART)
def test_a_head_survives_the_wire(header: bytes, certificate: bytes) -> None:
    assert decode_head(encode_head(header, certificate)) == (header, certificate)


@given(st.binary(max_size=40))
def test_a_range_of_any_bytes_is_a_range_or_our_error(data: bytes) -> None:
    for decode in (decode_range, decode_first_epoch, decode_changes, decode_head):
        with contextlib.suppress(InvalidInputError):
            decode(data)
