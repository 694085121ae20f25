"""What is signed: one domain tag for each kind of statement that members make outside consensus.

A signature means one thing only, because every signed byte string starts with the tag of its kind.
The calls that sign and verify are injected; the one implementation is ``consensus.ed25519``.
Specification: docs/spec/leaves.md.
"""

from __future__ import annotations

from typing import Final

from consensus.ed25519 import KEY_BYTES, SIGNATURE_BYTES, Sign, Verify

__all__ = [
    "JOIN_TAG",
    "KEY_BYTES",
    "MEMBER_TAG",
    "OPERATION_TAG",
    "SIGNATURE_BYTES",
    "TRANSACTION_TAG",
    "Sign",
    "Verify",
]

MEMBER_TAG: Final = b"pyrsia/member/1\0"
"""Before the canonical member record; the genesis hashes records, so no network id stands here."""

TRANSACTION_TAG: Final = b"pyrsia/tx/1\0"
"""Before the network id and the canonical transaction."""

JOIN_TAG: Final = b"pyrsia/join/1\0"
"""Before the network id, the digest of a member record and the root of a checkpoint."""

OPERATION_TAG: Final = b"pyrsia/op/1\0"
"""Before the network id and the content of an operation that members approve. It is hashed, not
signed: what is signed is the approval that names the hash."""
