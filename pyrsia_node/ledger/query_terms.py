"""The terms of a query: fields and free text, each word read to one condition.

============================  ===============================================================
``pkg:pypi/NAME[@VERSION]``   a package or one version; ``*`` at the end stands for any rest
``GROUP:ARTIFACT[:VERSION]``  the same of Maven, if the group has a dot or a hyphen
``sha256:HEX``                a file, upstream's file, source, result or request; ``HEX*``
``file:NAME``                 a file by its name
``author: name: license:``    words of that field; quoted words follow each other
``dep:PACKAGE``               entries that depend on the project
``neededby:PACKAGE``          entries of the projects that the package depends on
``repo:HOST/PATH``            homepage or repository, and all below
``claim:NAME``                what a build says that it is: rebuilt, mirrored or external
``commit:HEX``                built from this source commit, 7 digits or more
``builder:LABEL``             a member, by label or id, built it
``since: until:``             block time: a date, or a date and time in UTC
``height:N``, ``N..M``        blocks
``status:  type:``            where it stands; what kind of leaf it is
============================  ===============================================================

Everything else is free text. Pure.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pyrsia_node.ledger.rows import repository_key
from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.schema.search_terms import CLAIMS, FIELDS, STATUSES, UNIT_TYPES

_EXCERPT: Final = 72
"""Characters of a query that an error shows."""

_FIELD: Final = re.compile(r"([A-Za-z][A-Za-z0-9_]*):", re.ASCII)
_COORDINATES: Final = re.compile(r"[A-Za-z0-9_.-]+(?::[A-Za-z0-9_.+-]+){1,2}", re.ASCII)
"""``GROUP:ARTIFACT[:VERSION]``, as people write the name of a Maven artifact."""

_PURL_PREFIX: Final = re.compile(r"pkg:[a-z][a-z0-9.-]*/[A-Za-z0-9._~%:@/-]*", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_DIGEST_DIGITS_MIN: Final = 8
_COMMIT_DIGITS: Final = range(7, 65)
_HEIGHTS: Final = re.compile(r"([0-9]{1,15})(?:(\.\.)([0-9]{1,15})?)?", re.ASCII)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?Z?)?", re.ASCII)
_DAY_MS: Final = 86_400_000
_TEXT_LENGTH_MAX: Final = 200


class TermKind(StrEnum):
    """What a term asks for."""

    PROJECT = "project"
    PURL = "purl"
    PURL_PREFIX = "purl prefix"
    DIGEST = "digest"
    AUTHOR = "author"
    NAME = "name"
    LICENCE = "licence"
    DEPENDENCY = "dependency"
    NEEDED_BY = "needed by"
    REPOSITORY = "repository"
    CLAIM = "claim"
    COMMIT = "commit"
    FILE = "file"
    STATUS = "status"
    TYPE = "type"
    BUILDER = "builder"
    HEIGHT = "height"
    TIME = "time"
    TEXT = "text"


TEXT_KINDS: Final = frozenset({TermKind.AUTHOR, TermKind.NAME, TermKind.LICENCE, TermKind.TEXT})
"""Terms that the full-text index answers."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition.

    ``is_prefix`` is for values that ended with ``*``. ``low`` and ``high`` are for heights and
    times (in ms) alone: low <= it < high, None where there is no bound.
    """

    kind: TermKind
    value: str = ""
    is_prefix: bool = False
    low: int | None = None
    high: int | None = None


class QueryError(InvalidInputError):
    """The query is malformed. ``position`` counts characters from 0."""

    def __init__(self, text: str, position: int, what: str) -> None:
        """Say what is wrong, and show where."""
        super().__init__(f"query, character {position + 1}: {what}\n{caret_lines(text, position)}")
        self.position = position


def caret_lines(text: str, position: int) -> str:
    """Return the part of the text around a position, and a caret under it."""
    start = max(0, min(position - _EXCERPT // 2, len(text) - _EXCERPT))
    shown = text[start : start + _EXCERPT]
    printable = "".join(each if each.isprintable() else "?" for each in shown)
    return f"  {printable}\n  {' ' * (position - start)}^"


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of the query without quotation marks.

    The first ``bare`` characters stood outside of them: only there a field or operator can be.
    """

    text: str
    position: int
    bare: int


def read_term(text: str, word: Word) -> Term:
    """Return what one word of the query asks for.

    Raises:
        QueryError: The field is unknown, or its value malformed.
    """
    match = _FIELD.match(word.text)
    if match is None and word.bare == len(word.text) and _COORDINATES.fullmatch(word.text):
        return _named(_purl(word.text, _Place(text, word.position)))
    if match is None or match.end() > word.bare:
        return _words(TermKind.TEXT, word.text, _Place(text, word.position))
    field, value = match[1], word.text[match.end() :]
    reader = _READERS.get(field)
    if reader is None:
        known = ", ".join(f"{each}:" for each in FIELDS)
        raise QueryError(text, word.position, f"unknown field {field!r}; known: {known}")
    place = _Place(text, word.position + len(field) + 1)
    if not value:
        raise place.wrong(f"nothing stands after {field}:")
    return reader(value, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the query a value stands."""

    text: str
    position: int

    def wrong(self, what: str) -> QueryError:
        return QueryError(self.text, self.position, what)

    def before(self, count: int) -> _Place:
        return _Place(self.text, self.position - count)


def _words(kind: TermKind, value: str, place: _Place) -> Term:
    text = value.removesuffix("*")
    if not any(character.isalnum() for character in text):
        raise place.wrong("no letter or digit to look for")
    if len(text) > _TEXT_LENGTH_MAX:
        raise place.wrong(f"longer than {_TEXT_LENGTH_MAX} characters")
    return Term(kind, text, is_prefix=value.endswith("*"))


def _words_of(kind: TermKind) -> Callable[[str, _Place], Term]:
    return lambda value, place: _words(kind, value, place)


def _package(value: str, place: _Place) -> Term:
    start = place.before(len("pkg:"))
    if "*" in value:
        return _package_prefix(f"pkg:{value}", start)
    return _named(_purl(f"pkg:{value}", start))


def _named(purl: Purl) -> Term:
    return Term(TermKind.PROJECT if purl.version is None else TermKind.PURL, str(purl))


def _package_prefix(value: str, start: _Place) -> Term:
    star = value.index("*")
    if star != len(value) - 1:
        raise QueryError(start.text, start.position + star, "'*' stands at the end alone")
    prefix = value[:-1]
    if prefix.startswith("pkg:pypi/"):
        name, at, version = prefix.partition("@")
        # As PEP 503 says, but a separator at the end may go on.
        prefix = re.sub(r"[-_.]+", "-", name.lower()) + at + version
    if len(prefix) > PURL_LENGTH_MAX or not _PURL_PREFIX.fullmatch(prefix):
        raise start.wrong("a pattern is pkg:TYPE/BEGINNING*, as in pkg:maven/org.apache.*")
    return Term(TermKind.PURL_PREFIX, prefix, is_prefix=True)


def _purl(value: str, place: _Place) -> Purl:
    try:
        if value.startswith("pkg:"):
            return Purl.from_user(value)
        # No name of any other ecosystem has a colon.
        is_maven = _COORDINATES.fullmatch(value) is not None
        return Purl.maven(*value.split(":")) if is_maven else Purl.pypi(value)
    except InvalidInputError as error:
        raise place.wrong(str(error)) from None


def _digest(value: str, place: _Place) -> Term:
    digits = value.removesuffix("*")
    if digits == value:
        if not is_hex(value, size=32):
            raise place.wrong("sha256: takes 64 lowercase hex digits, or the first ones and '*'")
        return Term(TermKind.DIGEST, value)
    if not _HEX.fullmatch(digits) or not _DIGEST_DIGITS_MIN <= len(digits) <= 64:
        raise place.wrong(f"before '*' stand {_DIGEST_DIGITS_MIN} to 64 lowercase hex digits")
    return Term(TermKind.DIGEST, digits, is_prefix=True)


def _dependency(value: str, place: _Place) -> Term:
    purl = _purl(value, place)
    if purl.version is not None:
        raise place.wrong("dep: takes a project, without a version")
    return Term(TermKind.DEPENDENCY, str(purl))


def _needed_by(value: str, place: _Place) -> Term:
    return Term(TermKind.NEEDED_BY, str(_purl(value, place)))


def _repository(value: str, place: _Place) -> Term:
    key = repository_key(value)
    if key is None:
        raise place.wrong("repo: takes HOST/PATH or an address, as in repo:github.com/psf/requests")
    return Term(TermKind.REPOSITORY, key)


def _claim(value: str, place: _Place) -> Term:
    if value not in CLAIMS:
        raise place.wrong(f"claim: takes one of {', '.join(CLAIMS)}")
    return Term(TermKind.CLAIM, value)


def _commit(value: str, place: _Place) -> Term:
    if not _HEX.fullmatch(value) or len(value) not in _COMMIT_DIGITS:
        raise place.wrong("commit: takes 7 to 64 lowercase hex digits")
    return Term(TermKind.COMMIT, value, is_prefix=True)


def _file(value: str, _place: _Place) -> Term:
    return Term(TermKind.FILE, value.removesuffix("*"), is_prefix=value.endswith("*"))


def _status(value: str, place: _Place) -> Term:
    if value not in STATUSES:
        raise place.wrong(f"status: takes one of {', '.join(STATUSES)}")
    return Term(TermKind.STATUS, value)


def _type(value: str, place: _Place) -> Term:
    if value not in UNIT_TYPES:
        raise place.wrong(f"type: takes one of {', '.join(sorted(UNIT_TYPES))}")
    return Term(TermKind.TYPE, value)


def _builder(value: str, _place: _Place) -> Term:
    return Term(TermKind.BUILDER, value)


def _height(value: str, place: _Place) -> Term:
    match = _HEIGHTS.fullmatch(value)
    if match is None:
        raise place.wrong("height: takes a number, or two as in 100..200 or 100..")
    low = int(match[1])
    if not match[2]:
        return Term(TermKind.HEIGHT, low=low, high=low + 1)
    high = int(match[3]) + 1 if match[3] else None
    if high is not None and high <= low:
        raise place.wrong(f"{low} is greater than {match[3]}")
    return Term(TermKind.HEIGHT, low=low, high=high)


def _since(value: str, place: _Place) -> Term:
    return Term(TermKind.TIME, low=_span_ms(value, place)[0])


def _until(value: str, place: _Place) -> Term:
    return Term(TermKind.TIME, high=_span_ms(value, place)[1])


def _span_ms(value: str, place: _Place) -> tuple[int, int]:
    """Return the day, minute or second that a value names: first and one past its last ms."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise place.wrong("a time is 2026-11-21, 2026-11-21T10:30 or 2026-11-21T10:30:00Z, in UTC")
    try:
        start = dt.datetime.fromisoformat(f"{match[1]}T{match[2] or '00:00'}{match[3] or ''}+00:00")
    except ValueError as error:
        raise place.wrong(f"no such time: {error}") from None
    low = int(start.timestamp()) * 1000
    return low, low + (1000 if match[3] else 60_000 if match[2] else _DAY_MS)


_READERS: Final[dict[str, Callable[[str, _Place], Term]]] = {
    "author": _words_of(TermKind.AUTHOR),
    "builder": _builder,
    "claim": _claim,
    "commit": _commit,
    "dep": _dependency,
    "file": _file,
    "height": _height,
    "licence": _words_of(TermKind.LICENCE),
    "license": _words_of(TermKind.LICENCE),
    "name": _words_of(TermKind.NAME),
    "neededby": _needed_by,
    "pkg": _package,
    "repo": _repository,
    "sha256": _digest,
    "since": _since,
    "status": _status,
    "type": _type,
    "until": _until,
}
