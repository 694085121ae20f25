"""Members with real keys, made once and always the same: what a test network is built of."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

from consensus.ed25519 import Sign, public_key, signer, verify
from consensus.types import NodeId
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis, Params, make_genesis
from pyrsia_node.model.members import KEY_NAMES, MemberKeys, SignedMember, sign_member

GENESIS_TIME_MS = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A member and the calls that sign as it, by key name."""

    member: SignedMember
    sign: dict[str, Sign]

    @property
    def id(self) -> NodeId:
        return self.member.record.id


@functools.cache
def identity(number: int, label: str | None = None) -> Identity:
    seeds = {name: hashlib.sha256(f"{number}/{name}".encode()).digest() for name in KEY_NAMES}
    public = {name: public_key(seed) for name, seed in seeds.items()}
    signers = {name: signer(seed) for name, seed in seeds.items()}
    keys = MemberKeys(**public)
    return Identity(sign_member(label or f"node-{number}", keys, signers), signers)


@functools.cache
def identities(count: int) -> tuple[Identity, ...]:
    """Return ``count`` members in id order, as a set lists them."""
    return tuple(sorted((identity(number) for number in range(count)), key=lambda one: one.id))


def genesis_of(members: tuple[Identity, ...], params: Params = DEFAULT_PARAMS) -> Genesis:
    return make_genesis(
        "testnet",
        time_ms=GENESIS_TIME_MS,
        members=[one.member for one in members],
        verify=verify,
        params=params,
    )
