"""The query language: what terms mean, and where errors point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.query import QueryError, Term, TermKind, parse_query

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("pkg:pypi/six", Term(TermKind.PROJECT, "pkg:pypi/six")),
        ("pkg:pypi/Typing_Extensions", Term(TermKind.PROJECT, "pkg:pypi/typing-extensions")),
        ("pkg:pypi/six@1.17.0", Term(TermKind.PURL, "pkg:pypi/six@1.17.0")),
        (f"sha256:{DIGEST}", Term(TermKind.DIGEST, DIGEST)),
        ("author:peterson", Term(TermKind.AUTHOR, "peterson")),
        ('author:"benjamin peterson"', Term(TermKind.AUTHOR, "benjamin peterson")),
        ("dep:Six", Term(TermKind.DEPENDENCY, "pkg:pypi/six")),
        ("dep:pkg:pypi/six", Term(TermKind.DEPENDENCY, "pkg:pypi/six")),
        ("status:diverged", Term(TermKind.STATUS, "diverged")),
        ("builder:node-0", Term(TermKind.BUILDER, "node-0")),
        ("word", Term(TermKind.TEXT, "word")),
        ("wor*", Term(TermKind.TEXT, "wor", is_prefix=True)),
        ('"two words"', Term(TermKind.TEXT, "two words")),
        ('"two wor"*', Term(TermKind.TEXT, "two wor", is_prefix=True)),
        ('"status:open"', Term(TermKind.TEXT, "status:open")),
        ('"OR"', Term(TermKind.TEXT, "OR")),
        ("-word", Term(TermKind.TEXT, "word", is_negated=True)),
        ("-status:open", Term(TermKind.STATUS, "open", is_negated=True)),
        ('-"a b"', Term(TermKind.TEXT, "a b", is_negated=True)),
        ("well-known", Term(TermKind.TEXT, "well-known")),
    ],
)
def test_a_term_means_one_thing(text: str, term: Term) -> None:
    assert parse_query(text) == (term,)
    assert parse_query(f"  {text}   {text} ") == (term, term)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("", 0, "no term"),
        ("   ", 0, "no term"),
        ("six foo:bar", 4, "unknown field 'foo'; known: author:, builder:"),
        ("six -foo:bar", 5, "unknown field"),
        ("http://x", 0, "unknown field 'http'"),
        ("status:", 7, "nothing stands after status:"),
        ('status:""', 7, "nothing stands after"),
        ("x status:wrong", 9, "takes one of accepted"),
        ("sha256:ABC", 7, "64 lowercase hex digits"),
        ("pkg:pypi", 0, "purl"),
        ("pkg:pypi/six?x=y", 0, "qualifiers"),
        ("dep:six@1", 4, "six@1"),
        ("dep:pkg:pypi/six@1", 4, "without a version"),
        ('six "open', 4, "no end"),
        ('"a"b', 3, "a space must follow"),
        ("a -", 2, "an empty term"),
        ('a ""', 2, "an empty term"),
        ("a OR b", 2, "is no operator"),
        ("a *", 2, "no letter or digit"),
        ("...", 0, "no letter or digit"),
        ("a\tb", 1, "illegal character"),
        ("a\ud800", 1, "illegal character"),
        ("x " * 17, 32, "more than 16 terms"),
        ("x" * 1001, 1000, "longer than 1000"),
    ],
)
def test_an_error_points_at_its_character(text: str, position: int, reason: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    assert caught.value.position == position
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"query, character {position + 1}: ")


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(["pkg:", "sha256:", "dep:", '"', "-", "*", " ", ":", "six", "@", "status:"])
    ).map("".join)
)
def test_only_the_query_error_escapes_and_it_points_into_the_text(text: str) -> None:
    try:
        terms = parse_query(text)
    except QueryError as error:
        position = error.position
    else:
        assert terms
        position = 0
    assert 0 <= position <= len(text)
