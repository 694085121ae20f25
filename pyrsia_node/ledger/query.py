"""The query language of the log's search: text to terms, or an error that points at a character.

A query is terms separated by spaces; all must hold. ``-`` before a term negates it. Terms::

    pkg:pypi/NAME            a package, any version
    pkg:pypi/NAME@VERSION    one version
    sha256:HEX               a file, a contradicted file, a source, a result or a request
    author:TEXT              words of the author's name
    dep:NAME, dep:pkg:...    depends on the project
    status:STATUS            accepted, diverged, failed, expired or open
    builder:LABEL            a member, by label or id, built it
    TEXT, "SEVERAL WORDS"    words of name, summary, author, keywords, repository or licence;
                             ``*`` at the end stands for any rest of a word

Pure: what the terms find is ``ledger.search``'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pyrsia_node.ledger.rows import STATUSES
from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl

QUERY_LENGTH_MAX: Final = 1000
TERMS_MAX: Final = 16

_FIELDS: Final = ("author", "builder", "dep", "pkg", "sha256", "status")
_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9_]*):", re.ASCII)


class TermKind(StrEnum):
    """What a term asks for."""

    PROJECT = "project"
    PURL = "purl"
    DIGEST = "digest"
    AUTHOR = "author"
    DEPENDENCY = "dependency"
    STATUS = "status"
    BUILDER = "builder"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. ``is_prefix`` is for texts that ended with ``*``."""

    kind: TermKind
    value: str
    is_negated: bool = False
    is_prefix: bool = False


class QueryError(InvalidInputError):
    """The query is malformed. ``position`` counts characters from 0."""

    def __init__(self, position: int, what: str) -> None:
        """Remember where, so that a client can point at it."""
        super().__init__(f"query, character {position + 1}: {what}")
        self.position = position


@dataclass(frozen=True, slots=True)
class _Word:
    """A piece of the query between spaces, without quotation marks.

    The first ``bare`` characters stood outside of them: only there a field or operator can be.
    """

    text: str
    position: int
    is_negated: bool
    bare: int


def parse_query(text: str) -> tuple[Term, ...]:
    """Return the terms of a query.

    Raises:
        QueryError: Malformed, too long or with too many terms; points at the character.
    """
    if len(text) > QUERY_LENGTH_MAX:
        raise QueryError(QUERY_LENGTH_MAX, f"longer than {QUERY_LENGTH_MAX} characters")
    for position, character in enumerate(text):
        if character < " " or "\ud800" <= character <= "\udfff":
            raise QueryError(position, f"illegal character {character!r}")
    words = _split(text)
    if not words:
        raise QueryError(0, "no term")
    if len(words) > TERMS_MAX:
        raise QueryError(words[TERMS_MAX].position, f"more than {TERMS_MAX} terms")
    return tuple(_term(word) for word in words)


def _split(text: str) -> list[_Word]:
    words = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        start = position
        is_negated = text[position] == "-"
        position += is_negated
        end = _end_of_bare(text, position)
        is_quoted = end < len(text) and text[end] == '"'
        value = text[position:end]
        bare = len(value)
        if is_quoted:
            close = text.find('"', end + 1)
            if close < 0:
                raise QueryError(end, "the quotation has no end")
            value += text[end + 1 : close]
            end = close + 1
            if end < len(text) and text[end] not in " *":
                raise QueryError(end, "a space must follow a quotation")
            if end < len(text) and text[end] == "*":
                value += "*"
                end += 1
        if not value:
            raise QueryError(start, "an empty term")
        words.append(_Word(value, start + is_negated, is_negated, bare))
        position = end
    return words


def _end_of_bare(text: str, start: int) -> int:
    """Return where a space or a quotation mark ends the piece that begins at ``start``."""
    for position in range(start, len(text)):
        if text[position] in ' "':
            return position
    return len(text)


def _term(word: _Word) -> Term:
    match = _FIELD.match(word.text)
    if match is not None and match.end() <= word.bare:
        return _field_term(match[1], word.text[match.end() :], word)
    if word.text in {"OR", "AND", "NOT"} and word.bare:
        raise QueryError(
            word.position, f"{word.text} is no operator: terms are joined by and, '-' negates"
        )
    return _text(TermKind.TEXT, word.text, word)


def _field_term(field: str, value: str, word: _Word) -> Term:
    at = word.position + len(field) + 1
    if field not in _FIELDS:
        known = ", ".join(f"{each}:" for each in _FIELDS)
        raise QueryError(word.position, f"unknown field {field!r}; known: {known}")
    if not value:
        raise QueryError(at, f"nothing stands after {field}:")
    match field:
        case "pkg":
            return _package(word)
        case "sha256":
            if not is_hex(value, size=32):
                raise QueryError(at, "sha256: takes 64 lowercase hex digits")
            return Term(TermKind.DIGEST, value, word.is_negated)
        case "author":
            return _text(TermKind.AUTHOR, value, word)
        case "dep":
            return _dependency(value, at, word)
        case "status":
            if value not in STATUSES:
                raise QueryError(at, f"status: takes one of {', '.join(STATUSES)}")
            return Term(TermKind.STATUS, value, word.is_negated)
        case _:
            return Term(TermKind.BUILDER, value, word.is_negated)


def _package(word: _Word) -> Term:
    try:
        purl = Purl.from_user(word.text)
    except InvalidInputError as error:
        raise QueryError(word.position, str(error)) from None
    kind = TermKind.PROJECT if purl.version is None else TermKind.PURL
    return Term(kind, str(purl), word.is_negated)


def _dependency(value: str, position: int, word: _Word) -> Term:
    try:
        purl = Purl.from_user(value) if value.startswith("pkg:") else Purl.pypi(value)
    except InvalidInputError as error:
        raise QueryError(position, str(error)) from None
    if purl.version is not None:
        raise QueryError(position, "dep: takes a project, without a version")
    return Term(TermKind.DEPENDENCY, str(purl), word.is_negated)


def _text(kind: TermKind, value: str, word: _Word) -> Term:
    is_prefix = value.endswith("*")
    text = value.removesuffix("*")
    if not any(character.isalnum() for character in text):
        raise QueryError(word.position, "no letter or digit to look for")
    return Term(kind, text, word.is_negated, is_prefix)
