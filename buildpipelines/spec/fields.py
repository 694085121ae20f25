"""Typed reading of parsed JSON objects, with errors that name the field. Pure.

Every reader of the build link's messages and documents goes through these functions, so that a
missing, unknown, mistyped or oversized field is one kind of error with one kind of text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from buildpipelines.errors import FormatError

_HEX32: Final = re.compile(r"[0-9a-f]{64}\Z")


def exactly(
    value: Mapping[str, object], required: set[str], optional: frozenset[str] = frozenset()
) -> None:
    """Check that ``value`` has all ``required`` keys and none beyond ``optional``.

    Raises:
        FormatError: a key is missing or unknown.
    """
    missing = sorted(required - value.keys())
    if missing:
        raise FormatError(f"field {missing[0]!r} is missing")
    unknown = sorted(value.keys() - required - optional)
    if unknown:
        raise FormatError(f"field {unknown[0]!r:.80} is unknown")


def text(value: Mapping[str, object], key: str, *, characters_max: int) -> str:
    """Return a text of at most ``characters_max`` characters; raises FormatError."""
    found = value.get(key)
    if not isinstance(found, str):
        raise FormatError(f"field {key!r} is not text")
    if len(found) > characters_max:
        raise FormatError(f"field {key!r} has {len(found)} characters; {characters_max} at most")
    return found


def matching(value: Mapping[str, object], key: str, pattern: re.Pattern[str]) -> str:
    """Return a text that ``pattern`` (anchored at its end) matches; raises FormatError."""
    found = value.get(key)
    if not isinstance(found, str) or not pattern.match(found):
        raise FormatError(f"field {key!r} does not fit {pattern.pattern}")
    return found


def sha256(value: Mapping[str, object], key: str) -> str:
    """Return 64 lowercase hexadecimal digits; raises FormatError."""
    return matching(value, key, _HEX32)


def integer(value: Mapping[str, object], key: str, *, low: int, high: int) -> int:
    """Return an integer within ``low`` and ``high``; a bool is none; raises FormatError."""
    found = value.get(key)
    if type(found) is not int or not low <= found <= high:
        raise FormatError(f"field {key!r} is not an integer from {low} to {high}")
    return found


def number(value: Mapping[str, object], key: str, *, high: float) -> float:
    """Return a number from 0 to ``high``; raises FormatError."""
    found = value.get(key)
    if type(found) not in (int, float) or not 0 <= cast("float", found) <= high:
        raise FormatError(f"field {key!r} is not a number from 0 to {high}")
    return float(cast("float", found))


def obj(value: Mapping[str, object], key: str) -> dict[str, object]:
    """Return an object; raises FormatError."""
    found = value.get(key)
    if not isinstance(found, dict):
        raise FormatError(f"field {key!r} is not an object")
    return cast("dict[str, object]", found)


def objects(value: Mapping[str, object], key: str, *, count_max: int) -> list[dict[str, object]]:
    """Return a list of at most ``count_max`` objects; raises FormatError."""
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise FormatError(f"field {key!r} is not a list of objects")
    if len(found) > count_max:
        raise FormatError(f"field {key!r} has {len(found)} items; {count_max} at most")
    return cast("list[dict[str, object]]", found)


def texts(
    value: Mapping[str, object], key: str, *, count_max: int, characters_max: int
) -> tuple[str, ...]:
    """Return a list of texts, both bounded; raises FormatError."""
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise FormatError(f"field {key!r} is not a list of texts")
    if len(found) > count_max or any(len(item) > characters_max for item in found):
        raise FormatError(f"field {key!r} exceeds {count_max} texts of {characters_max} characters")
    return tuple(cast("list[str]", found))
