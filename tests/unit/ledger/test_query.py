"""The query language: what terms mean, how they are joined, and where errors point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.query import And, Expression, Not, Or, parse_query
from pyrsia_node.ledger.query_terms import QueryError, Term, TermKind

DIGEST = "ab" * 32
DAY = 1_763_683_200_000  # 2025-11-21, midnight UTC
CODEC = "commons-codec"
A, B, C, D = (Term(TermKind.TEXT, each) for each in "abcd")


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("pkg:pypi/six", Term(TermKind.PROJECT, "pkg:pypi/six")),
        ("pkg:pypi/Typing_Extensions", Term(TermKind.PROJECT, "pkg:pypi/typing-extensions")),
        ("pkg:pypi/six@1.17.0", Term(TermKind.PURL, "pkg:pypi/six@1.17.0")),
        (
            "pkg:maven/org.apache.*",
            Term(TermKind.PURL_PREFIX, "pkg:maven/org.apache.", is_prefix=True),
        ),
        ("pkg:pypi/Django_*", Term(TermKind.PURL_PREFIX, "pkg:pypi/django-", is_prefix=True)),
        ("pkg:pypi/six@1.*", Term(TermKind.PURL_PREFIX, "pkg:pypi/six@1.", is_prefix=True)),
        ("pkg:pypi/*", Term(TermKind.PURL_PREFIX, "pkg:pypi/", is_prefix=True)),
        (f"sha256:{DIGEST}", Term(TermKind.DIGEST, DIGEST)),
        ("sha256:4721f391*", Term(TermKind.DIGEST, "4721f391", is_prefix=True)),
        ("author:peterson", Term(TermKind.AUTHOR, "peterson")),
        ('author:"benjamin peterson"', Term(TermKind.AUTHOR, "benjamin peterson")),
        ("license:MIT", Term(TermKind.LICENCE, "MIT")),
        ("licence:MIT", Term(TermKind.LICENCE, "MIT")),
        ("name:date*", Term(TermKind.NAME, "date", is_prefix=True)),
        ("dep:Six", Term(TermKind.DEPENDENCY, "pkg:pypi/six")),
        ("dep:pkg:pypi/six", Term(TermKind.DEPENDENCY, "pkg:pypi/six")),
        ("neededby:six@1.17.0", None),
        ("neededby:pkg:pypi/six@1.17.0", Term(TermKind.NEEDED_BY, "pkg:pypi/six@1.17.0")),
        ("neededby:Six", Term(TermKind.NEEDED_BY, "pkg:pypi/six")),
        ("dep:org.Example:tool", Term(TermKind.DEPENDENCY, "pkg:maven/org.Example/tool")),
        ("dep:junit:junit", Term(TermKind.DEPENDENCY, "pkg:maven/junit/junit")),
        ("dep:pkg:maven/a.b/c", Term(TermKind.DEPENDENCY, "pkg:maven/a.b/c")),
        ("neededby:a.b:c:1.0+x", Term(TermKind.NEEDED_BY, "pkg:maven/a.b/c@1.0%2Bx")),
        ("commons-codec:commons-codec", Term(TermKind.PROJECT, f"pkg:maven/{CODEC}/{CODEC}")),
        ("a.b:c:1.0", Term(TermKind.PURL, "pkg:maven/a.b/c@1.0")),
        ('"a.b:c:1.0"', Term(TermKind.TEXT, "a.b:c:1.0")),
        ("claim:external", Term(TermKind.CLAIM, "external")),
        ("type:add_source", Term(TermKind.TYPE, "add_source")),
        (
            "repo:https://GitHub.com/psf/requests.git",
            Term(TermKind.REPOSITORY, "github.com/psf/requests"),
        ),
        ("repo:github.com/psf", Term(TermKind.REPOSITORY, "github.com/psf")),
        ("commit:0badc0de", Term(TermKind.COMMIT, "0badc0de", is_prefix=True)),
        ("file:six-1.17*", Term(TermKind.FILE, "six-1.17", is_prefix=True)),
        ("status:diverged", Term(TermKind.STATUS, "diverged")),
        ("status:revoked", Term(TermKind.STATUS, "revoked")),
        ("type:set", Term(TermKind.TYPE, "set")),
        ("builder:node-0", Term(TermKind.BUILDER, "node-0")),
        ("height:7", Term(TermKind.HEIGHT, low=7, high=8)),
        ("height:7..9", Term(TermKind.HEIGHT, low=7, high=10)),
        ("height:7..", Term(TermKind.HEIGHT, low=7)),
        ("since:2025-11-21", Term(TermKind.TIME, low=DAY)),
        ("until:2025-11-21", Term(TermKind.TIME, high=DAY + 86_400_000)),
        ("until:2025-11-21T00:01", Term(TermKind.TIME, high=DAY + 120_000)),
        ("since:2025-11-21T00:00:30Z", Term(TermKind.TIME, low=DAY + 30_000)),
        ("word", Term(TermKind.TEXT, "word")),
        ("wor*", Term(TermKind.TEXT, "wor", is_prefix=True)),
        ('"two words"', Term(TermKind.TEXT, "two words")),
        ('"two wor"*', Term(TermKind.TEXT, "two wor", is_prefix=True)),
        ('"status:open"', Term(TermKind.TEXT, "status:open")),
        ('"OR"', Term(TermKind.TEXT, "OR")),
        ('"(a)"', Term(TermKind.TEXT, "(a)")),
        ("well-known", Term(TermKind.TEXT, "well-known")),
    ],
)
def test_a_term_means_one_thing(text: str, term: Term | None) -> None:
    if term is None:
        with pytest.raises(QueryError):
            parse_query(text)
        return
    assert parse_query(text) == term
    assert parse_query(f"-{text}") == Not(term)
    assert parse_query(f"  {text}   {text} ") == And((term, term))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("a b c", And((A, B, C))),
        ("a AND b", And((A, B))),
        ("a OR b", Or((A, B))),
        ("a b OR c d", Or((And((A, B)), And((C, D))))),
        ("a (b OR c) d", And((A, Or((B, C)), D))),
        ("a -(b OR c)", And((A, Not(Or((B, C)))))),
        ("-(a b) c", And((Not(And((A, B))), C))),
        ("((a))", A),
        ("(a)(b)", And((A, B))),
        ("-(-a)", Not(Not(A))),
    ],
)
def test_terms_are_joined_by_and_or_and_parentheses(text: str, expression: Expression) -> None:
    assert parse_query(text) == expression


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
        ("type:wrong", 5, "takes one of accepted"),
        ("sha256:ABC", 7, "64 lowercase hex digits"),
        ("sha256:abc*", 7, "8 to 64"),
        ("commit:xyz", 7, "7 to 64"),
        ("pkg:pypi", 0, "purl"),
        ("pkg:pypi/six?x=y", 0, "qualifiers"),
        ("pkg:pypi/a*b", 10, "at the end alone"),
        ("pkg:*", 0, "pkg:TYPE/BEGINNING"),
        ("dep:six@1", 4, "six@1"),
        ("dep:pkg:pypi/six@1", 4, "without a version"),
        ("dep:a.b:c:1", 4, "without a version"),
        ("six a.b:c:1-SNAPSHOT", 4, "a snapshot changes"),
        ("a..b:c", 0, "no group id"),
        ("claim:signed", 6, "takes one of external, mirrored, rebuilt"),
        ("repo:nohost", 5, "HOST/PATH"),
        ("height:x", 7, "takes a number"),
        ("height:9..7", 7, "9 is greater than 7"),
        ("since:yesterday", 6, "a time is"),
        ("since:2025-02-30", 6, "no such time"),
        ('six "open', 4, "no end"),
        ('"a"b', 3, "a space must follow"),
        ("a -", 2, "an empty term"),
        ("a --b", 2, "an empty term"),
        ('a ""', 2, "an empty term"),
        ("a OR", 4, "a term is missing here"),
        ("OR b", 0, "OR stands between"),
        ("a OR OR b", 5, "OR stands between"),
        ("a NOT b", 2, "write '-'"),
        ("(a b", 0, "never closed"),
        ("a (b (c)", 2, "never closed"),
        ("a) b", 1, "closes nothing"),
        ("a ()", 3, "a term is missing here"),
        ("a *", 2, "no letter or digit"),
        ("...", 0, "no letter or digit"),
        ("a\tb", 1, "illegal character"),
        ("a\ud800", 1, "illegal character"),
        ("x " * 33, 64, "more than 32 terms"),
        ("(" * 17, 16, "more than 16 parentheses"),
        ("x" * 201, 0, "longer than 200"),
        ("x" * 1001, 1000, "longer than 1000"),
    ],
)
def test_an_error_points_at_its_character(text: str, position: int, reason: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    assert caught.value.position == position
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"query, character {position + 1}: ")


def test_an_error_shows_the_place_with_a_caret() -> None:
    with pytest.raises(QueryError) as caught:
        parse_query("dep:six status:wrong")
    what, shown, caret = str(caught.value).splitlines()
    assert what.startswith("query, character 16: ")
    assert shown == "  dep:six status:wrong"
    assert caret == "  " + " " * 15 + "^"
    with pytest.raises(QueryError) as caught:
        parse_query("word " * 30 + "foo:bar " + "word " * 30)
    _, shown, caret = str(caught.value).splitlines()
    assert len(shown) <= 80
    assert shown[caret.index("^") :].startswith("foo:bar")


@given(
    st.text(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                *("pkg:", "sha256:", "dep:", '"', "-", "*", " ", ":", "six", "@", "status:"),
                *("(", ")", " OR ", "height:", "since:", "repo:", "neededby:", "7", ".."),
            ]
        )
    ).map("".join)
)
def test_only_the_query_error_escapes_and_it_points_into_the_text(text: str) -> None:
    try:
        expression = parse_query(text)
    except QueryError as error:
        position = error.position
    else:
        assert isinstance(expression, Term | Not | And | Or)
        position = 0
    assert 0 <= position <= len(text)
