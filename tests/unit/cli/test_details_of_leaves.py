"""One line says what matters in a leaf."""

from __future__ import annotations

import pytest

from pyrsia_cli.entries import detail_of
from pyrsia_node.model.canonical import JsonObject

LEAVES: list[tuple[JsonObject, str]] = [
    ({"t": "attest_commit", "voter": "12D3one"}, "answer promised by 12D3one"),
    (
        {"t": "unsealed", "committed": ["12D3one", "12D3two"]},
        "answers are shown from here on, by ['12D3one', '12D3two']",
    ),
    ({"t": "set_param", "name": "sealed", "value": 1}, "sealed = 1"),
    (
        {"t": "add_source", "repository": "git+https://a.example/b", "tag": "v1", "reason": "so"},
        "git+https://a.example/b v1: so",
    ),
    ({"t": "add_source", "repository": "", "tag": "", "reason": "moved"}, "taken back: moved"),
    ({"t": "revoke", "reason": "harms"}, "harms"),
    ({"t": "what nobody knows"}, ""),
]


@pytest.mark.parametrize(("leaf", "line"), LEAVES, ids=[str(leaf["t"]) for leaf, _ in LEAVES])
def test_leaf_is_told_in_one_line(leaf: JsonObject, line: str) -> None:
    assert detail_of(leaf) == line
