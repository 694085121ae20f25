"""Canonical JSON: the one byte form of everything that is hashed, signed or logged.

The profile is RFC 8785 (JSON Canonicalization Scheme) restricted to what has exactly one reading:
objects with ASCII keys, arrays, text of valid Unicode, booleans and integers within ±(2^53 - 1).
No floats, no null, depth at most 16. Inside the profile RFC 8785 and the standard library's
sorted compact form are the same bytes; outside they differ, so the profile is always checked.

``loads`` accepts bytes only if they *are* the canonical form of what they mean. That refuses
duplicate keys, white space, odd escapes, ``-0`` and every other second spelling, so two different
byte strings can never mean the same value. This module knows no schema: see ``fields``.
Specification: docs/spec/leaves.md, first paragraph.
"""

from __future__ import annotations

import json
from typing import Final, NoReturn

from pyrsia_node.model.errors import InvalidInputError

JsonValue = str | int | bool | list["JsonValue"] | dict[str, "JsonValue"]
"""A value of the profile. ``bool`` is its own kind: no reader takes one for an integer."""

JsonObject = dict[str, JsonValue]
"""An object of the profile."""

DEPTH_MAX: Final = 16
"""Nesting of arrays and objects; a scalar has depth 0, ``[]`` depth 1."""

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (RFC 7493, 2.2)."""

_DIGITS_MAX: Final = len(str(INTEGER_MAX))


def dumps(value: JsonValue) -> bytes:
    """Return the canonical bytes of ``value``.

    Raises:
        InvalidInputError: The value is outside the profile; the text says what and where.
    """
    _check(value, DEPTH_MAX)
    return _encode(value)


def encode_members(value: JsonObject) -> bytes:
    """Return the canonical bytes of some members of an object that ``loads`` returned.

    They were checked there; checking a batch of a hundred items again costs more than reading it.
    """
    return _encode(value)


def loads(data: bytes, *, bytes_max: int) -> JsonValue:
    """Return the value whose canonical form is exactly ``data``.

    Args:
        data: Bytes from anywhere; hostile input is fine.
        bytes_max: Longest input that is looked at.

    Raises:
        InvalidInputError: Too long, not JSON, outside the profile, or not the canonical form.
    """
    if len(data) > bytes_max:
        raise InvalidInputError(f"JSON of {len(data)} bytes exceeds the limit of {bytes_max}")
    try:
        value: JsonValue = _DECODER.decode(data.decode("utf-8"))
        _check(value, DEPTH_MAX)
        encoded = _encode(value)
    except InvalidInputError:
        raise
    except RecursionError:
        raise InvalidInputError(f"JSON is nested deeper than {DEPTH_MAX}") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise InvalidInputError(f"not JSON: {error}") from None
    if encoded != data:
        raise InvalidInputError(
            f"JSON is not canonical: differs from its canonical form at byte "
            f"{_first_difference(encoded, data)}"
        )
    return value


def loads_object(data: bytes, *, bytes_max: int) -> JsonObject:
    """Return ``loads(data)`` when it is an object.

    Raises:
        InvalidInputError: As ``loads``, or the value is not an object.
    """
    value = loads(data, bytes_max=bytes_max)
    if not isinstance(value, dict):
        raise InvalidInputError("JSON is not an object")
    return value


def _encode(value: JsonValue) -> bytes:
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"text holds a lone surrogate: {error.reason}") from None


def _check(value: object, depth_left: int) -> None:
    # Exact types: a subclass (an enum, a bool for an int) could encode as something else.
    kind = type(value)
    if kind is str or kind is bool:
        return
    if kind is int:
        _check_range(value)
        return
    if kind is not dict and kind is not list:
        raise InvalidInputError(f"a value of type {kind.__name__} has no canonical form")
    if depth_left == 0:
        raise InvalidInputError(f"JSON is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str or not key.isascii():
                raise InvalidInputError(f"key {key!r:.80} is not ASCII text")
        value = list(value.values())
    assert isinstance(value, list)
    for item in value:
        # Most values are text: a call for each would double the time of reading a batch.
        if type(item) is not str:
            _check(item, depth_left - 1)


def _check_range(value: object) -> None:
    assert isinstance(value, int)
    if not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise InvalidInputError("integer is outside ±(2^53-1)")


def _integer(digits: str) -> int:
    # Checked before the conversion: int() of a long text costs quadratic time.
    if len(digits) > _DIGITS_MAX + digits.startswith("-"):
        raise InvalidInputError("integer is outside ±(2^53-1)")
    return int(digits)


def _no_float(text: str) -> NoReturn:
    raise InvalidInputError(f"number {text:.40} is not an integer")


def _first_difference(left: bytes, right: bytes) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


_DECODER: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_no_float, parse_constant=_no_float
)
_ENCODER: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
)
