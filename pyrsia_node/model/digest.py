"""Digests as the documents write them: lowercase hexadecimal text of fixed length.

Raw 32-byte digests belong to ``consensus`` and ``tlog``; in documents, keys and addresses the hex
form rules, and there is exactly one spelling of it.
"""

from __future__ import annotations

import hashlib
from typing import Final, NewType

from pyrsia_node.model.errors import InvalidInputError

Sha256 = NewType("Sha256", str)
"""A SHA-256 digest as 64 lowercase hex digits."""

ZERO_SHA256: Final = Sha256("0" * 64)
"""Stands for "nothing before"."""


def sha256_of(data: bytes) -> Sha256:
    """Return the SHA-256 of ``data``."""
    return Sha256(hashlib.sha256(data).hexdigest())


def is_hex(text: str, *, size: int) -> bool:
    """Tell whether ``text`` is the one hex spelling of ``size`` bytes."""
    # There and back: reading alone takes upper case and spaces. Quicker than a look at each digit.
    if len(text) != 2 * size:
        return False
    try:
        return bytes.fromhex(text).hex() == text
    except ValueError:
        return False


def parse_sha256(text: str, *, what: str = "digest") -> Sha256:
    """Return ``text`` as a digest.

    Raises:
        InvalidInputError: Not 64 lowercase hex digits; the text names ``what`` and the value.
    """
    if not is_hex(text, size=32):
        raise InvalidInputError(f"{what} {text!r:.80} is not 64 lowercase hex digits")
    return Sha256(text)
