"""The text forms that all log formats share: decimal numbers, base64, whole lines.

Each value has exactly one spelling here; every other is refused. That keeps two readers of the
same signed bytes from seeing different things (``int()`` takes ``+1``, ``1_0`` and Arabic digits).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog.tree import HASH_SIZE

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f]")


def parse_decimal(text: str, *, what: str, value_max: int) -> int:
    """Return the number that ``text`` spells: ASCII digits, no sign, no leading zero.

    Raises:
        InvalidInputError: Another spelling, or more than ``value_max``.
    """
    if not _DECIMAL.fullmatch(text):
        raise InvalidInputError(f"{what} {text!r:.60} is not a plain decimal number")
    value = int(text)
    if value > value_max:
        raise InvalidInputError(f"{what} {value} exceeds {value_max}")
    return value


def encode_base64(data: bytes) -> str:
    """Return the standard base64 of ``data`` (RFC 4648, section 4), padded."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, what: str) -> bytes:
    """Return the bytes of which ``text`` is the one base64 form.

    Raises:
        InvalidInputError: Other characters, missing padding, or stray bits in the last group.
    """
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidInputError(f"{what} {text!r:.60} is not base64: {error}") from None
    if encode_base64(data) != text:
        raise InvalidInputError(f"{what} {text!r:.60} is not canonical base64")
    return data


def decode_hash(text: str, *, what: str) -> bytes:
    """Return the 32-byte hash of which ``text`` is the base64 form.

    Raises:
        InvalidInputError: Not base64, or not 32 bytes.
    """
    data = decode_base64(text, what=what)
    if len(data) != HASH_SIZE:
        raise InvalidInputError(f"{what} {text!r:.60} has {len(data)} bytes instead of {HASH_SIZE}")
    return data


def decode_lines(data: bytes, *, what: str, bytes_max: int) -> list[str]:
    r"""Return the lines of a UTF-8 text in which every line ends with ``\n``.

    No control character but the line end is let through, so what a terminal shows is what was
    signed.

    Raises:
        InvalidInputError: Too long, not UTF-8, a control character, or no final line end.
    """
    if len(data) > bytes_max:
        raise InvalidInputError(f"{what} of {len(data)} bytes exceeds the limit of {bytes_max}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{what} is not UTF-8 at byte {error.start}") from None
    control = _CONTROL.search(text)
    if control is not None:
        raise InvalidInputError(
            f"{what} holds the control character {control[0]!r} at character {control.start()}"
        )
    if not text.endswith("\n"):
        raise InvalidInputError(f"{what} does not end with a line end")
    return text[:-1].split("\n")
