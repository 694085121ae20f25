"""Signatures that held: checked once in a process, however many parts ask.

A vote is checked when it comes in; the certificate that it is part of is checked again when its
block is committed, and once more as the parent's certificate inside the next block. A signature
holds or does not, for ever, so the answer "it holds" may be remembered for exactly these bytes. The
answer "it does not" is not: hostile bytes would fill the memory.
"""

from __future__ import annotations

from typing import Final

from consensus.ed25519 import Verify

REMEMBERED_MAX: Final = 8192
"""About a block of 5,000 transactions and the votes around it; some 4 MiB at most."""


class VerifiedOnce:
    """A verifier that remembers the newest signatures that held."""

    def __init__(self, verify: Verify) -> None:
        """Ask ``verify`` about what is not remembered."""
        self._verify = verify
        self._newer: set[tuple[bytes, bytes, bytes]] = set()
        self._older: set[tuple[bytes, bytes, bytes]] = set()

    def __call__(self, key: bytes, message: bytes, signature: bytes, /) -> bool:
        """Say whether the signature of ``message`` holds under ``key``."""
        entry = (key, message, signature)
        if entry in self._newer or entry in self._older:
            return True
        if not self._verify(key, message, signature):
            return False
        if 2 * len(self._newer) >= REMEMBERED_MAX:
            self._newer, self._older = set(), self._newer
        self._newer.add(entry)
        return True
