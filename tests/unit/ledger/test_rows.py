"""Rows of single leaves: what belongs to a request, one spelling of addresses, no other error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.rows import Block, Row, read_leaf, repository_key, rows_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.search_terms import UNIT_TYPES

BLOCK = Block(height=3, first=10, end=20, time_ms=1_000)
REQUEST = "ab" * 32


def rows(leaf: dict[str, Any]) -> list[Row]:
    data = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()
    return rows_of(data, read_leaf(data), 12, BLOCK, network_id=bytes(32))


@pytest.mark.parametrize("kind", ["attest_commit", "unsealed", "level"])
def test_steps_of_a_request_are_listed_with_it_and_are_no_hits(kind: str) -> None:
    assert rows({"t": kind, "req": REQUEST}) == [("entry", (12, kind, REQUEST))]


def test_type_of_a_later_rule_is_an_entry_alone() -> None:
    assert rows({"t": "of_tomorrow"}) == [("entry", (12, "of_tomorrow", None))]


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/psf/requests",
        "HTTPS://www.GitHub.com/psf/Requests.git",
        "git+ssh://git@github.com:22/psf/requests",
        "git@github.com:psf/requests.git",
        "github.com/psf/requests/?tab=readme#top",
    ],
)
def test_address_has_one_spelling(address: str) -> None:
    assert repository_key(address) == "github.com/psf/requests"


@pytest.mark.parametrize("text", ["", "UNKNOWN", "mailto:a", "/psf/requests", "https://"])
def test_text_that_is_no_address_has_no_key(text: str) -> None:
    assert repository_key(text) is None


_KEYS = st.sampled_from(
    ["purl", "req", "doc", "items", "voter", "members", "metadata", "files", "sha256", "recipe"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(REQUEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(
    st.sampled_from([*sorted(UNIT_TYPES), "attest_batch", "attest_commit", "result", "genesis"]),
    st.dictionaries(_KEYS, _JSON),
)
def test_only_our_error_escapes_from_leaves_of_any_shape(kind: str, more: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInputError):
        rows({"t": kind, **more})


@given(st.binary(max_size=60))
def test_only_our_error_escapes_from_bytes_of_any_kind(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        read_leaf(data)
