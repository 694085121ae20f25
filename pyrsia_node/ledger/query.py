"""The query language of the log's search: text to an expression, or an error with a caret.

Terms separated by spaces must all hold; ``OR`` stands between alternatives, ``-`` excludes, and
parentheses group. ``AND`` may be written and changes nothing. Fields: ``ledger.query_terms``;
the whole language: docs/reference/search.md.

Pure: what the terms find is ``ledger.search``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pyrsia_node.ledger.query_terms import QueryError, Term, Word, read_term

QUERY_LENGTH_MAX: Final = 1000
TERMS_MAX: Final = 32
DEPTH_MAX: Final = 16
"""Most parentheses inside each other."""


@dataclass(frozen=True, slots=True)
class Not:
    """What the part does not find."""

    part: Expression


@dataclass(frozen=True, slots=True)
class And:
    """What all parts find; there are at least two."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """What any part finds; there are at least two."""

    parts: tuple[Expression, ...]


Expression = Term | Not | And | Or


def parse_query(text: str) -> Expression:
    """Return what a query says.

    Raises:
        QueryError: Malformed, too long or with too many terms; points at the character.
    """
    if len(text) > QUERY_LENGTH_MAX:
        raise QueryError(text, QUERY_LENGTH_MAX, f"longer than {QUERY_LENGTH_MAX} characters")
    for position, character in enumerate(text):
        if character < " " or "\ud800" <= character <= "\udfff":
            raise QueryError(text, position, f"illegal character {character!r}")
    return _Parser(text, _tokens(text)).parse()


class _Mark(StrEnum):
    """Tokens that are no terms."""

    OPEN = "("
    CLOSE = ")"
    MINUS = "-"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class _Token:
    what: _Mark | Word
    position: int


def _tokens(text: str) -> list[_Token]:
    """Cut the query into words, parentheses, minus signs and ``OR``."""
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == " ":
            position += 1
        elif character in "()":
            tokens.append(_Token(_Mark(character), position))
            position += 1
        elif character == "-":
            if text[position + 1 : position + 2] in {"", " ", ")", "-"}:
                raise QueryError(
                    text, position, "an empty term: '-' stands before what it excludes"
                )
            tokens.append(_Token(_Mark.MINUS, position))
            position += 1
        else:
            word, position = _word(text, position)
            if word.bare and word.text == "NOT":
                raise QueryError(text, word.position, "NOT is no operator: write '-' before a term")
            if not (word.bare and word.text == "AND"):
                is_or = bool(word.bare) and word.text == "OR"
                tokens.append(_Token(_Mark.OR if is_or else word, word.position))
    return tokens


def _word(text: str, start: int) -> tuple[Word, int]:
    """Return the word that begins at ``start``, and where it ends."""
    end = start
    while end < len(text) and text[end] not in ' "()':
        end += 1
    value = text[start:end]
    bare = len(value)
    if end < len(text) and text[end] == '"':
        close = text.find('"', end + 1)
        if close < 0:
            raise QueryError(text, end, "the quotation has no end")
        value += text[end + 1 : close]
        end = close + 1
        if text[end : end + 1] == "*":
            value += "*"
            end += 1
        if text[end : end + 1] not in {"", " ", ")"}:
            raise QueryError(text, end, "a space must follow a quotation")
    if not value:
        raise QueryError(text, start, "an empty term")
    return Word(value, start, bare), end


class _Parser:
    """Recursive descent: alternatives, then terms that must all hold, then one term."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Expression:
        if not self._tokens:
            raise QueryError(self._text, 0, "no term")
        found = self._alternatives()
        if self._at < len(self._tokens):
            raise self._wrong("')' closes nothing")
        return found

    def _alternatives(self) -> Expression:
        parts = [self._all_of()]
        while self._peek() is _Mark.OR:
            self._at += 1
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self) -> Expression:
        if self._peek() is _Mark.OR:
            raise self._wrong("OR stands between two terms")
        parts: list[Expression] = []
        while self._peek() not in {None, _Mark.OR, _Mark.CLOSE}:
            parts.append(self._factor())
        if not parts:
            raise self._wrong("a term is missing here")
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _factor(self) -> Expression:
        what = self._peek()
        if what is _Mark.MINUS:
            self._at += 1
            return Not(self._factor())
        if what is _Mark.OPEN:
            return self._group()
        assert isinstance(what, Word)
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise self._wrong(f"more than {TERMS_MAX} terms")
        self._at += 1
        return read_term(self._text, what)

    def _group(self) -> Expression:
        opened = self._tokens[self._at].position
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"more than {DEPTH_MAX} parentheses inside each other")
        self._at += 1
        found = self._alternatives()
        if self._peek() is not _Mark.CLOSE:
            raise QueryError(self._text, opened, "this parenthesis is never closed")
        self._at += 1
        self._depth -= 1
        return found

    def _peek(self) -> _Mark | Word | None:
        return self._tokens[self._at].what if self._at < len(self._tokens) else None

    def _wrong(self, what: str) -> QueryError:
        is_end = self._at >= len(self._tokens)
        position = len(self._text) if is_end else self._tokens[self._at].position
        return QueryError(self._text, position, what)
