"""Questions and answers about single entries: what is written is read, and any bytes are judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.replica import entry_wire
from pyrsia_node.replica.entry_wire import ENTRIES_MAX, FOUND_MAX, Found

LEAVES = st.integers(0, 2**53 - 1)


@given(st.lists(LEAVES, max_size=50), st.lists(LEAVES, max_size=50))
def test_found_leaves_survive_the_wire(entries: list[int], statements: list[int]) -> None:
    found = Found(tuple(entries), tuple(statements))
    assert entry_wire.decode_found(entry_wire.encode_found(found)) == found


def test_more_leaves_than_fit_are_cut_off_by_whoever_answers() -> None:
    found = Found(tuple(range(FOUND_MAX + 5)), ())
    assert len(entry_wire.decode_found(entry_wire.encode_found(found)).entries) == FOUND_MAX


@given(st.lists(LEAVES, min_size=1, max_size=ENTRIES_MAX))
def test_asked_entries_survive_the_wire(leaves: list[int]) -> None:
    size = max(leaves) + 1
    assert entry_wire.decode_entries(entry_wire.encode_entries(leaves, size=size)) == (size, leaves)


def test_entries_beyond_the_head_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="leaf 7 is beyond size 7"):
        entry_wire.decode_entries(entry_wire.encode_entries([3, 7], size=7))


@given(
    st.sampled_from(["pypi", "docker"]), st.from_regex(r"[a-z0-9][a-z0-9.-]{0,40}", fullmatch=True)
)
def test_asked_package_survives_the_wire(ecosystem: str, name: str) -> None:
    assert entry_wire.decode_find(entry_wire.encode_find(ecosystem, name)) == (ecosystem, name)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (entry_wire.decode_found, entry_wire.decode_entries, entry_wire.decode_find):
        try:
            decode(data)
        except InvalidInputError:
            continue
