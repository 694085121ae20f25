"""Ed25519 for everything that nodes must agree on: the one signer and the one verifier.

Two verifiers that differ on one edge case can fork a network, so no other module, here or in
``pyrsia_node``, may verify a signature that consensus rests on. This is libsodium, by PyNaCl; it
refuses small-order keys and points, non-canonical encodings and scalars not below the group order.
The accepted set is frozen in tests/vectors/ed25519.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

Sign = Callable[[bytes], bytes]
"""Signs a message with one fixed key; deterministic; 64 bytes."""

Verify = Callable[[bytes, bytes, bytes], bool]
"""``verify(key, message, signature)``: whether the signature holds. Never raises."""


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` is the signature of ``message`` by ``key``; about 100 us.

    Malformed keys and signatures of any length are False, never an error.
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def is_valid_key(key: bytes) -> bool:
    """Say whether ``key`` may become a member's key: a canonical point of the prime-order group.

    Checked once, when a member is admitted (CONSENSUS 3.8): a key with a small-order part would
    let one secret make signatures that hold for some verifiers only.
    """
    return len(key) == KEY_BYTES and crypto_core_ed25519_is_valid_point(key)


def signer(seed: bytes) -> Sign:
    """Return the signing call of the key whose 32-byte secret is ``seed``.

    Raises:
        ValueError: ``seed`` is not 32 bytes.
    """
    if len(seed) != KEY_BYTES:
        raise ValueError(f"an Ed25519 seed has {KEY_BYTES} bytes, not {len(seed)}")
    key = SigningKey(seed)
    return lambda message: bytes(key.sign(message).signature)


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte public key of the secret ``seed``.

    Raises:
        ValueError: ``seed`` is not 32 bytes.
    """
    if len(seed) != KEY_BYTES:
        raise ValueError(f"an Ed25519 seed has {KEY_BYTES} bytes, not {len(seed)}")
    return bytes(SigningKey(seed).verify_key)
