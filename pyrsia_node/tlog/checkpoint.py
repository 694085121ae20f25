"""Checkpoints: origin, size and root of a log, in three lines. C2SP tlog-checkpoint.

Extension lines are refused: nobody could audit them, and our logs never write any.
The signed form is a ``note.Note`` whose text is a checkpoint: ``SignedCheckpoint``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.signing import Sign
from pyrsia_node.tlog import cosignature
from pyrsia_node.tlog.note import (
    KeyType,
    Note,
    SignatureLine,
    VerifiedSignature,
    VerifierKey,
)
from pyrsia_node.tlog.text import decode_hash, encode_base64, parse_decimal
from pyrsia_node.tlog.tree import EMPTY_ROOT, HASH_SIZE, SIZE_MAX

ORIGIN_LENGTH_MAX: Final = 255
"""Longest origin line; the ML-DSA cosignature form has one byte for its length."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: its origin line, its size and the root of its tree."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Assert what every maker of a checkpoint must have ensured."""
        assert self.origin
        assert "\n" not in self.origin
        assert 0 <= self.size <= SIZE_MAX
        assert len(self.root) == HASH_SIZE

    def text(self) -> str:
        """Return the three lines."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Return the checkpoint that the text of a note spells.

        Raises:
            InvalidInputError: Not exactly three lines, or one is malformed.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise InvalidInputError("checkpoint has not exactly three lines")
        origin, size_text, root_text, _ = lines
        if not 0 < len(origin.encode()) <= ORIGIN_LENGTH_MAX:
            raise InvalidInputError(
                f"checkpoint's origin {origin!r:.80} has not 1 to {ORIGIN_LENGTH_MAX} bytes"
            )
        size = parse_decimal(size_text, what="checkpoint's size", value_max=SIZE_MAX)
        root = decode_hash(root_text, what="checkpoint's root")
        if size == 0 and root != EMPTY_ROOT:
            raise InvalidInputError(f"checkpoint of size 0 has root {root.hex()}")
        return cls(origin=origin, size=size, root=root)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with signature lines. Nothing is known to hold until a verifier says so."""

    checkpoint: Checkpoint
    signatures: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, data: bytes) -> SignedCheckpoint:
        """Return the signed checkpoint in the bytes of a note.

        Raises:
            InvalidInputError: Not a note, or its text is no checkpoint.
        """
        note = Note.parse(data)
        return cls(checkpoint=Checkpoint.parse(note.text), signatures=note.signatures)

    def note(self) -> Note:
        """Return the note."""
        return Note(text=self.checkpoint.text(), signatures=self.signatures)

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        return self.note().encode()

    def verified_by(self, keys: Iterable[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """Return the signatures of ``keys`` that hold; see ``Note.verified_by``.

        Raises:
            InvalidInputError: Two of the keys cannot be told apart.
            VerificationError: A line of one of the keys does not hold, or no key signed.
        """
        return self.note().verified_by(keys)


def log_key(origin: str, public_key: bytes) -> VerifierKey:
    """Return the key of a log, type 0x01; its name is the origin.

    Raises:
        InvalidInputError: The origin or the key is not legal.
    """
    return VerifierKey(name=origin, type=KeyType.ED25519, public_key=public_key)


def cosigner_key(label: str, public_key: bytes) -> VerifierKey:
    """Return the key of a cosigner, type 0x04; its name is the member's label.

    Raises:
        InvalidInputError: The label or the key is not legal.
    """
    return VerifierKey(name=label, type=KeyType.COSIGNATURE, public_key=public_key)


def sign(checkpoint: Checkpoint, key: VerifierKey, signer: Sign) -> SignatureLine:
    """Return a log's own signature of the checkpoint (type 0x01).

    A log MUST NOT sign a checkpoint that is inconsistent with one that it signed before; the
    caller sees to that.
    """
    assert key.type is KeyType.ED25519
    assert key.name == checkpoint.origin
    payload = signer(checkpoint.text().encode())
    return SignatureLine(name=key.name, key_id=key.key_id, payload=payload)


def cosign(checkpoint: Checkpoint, key: VerifierKey, signer: Sign, *, time_s: int) -> SignatureLine:
    """Return a cosignature (type 0x04): "at this time, this is the largest head I know".

    The caller has durably stored that it cosigns (size, root) before this line leaves it.

    Args:
        checkpoint: What is cosigned.
        key: The cosigner's public key.
        signer: Signs with the matching private key.
        time_s: Unix time in seconds.
    """
    assert key.type is KeyType.COSIGNATURE
    signature = signer(cosignature.signed_bytes(checkpoint.text(), time_s=time_s))
    return SignatureLine(
        name=key.name,
        key_id=key.key_id,
        payload=cosignature.join_payload(signature, time_s=time_s),
    )
