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
    (
        {"t": "build_request", "claim": "external", "sponsor": "12D3one", "recipe": {}},
        "external, by 12D3one, recipe {}",
    ),
    (
        {"t": "build_request", "claim": "rebuilt", "sponsor": "12D3one", "recipe": {}},
        "by 12D3one, recipe {}",
    ),
    ({"t": "revoke", "reason": "harms"}, "harms"),
    ({"t": "what nobody knows"}, ""),
]


@pytest.mark.parametrize(
    ("claims", "line"),
    [
        (["external", "mirrored"], "2 of k=2 agree at L0, external"),
        (["rebuilt", "mirrored"], "2 of k=2 agree at L0"),
        (["mirrored"], "2 of k=2 agree at L0"),
    ],
)
def test_accepted_entry_says_when_outside_pipelines_made_it(claims: list[str], line: str) -> None:
    leaf: JsonObject = {
        "t": "accepted",
        "k": 2,
        "level": 0,
        "attestors": [{}, {}],
        "differ": [],
        "doc": {"files": [{"claim": each} for each in claims]},
    }
    assert detail_of(leaf) == line


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["a-1.jar"], "CONTRADICTS the published a-1.jar"),
        (list("abcde"), "CONTRADICTS the published a, b, c and 2 more"),
    ],
)
def test_accepted_entry_says_loudly_what_it_contradicts(names: list[str], line: str) -> None:
    leaf: JsonObject = {
        "t": "accepted",
        "k": 3,
        "level": 0,
        "attestors": [{}, {}, {}],
        "differ": ["12D3one"],
        "doc": {"files": [], "contradicts": [{"name": name} for name in names]},
    }
    assert detail_of(leaf) == f"3 of k=3 agree at L0; 1 differ; {line}"


@pytest.mark.parametrize(("leaf", "line"), LEAVES, ids=[str(leaf["t"]) for leaf, _ in LEAVES])
def test_leaf_is_told_in_one_line(leaf: JsonObject, line: str) -> None:
    assert detail_of(leaf) == line
