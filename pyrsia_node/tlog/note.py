"""Signed notes: a text and the signature lines of several keys. C2SP signed-note.

A note is parsed without knowing any key (``Note.parse``), then opened with the keys that the
reader trusts (``Note.verified_by``). Lines of unknown keys are kept and ignored; a line of a
*known* key that does not verify spoils the whole note. What a key signs depends on its type:
0x01 signs the text itself; 0x04 is the timestamped checkpoint cosignature of ``cosignature``.

Not here: ECDSA, RFC 6962 tree heads and ML-DSA keys; their lines count as unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from consensus import ed25519
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog import cosignature
from pyrsia_node.tlog.text import decode_base64, decode_lines, encode_base64

NOTE_BYTES_MAX: Final = 256 * 1024
"""Longest note: room for one hundred signatures, some of them post-quantum."""

SIGNATURES_MAX: Final = 100
"""Most signature lines; the specification asks for at least 16, Go's reader takes 100."""

KEY_ID_SIZE: Final = 4
SIGNATURE_SIZE: Final = 64
PUBLIC_KEY_SIZE: Final = 32

_DASH: Final = "\N{EM DASH} "
# The characters with the Unicode property White_Space; a fixed list, because Python's own follows
# the Unicode version of the interpreter. The ASCII control characters among them never get here.
_SPACES: Final = frozenset(
    " \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


class KeyType(IntEnum):
    """The signature type byte of a key; what else exists we do not verify."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature line: the key's name and id, and the bytes after the id."""

    name: str
    key_id: bytes
    payload: bytes

    def format(self) -> str:
        """Return the line without its line end."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.payload)}"

    @classmethod
    def parse(cls, line: str) -> SignatureLine:
        """Return what a line (without its line end) says.

        Raises:
            InvalidInputError: Not of the form: dash, name, base64 of at least five bytes.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise InvalidInputError(f"signature line {line!r:.80} is malformed")
        check_key_name(name)
        data = decode_base64(encoded, what="signature")
        if len(data) <= KEY_ID_SIZE:
            raise InvalidInputError(f"signature of {name} has only {len(data)} bytes")
        return cls(name=name, key_id=data[:KEY_ID_SIZE], payload=data[KEY_ID_SIZE:])


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name, for signatures of one type: a "vkey"."""

    name: str
    type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        """Refuse names and keys that no note may carry.

        Raises:
            InvalidInputError: The name is not legal, or the key is of small or mixed order.
        """
        check_key_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_SIZE or not ed25519.is_valid_key(self.public_key):
            raise InvalidInputError(
                f"key {self.public_key.hex()} of {self.name} is no valid Ed25519 public key"
            )

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a line refers to this key."""
        named = self.name.encode() + b"\n" + bytes([self.type]) + self.public_key
        return hashlib.sha256(named).digest()[:KEY_ID_SIZE]

    def format(self) -> str:
        """Return the text form: name, key id in hex, base64 of type and key."""
        encoded = encode_base64(bytes([self.type]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key that a vkey spells.

        Raises:
            InvalidInputError: Malformed, of an unknown type, or with a key id that is not its own.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise InvalidInputError(f"verifier key {text!r:.120} is not NAME+ID+KEY")
        name, key_id, encoded = parts
        data = decode_base64(encoded, what="verifier key")
        if data[:1] not in {bytes([known]) for known in KeyType}:
            raise InvalidInputError(f"verifier key {text!r:.120} is of an unknown type")
        key = cls(name=name, type=KeyType(data[0]), public_key=data[1:])
        if key.key_id.hex() != key_id:
            raise InvalidInputError(
                f"verifier key {text!r:.120} has id {key_id!r}, its key has {key.key_id.hex()}"
            )
        return key


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that holds. ``time_s`` is the Unix time of a cosignature, else None."""

    key: VerifierKey
    time_s: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends with a line end, and its signature lines in order."""

    text: str
    signatures: tuple[SignatureLine, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Return the note in ``data``; no signature is checked yet.

        Raises:
            InvalidInputError: Too long, malformed, or with no or too many signature lines.
        """
        lines = decode_lines(data, what="note", bytes_max=NOTE_BYTES_MAX)
        try:
            blank = len(lines) - 1 - lines[::-1].index("")
        except ValueError:
            raise InvalidInputError("note has no blank line before its signatures") from None
        if blank == 0:
            raise InvalidInputError("note has no text")
        count = len(lines) - blank - 1
        if not 1 <= count <= SIGNATURES_MAX:
            raise InvalidInputError(f"note has {count} signatures, not 1 to {SIGNATURES_MAX}")
        return cls(
            text="".join(f"{line}\n" for line in lines[:blank]),
            signatures=tuple(SignatureLine.parse(line) for line in lines[blank + 1 :]),
        )

    def encode(self) -> bytes:
        """Return the bytes of the note."""
        lines = "".join(f"{signature.format()}\n" for signature in self.signatures)
        return f"{self.text}\n{lines}".encode()

    def verified_by(self, keys: Iterable[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """Return the signatures of ``keys``, in line order, at most one for each key.

        A key that signed twice counts once, with its newest time; both lines must hold.

        Raises:
            InvalidInputError: Two of the keys cannot be told apart by name and id.
            VerificationError: A line of one of the keys does not hold, or no key signed.
        """
        known: dict[tuple[str, bytes], VerifierKey] = {}
        for key in keys:
            if known.setdefault((key.name, key.key_id), key) != key:
                raise InvalidInputError(f"two keys share the name {key.name} and their key id")
        found: dict[VerifierKey, VerifiedSignature] = {}
        for line in self.signatures:
            signer = known.get((line.name, line.key_id))
            if signer is None:
                continue
            verified = _verify_line(self.text, line, signer)
            earlier = found.get(signer)
            if earlier is None or (earlier.time_s or 0) < (verified.time_s or 0):
                found[signer] = verified
        if not found:
            names = ", ".join(sorted({line.name for line in self.signatures}))
            raise VerificationError(f"note is signed by no known key, only by: {names:.200}")
        return tuple(found.values())


def check_key_name(name: str) -> None:
    """Check that ``name`` may stand in a signature line.

    Raises:
        InvalidInputError: Empty, or it holds a space, a plus sign or a control character.
    """
    if not name or "+" in name or not _SPACES.isdisjoint(name) or min(name) < " ":
        raise InvalidInputError(f"key name {name!r:.80} is empty or holds a space or a plus sign")


def _verify_line(text: str, line: SignatureLine, key: VerifierKey) -> VerifiedSignature:
    what = f"signature of {key.name} ({key.key_id.hex()})"
    time_s: int | None = None
    signature, message = line.payload, text.encode()
    if key.type is KeyType.COSIGNATURE:
        time_s, signature = cosignature.split_payload(line.payload)
        if time_s > cosignature.TIME_MAX_S:
            raise VerificationError(f"{what} has the impossible time {time_s}")
        message = cosignature.signed_bytes(text, time_s=time_s)
    if len(signature) != SIGNATURE_SIZE:
        raise VerificationError(f"{what} has {len(signature)} bytes instead of {SIGNATURE_SIZE}")
    if not ed25519.verify(key.public_key, message, signature):
        raise VerificationError(f"{what} with key {key.public_key.hex()} does not hold")
    return VerifiedSignature(key=key, time_s=time_s)
