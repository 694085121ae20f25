"""Peer ids of ed25519 keys, without importing libp2p.

A peer id is the base58 text of an *identity* multihash over the key's protobuf form, so the key
can be read back out of it: whoever knows the id can check the peer's signatures.
This module knows ed25519 alone; every other kind of id is refused, which is a rule of this
network (one key type, 52 characters, the key inside). It opens no socket and keeps no secret.
Specification: libp2p peer ids (specs/peer-ids), docs/spec/leaves.md "Member id".
"""

from __future__ import annotations

from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.ports import PeerId

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

# Multihash code 0 (identity), length 36; then the protobuf PublicKey {1: Ed25519 (1), 2: 32 bytes}.
_PREFIX: Final = bytes.fromhex("002408011220")
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_ID_CHARACTERS: Final = 52


def peer_id_of(public_key: bytes) -> PeerId:
    """Return the peer id of a 32-byte ed25519 public key.

    Raises:
        InvalidInputError: The key has another length.
    """
    if len(public_key) != KEY_BYTES:
        raise InvalidInputError(f"an ed25519 public key has 32 bytes, not {len(public_key)}")
    return PeerId(_base58(_PREFIX + public_key))


def public_key_of(peer: str) -> bytes:
    """Return the ed25519 public key inside a peer id.

    Raises:
        InvalidInputError: Not the one spelling of an ed25519 peer id.
    """
    number = 0
    for letter in peer[: _ID_CHARACTERS + 1]:
        if letter not in _VALUES:
            raise InvalidInputError(f"peer id {peer[:64]!r} is not base58")
        number = number * 58 + _VALUES[letter]
    # The leading zero byte of the prefix is the leading "1"; re-encoding finds every other form.
    length = len(_PREFIX) + KEY_BYTES
    raw = number.to_bytes(length, "big") if number.bit_length() <= 8 * length else b""
    if not raw.startswith(_PREFIX) or _base58(raw) != peer:
        raise InvalidInputError(f"peer id {peer[:64]!r} is not that of an ed25519 key")
    return raw[len(_PREFIX) :]


def public_key_of_seed(seed32: bytes) -> bytes:
    """Return the ed25519 public key of a 32-byte seed.

    Raises:
        InvalidInputError: The seed has another length.
    """
    if len(seed32) != KEY_BYTES:
        raise InvalidInputError(f"an ed25519 seed has 32 bytes, not {len(seed32)}")
    return bytes(SigningKey(seed32).verify_key)


def sign(seed32: bytes, message: bytes) -> bytes:
    """Return the 64-byte ed25519 signature of ``message`` under a seed."""
    return bytes(SigningKey(seed32).sign(message).signature)


def is_signed_by(public_key: bytes, *, message: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is the key's over ``message``; malformed input is False."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != KEY_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def _base58(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    letters: list[str] = []
    while number:
        number, value = divmod(number, 58)
        letters.append(_ALPHABET[value])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))
