"""Keys of a simulated cluster: real Ed25519, or a keyed hash that nobody can forge either.

The keyed hash is a hundred times faster and just as deterministic. It is unforgeable inside the
simulation because the secrets stay in this object: an actor is handed the signing calls of the
nodes that it owns and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from consensus import ed25519
from consensus.types import Digest, Member, MemberSet, NodeId

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]


@dataclass(frozen=True, slots=True)
class Keys:
    """Public keys and signing calls of every node, and the verifier that belongs to them."""

    public: dict[NodeId, bytes]
    sign: dict[NodeId, Sign]
    verify: Verify


def keyed(nodes: tuple[NodeId, ...], *, seed: int) -> Keys:
    """Make keys whose signatures are keyed BLAKE2b hashes of 64 bytes."""
    secrets = {node: _secret(node, seed) for node in nodes}
    public = {node: hashlib.sha256(secret).digest() for node, secret in secrets.items()}
    by_public = {public[node]: secrets[node] for node in nodes}

    def verify(key: bytes, message: bytes, signature: bytes) -> bool:
        secret = by_public.get(key)
        return secret is not None and _tag(secret, message) == signature

    def signer(node: NodeId) -> Sign:
        return lambda message: _tag(secrets[node], message)

    return Keys(public=public, sign={node: signer(node) for node in nodes}, verify=verify)


def real(nodes: tuple[NodeId, ...], *, seed: int) -> Keys:
    """Make Ed25519 keys from the seed and use the product's own verifier."""
    secrets = {node: _secret(node, seed) for node in nodes}
    return Keys(
        public={node: ed25519.public_key(secret) for node, secret in secrets.items()},
        sign={node: ed25519.signer(secret) for node, secret in secrets.items()},
        verify=ed25519.verify,
    )


def member_set(nodes: tuple[NodeId, ...], keys: Keys, *, epoch: int) -> MemberSet:
    """Return the set of ``nodes`` in ``epoch``; its hash binds the epoch, ids and keys."""
    members = tuple(Member(node, keys.public[node]) for node in sorted(nodes))
    text = hashlib.sha256(b"simulated set" + epoch.to_bytes(8))
    for member in members:
        text.update(member.id.encode() + b"\0" + member.vote_key)
    return MemberSet(epoch=epoch, members=members, set_hash=Digest(text.digest()))


def _secret(node: NodeId, seed: int) -> bytes:
    return hashlib.sha256(b"simulated key\0" + seed.to_bytes(16) + node.encode()).digest()


def _tag(secret: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=secret, digest_size=64).digest()
