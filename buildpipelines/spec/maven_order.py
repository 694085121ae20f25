"""The order of Maven's versions, as Maven and Gradle users expect it. Pure.

``1.9`` < ``1.10``; ``1.0-alpha`` < ``1.0-beta`` < ``1.0-rc`` < ``1.0`` < ``1.0-sp`` < ``1.0-1``;
``1.0`` = ``1`` = ``1.0-ga``. Two texts that are equal here are the same place in the order, and
not the same version. Rules: Maven's POM reference, "Version Order Specification".
"""

from __future__ import annotations

import functools
import re
from typing import Final

from buildpipelines.errors import FormatError

VERSION_CHARACTERS_MAX: Final = 256

_WORD = re.compile(r"[0-9]+|[^0-9.-]+|[.-]")
_QUALIFIERS: Final = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
_ALIASES: Final = {"ga": "", "final": "", "release": "", "cr": "rc"}
_SHORT: Final = {"a": "alpha", "b": "beta", "m": "milestone"}
_RELEASE: Final = _QUALIFIERS.index("")

_Qualifier = tuple[int, str]
_Item = int | _Qualifier | list["_Item"]
"""A number, a qualifier as (rank, text), or what follows a hyphen."""


@functools.total_ordering
class VersionKey:
    """What versions are sorted by; make it with :func:`version_key`."""

    __slots__ = ("_items",)

    def __init__(self, items: list[_Item]) -> None:
        """Hold a version that was read."""
        self._items = items

    def __eq__(self, other: object) -> bool:
        """Tell whether two versions are at the same place."""
        return isinstance(other, VersionKey) and _compare(self._items, other._items) == 0

    def __lt__(self, other: VersionKey) -> bool:
        """Tell whether this is the older version."""
        return _compare(self._items, other._items) < 0

    __hash__ = None  # type: ignore[assignment] # places are equal in ways that no hash follows


def version_key(version: str) -> VersionKey:
    """Return the place of a version in the order.

    Raises:
        FormatError: longer than a version may be.
    """
    if len(version) > VERSION_CHARACTERS_MAX:
        raise FormatError(f"a version has at most {VERSION_CHARACTERS_MAX} characters")
    return VersionKey(_read(version.lower()))


def _read(version: str) -> list[_Item]:
    """Split at dots, hyphens, and where digits meet letters."""
    reading = _Reading()
    words = _WORD.findall(version)
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in (".", "-"):
            reading.separator(word)
        else:
            reading.item(word, following)
    for each in reversed(reading.lists):
        _trim(each)
    return reading.lists[0]


class _Reading:
    """The lists of a version, each the last item of the one before it."""

    def __init__(self) -> None:
        self.lists: list[list[_Item]] = [[]]
        self._is_at_start = True  # nothing since the last separator

    def separator(self, word: str) -> None:
        """Take a dot, or a hyphen, which begins a list; an empty item is a zero."""
        if self._is_at_start:
            self.lists[-1].append(0)
        if word == "-":
            self._begin()
        self._is_at_start = True

    def item(self, word: str, following: str) -> None:
        """Take digits or letters; where the two meet, a list begins."""
        if word[0] in "0123456789":
            self.lists[-1].append(int(word))
            begins = following not in ("", ".", "-")
        else:
            if self.lists[-1] or len(self.lists) == 1:
                self._begin()  # "1.0.rc1" is "1.0-rc1": a qualifier begins a list of its own
            begins = following[:1].isdecimal()
            self.lists[-1].append(_qualifier(word, is_before_digit=begins))
        if begins:
            self._begin()
        self._is_at_start = False

    def _begin(self) -> None:
        inner: list[_Item] = []
        self.lists[-1].append(inner)
        self.lists.append(inner)


def _qualifier(text: str, *, is_before_digit: bool) -> _Qualifier:
    if is_before_digit:
        text = _SHORT.get(text, text)
    text = _ALIASES.get(text, text)
    if text in _QUALIFIERS:
        return _QUALIFIERS.index(text), ""
    return len(_QUALIFIERS), text


def _trim(items: list[_Item]) -> None:
    """Drop what says nothing from the end: zeros, "final", empty lists; lists may stay behind."""
    for place in range(len(items) - 1, -1, -1):
        if items[place] in (0, (_RELEASE, ""), []):
            del items[place]
        elif not isinstance(items[place], list):
            return


def _compare(left: _Item | None, right: _Item | None) -> int:
    """Compare two items; None is the end of a version, which equals an empty list.

    Numbers are newer than anything else: ``1.x`` < ``1-1`` < ``1.1``. A zero that was not dropped
    has a larger number behind it, so it is newer than the end.
    """
    if isinstance(left, int) or isinstance(right, int):
        numbers = [each if isinstance(each, int) else -1 for each in (left, right)]
        return (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    if isinstance(left, tuple | None) and isinstance(right, tuple | None):
        qualifiers = [each or (_RELEASE, "") for each in (left, right)]
        return (qualifiers[0] > qualifiers[1]) - (qualifiers[0] < qualifiers[1])
    # A qualifier by itself is a list of one, else there would be rings of older and newer.
    lists = [each if isinstance(each, list) else [each] for each in (left, right)]
    for place in range(max(map(len, lists))):
        found = _compare(*(each[place] if place < len(each) else None for each in lists))
        if found:
            return found
    return 0
