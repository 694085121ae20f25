"""Digests in documents: one spelling."""

from __future__ import annotations

import pytest

from pyrsia_node.model.digest import is_hex, parse_sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError


def test_sha256_of_the_empty_string_is_the_published_value() -> None:
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "A" * 64, "0x" + "0" * 62, " " + "0" * 63, "\u0660" * 64]
)
def test_other_spelling_of_a_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="lock"):
        parse_sha256(text, what="lock")


def test_digest_is_returned_as_written() -> None:
    assert parse_sha256("ab" * 32) == "ab" * 32
    assert is_hex("00ff", size=2)
    assert not is_hex("00f", size=2)
