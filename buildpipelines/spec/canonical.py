"""Canonical JSON of the build documents: sorted keys, compact, UTF-8, no floats and no null.

The same restricted profile of RFC 8785 that the log uses (docs/spec/leaves.md), written again
because this package imports nothing of the node: locks, toolchains and pipelines are named by the
SHA-256 of these bytes, and a test holds both encoders to equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, cast

from buildpipelines.errors import FormatError

DEPTH_MAX: Final = 16
INTEGER_MAX: Final = 2**53 - 1
_INTEGER_CHARACTERS_MAX: Final = 17


def dumps(value: object) -> bytes:
    """Return the canonical bytes of ``value`` (dict, list, tuple, text, bool, int).

    Raises:
        FormatError: the value is outside the profile.
    """
    _check(value, DEPTH_MAX)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FormatError("text holds a lone surrogate") from error


def loads_object(data: bytes, *, bytes_max: int) -> dict[str, object]:
    """Return the object whose canonical form is exactly ``data``.

    Raises:
        FormatError: too long, not JSON, outside the profile, not canonical, or no object.
    """
    if len(data) > bytes_max:
        raise FormatError(f"document of {len(data)} bytes; at most {bytes_max} are allowed")
    try:
        value: object = json.loads(
            data.decode(), parse_int=_parse_integer, parse_float=_refuse, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError("a JSON object is expected")
    if dumps(value) != data:
        raise FormatError("document is not in canonical form")
    return cast("dict[str, object]", value)


def digest(document: Mapping[str, object]) -> str:
    """Return the hex SHA-256 of the canonical bytes: how documents are named."""
    return hashlib.sha256(dumps(document)).hexdigest()


def _check(value: object, depth_left: int) -> None:
    if isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise FormatError("integer outside 2^53-1")
        return
    if depth_left == 0:
        raise FormatError(f"nested deeper than {DEPTH_MAX}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise FormatError(f"key {key!r:.80} is not ASCII text")
            _check(item, depth_left - 1)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for item in value:
            _check(item, depth_left - 1)
    else:
        raise FormatError(f"a value of type {type(value).__name__} has no canonical form")


def _parse_integer(text: str) -> int:
    # The length comes first: converting a long text costs quadratic time.
    if len(text) > _INTEGER_CHARACTERS_MAX:
        raise FormatError("integer outside 2^53-1")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise FormatError(f"number {text:.40} is not an integer")
