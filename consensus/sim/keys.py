"""Keys of a simulated cluster: real Ed25519, or a keyed hash that nobody can forge either.

The keyed hash is a hundred times faster and just as deterministic. It is unforgeable inside the
simulation because the secrets stay in this object: an actor is handed the signing calls of the
nodes that it owns, and keys that no set in force names any more.

A node that rotates has one key after the other. An honest one holds a single key at a time, in its
``KeyFile``, and changes it only when it starts, as the product does: between the block that rotates
its key and that start, it holds a key that the set does not name. Traitors need no such care:
whatever they sign names a member set, and the ring signs with the key that this set has for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from consensus import ed25519
from consensus.types import Digest, Member, MemberSet, NodeId

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]

_CHAIN_ID_BYTES: Final = 32


class KeyRing:
    """Every key that any node has or had, and which of them each member set names."""

    def __init__(self, seed: int, *, is_real: bool) -> None:
        self._seed = seed
        self._is_real = is_real
        self._signs: dict[tuple[NodeId, int], Sign] = {}
        self._public: dict[tuple[NodeId, int], bytes] = {}
        self._secrets: dict[bytes, bytes] = {}
        self._generations: dict[bytes, Mapping[NodeId, int]] = {}

    def public(self, node: NodeId, generation: int = 0) -> bytes:
        """Return the public key that ``node`` has after ``generation`` rotations."""
        key = (node, generation)
        if key not in self._public:
            secret = _secret(node, self._seed, generation)
            if self._is_real:
                self._public[key] = ed25519.public_key(secret)
                self._signs[key] = ed25519.signer(secret)
            else:
                self._public[key] = hashlib.sha256(secret).digest()
                self._secrets[self._public[key]] = secret
                self._signs[key] = lambda message: _tag(secret, message)
        return self._public[key]

    def all_of(self, node: NodeId) -> list[bytes]:
        """Return every public key of ``node`` that was ever asked for, in order of time."""
        return [key for (one, _), key in sorted(self._public.items()) if one == node]

    def note_set(self, set_hash: Digest, generations: Mapping[NodeId, int]) -> None:
        """Remember which key of each node a member set names; the first one where it is silent."""
        self._generations[set_hash] = generations

    def sign(self, node: NodeId, message: bytes) -> bytes:
        """Sign a vote or proposal with the key of ``node`` in the set that it names."""
        start = message.index(b"\0") + 1 + _CHAIN_ID_BYTES
        set_hash = Digest(message[start : start + 32])
        return self.sign_as(node, self.generation(node, set_hash), message)

    def generation(self, node: NodeId, set_hash: Digest) -> int:
        """Return how often ``node`` had rotated its key when a set came into force."""
        return self._generations.get(set_hash, {}).get(node, 0)

    def sign_as(self, node: NodeId, generation: int, message: bytes) -> bytes:
        """Sign with the key that ``node`` has after ``generation`` rotations."""
        self.public(node, generation)
        return self._signs[node, generation](message)

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether a signature holds; the product's own verifier if the keys are real."""
        if self._is_real:
            return ed25519.verify(key, message, signature)
        secret = self._secrets.get(key)
        return secret is not None and _tag(secret, message) == signature


@dataclass(slots=True)
class KeyFile:
    """The one vote key that an honest node holds. It is on disk and survives a power loss."""

    me: NodeId
    ring: KeyRing = field(repr=False)
    generation: int = 0

    @property
    def public(self) -> bytes:
        """Return the public half."""
        return self.ring.public(self.me, self.generation)

    def sign(self, message: bytes) -> bytes:
        """Sign with this key, whatever set the message names."""
        return self.ring.sign_as(self.me, self.generation, message)

    def is_replaced(self, members: MemberSet) -> bool:
        """Say whether a set names another key for this node."""
        return members.vote_key_of(self.me) not in (None, self.public)

    def follow(self, members: MemberSet) -> None:
        """Put the key that a set names in force; where it names none, the old one stays."""
        if self.is_replaced(members):
            self.generation = self.ring.generation(self.me, members.set_hash)


@dataclass(frozen=True, slots=True)
class Keys:
    """Signing calls of every node, the verifier that belongs to them, and all that is behind."""

    sign: dict[NodeId, Sign]
    verify: Verify
    ring: KeyRing = field(repr=False)


def keyed(nodes: tuple[NodeId, ...], *, seed: int) -> Keys:
    """Make keys whose signatures are keyed BLAKE2b hashes of 64 bytes."""
    return _keys(nodes, KeyRing(seed, is_real=False))


def real(nodes: tuple[NodeId, ...], *, seed: int) -> Keys:
    """Make Ed25519 keys from the seed and use the product's own verifier."""
    return _keys(nodes, KeyRing(seed, is_real=True))


def member_set(
    nodes: tuple[NodeId, ...],
    keys: Keys,
    *,
    epoch: int,
    generations: Mapping[NodeId, int] | None = None,
) -> MemberSet:
    """Return the set of ``nodes`` in ``epoch``; its hash binds the epoch, ids and keys.

    ``generations`` tells how often each node has rotated its key; never, where it is silent.
    """
    rotated = {} if generations is None else generations
    members = tuple(
        Member(node, keys.ring.public(node, rotated.get(node, 0))) for node in sorted(nodes)
    )
    text = hashlib.sha256(b"simulated set" + epoch.to_bytes(8))
    for member in members:
        text.update(member.id.encode() + b"\0" + member.vote_key)
    set_hash = Digest(text.digest())
    keys.ring.note_set(set_hash, rotated)
    return MemberSet(epoch=epoch, members=members, set_hash=set_hash)


def _keys(nodes: tuple[NodeId, ...], ring: KeyRing) -> Keys:
    def signer(node: NodeId) -> Sign:
        return lambda message: ring.sign(node, message)

    return Keys(sign={node: signer(node) for node in nodes}, verify=ring.verify, ring=ring)


def _secret(node: NodeId, seed: int, generation: int) -> bytes:
    text = b"simulated key\0" + seed.to_bytes(16) + generation.to_bytes(4) + node.encode()
    return hashlib.sha256(text).digest()


def _tag(secret: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=secret, digest_size=64).digest()
