"""The offline proof of one entry: a ``.tlog-proof`` file. C2SP tlog-proof v1.

It carries the entry itself (as ``extra``), its index, the inclusion proof and the signed
checkpoint. Parsing believes nothing; ``trust.Trust`` says whether the checkpoint counts and
``verify`` whether the entry vouches for a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.proofs import PROOF_LENGTH_MAX, verify_inclusion
from pyrsia_node.tlog.text import (
    decode_base64,
    decode_hash,
    decode_lines,
    encode_base64,
    parse_decimal,
)
from pyrsia_node.tlog.tree import SIZE_MAX, leaf_hash

EXTRA_BYTES_MAX: Final = 48_000
"""Longest entry; as base64 the line stays below the 65,536 characters that Go's readers take."""

_FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
_HEAD_BYTES_MAX: Final = 80_000
PROOF_BYTES_MAX: Final = _HEAD_BYTES_MAX + NOTE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class EntryProof:
    """An entry's place in a log. ``hashes`` run from the leaf's sibling to the root's child."""

    extra: bytes | None
    index: int
    hashes: tuple[bytes, ...]
    signed: SignedCheckpoint

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        lines = [_FIRST_LINE]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [encode_base64(each) for each in self.hashes]
        return "".join(f"{line}\n" for line in [*lines, ""]).encode() + self.signed.encode()

    @classmethod
    def parse(cls, data: bytes) -> EntryProof:
        """Return the proof in the bytes of a file; nothing is checked yet.

        Raises:
            InvalidInputError: Too long or malformed.
        """
        if len(data) > PROOF_BYTES_MAX:
            raise InvalidInputError(
                f"proof of {len(data)} bytes exceeds the limit of {PROOF_BYTES_MAX}"
            )
        head, blank, note = data.partition(b"\n\n")
        if not blank:
            raise InvalidInputError("proof has no blank line before its checkpoint")
        lines = decode_lines(head + b"\n", what="proof", bytes_max=_HEAD_BYTES_MAX)
        if lines[0] != _FIRST_LINE:
            raise InvalidInputError(f"proof starts with {lines[0]!r:.60}, not {_FIRST_LINE!r}")
        rest = lines[1:]
        extra = None
        if rest and rest[0].startswith("extra "):
            extra = _parse_extra(rest.pop(0))
        if not rest or not rest[0].startswith("index "):
            raise InvalidInputError("proof has no index line")
        index = parse_decimal(
            rest[0].removeprefix("index "), what="proof's index", value_max=SIZE_MAX - 1
        )
        if len(rest) - 1 > PROOF_LENGTH_MAX:
            raise InvalidInputError(f"proof has {len(rest) - 1} hashes")
        return cls(
            extra=extra,
            index=index,
            hashes=tuple(decode_hash(line, what="proof's hash") for line in rest[1:]),
            signed=SignedCheckpoint.parse(note),
        )

    def verify_leaf(self, leaf: bytes) -> None:
        """Check that ``leaf`` stands at the index in the tree of the checkpoint.

        Says nothing about who signed the checkpoint.

        Raises:
            InvalidInputError: The index is not in a tree of that size.
            VerificationError: The proof leads to another root; names both.
        """
        checkpoint = self.signed.checkpoint
        verify_inclusion(
            leaf_hash(leaf),
            index=self.index,
            size=checkpoint.size,
            root=checkpoint.root,
            proof=self.hashes,
        )


def _parse_extra(line: str) -> bytes:
    extra = decode_base64(line.removeprefix("extra "), what="proof's extra data")
    if len(extra) > EXTRA_BYTES_MAX:
        raise InvalidInputError(
            f"proof's extra data of {len(extra)} bytes exceeds {EXTRA_BYTES_MAX}"
        )
    return extra
