"""Transactions at the door: each signature is checked once, under the key of the current set."""

from __future__ import annotations

import dataclasses

import pytest

from consensus import ed25519
from pyrsia_node.ledger.admission import Admission
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.members import SetLeaf
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make


class CountingVerifier:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, key: bytes, message: bytes, signature: bytes) -> bool:
        self.calls += 1
        return ed25519.verify(key, message, signature)


@pytest.fixture
def local() -> LocalChain:
    return LocalChain()


def test_signature_is_checked_once(local: LocalChain) -> None:
    verify = CountingVerifier()
    door = Admission(local.network_id, verify)
    signed = local.sign(make.request(local.members[0].id))
    members = local.chain.tip.set_leaf
    assert door.admit(signed.encoded, members) == signed
    assert door.admit(signed.encoded, members) == signed
    assert verify.calls == 1


def test_signature_is_checked_again_when_the_key_changed(local: LocalChain) -> None:
    verify = CountingVerifier()
    door = Admission(local.network_id, verify)
    signed = local.sign(make.request(local.members[0].id))
    members = local.chain.tip.set_leaf
    door.admit(signed.encoded, members)
    keys = dataclasses.replace(members.members[0].keys, tx=members.members[1].keys.tx)
    rotated = dataclasses.replace(members.members[0], keys=keys)
    after = SetLeaf(1, members.digest(), (rotated, *members.members[1:]))
    with pytest.raises(InvalidInputError, match="does not hold"):
        door.admit(signed.encoded, after)


def test_author_outside_the_set_is_refused_even_when_known(local: LocalChain) -> None:
    door = Admission(local.network_id, ed25519.verify)
    signed = local.sign(make.request(local.members[0].id))
    members = local.chain.tip.set_leaf
    door.admit(signed.encoded, members)
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        door.admit(signed.encoded, SetLeaf(1, members.digest(), members.members[1:]))


def test_forged_signature_is_refused_each_time(local: LocalChain) -> None:
    verify = CountingVerifier()
    door = Admission(local.network_id, verify)
    encoded = local.sign(make.request(local.members[0].id)).encoded
    forged = encoded.replace(b'"sig":"', b'"sig":"00', 1)
    forged = (
        forged[: forged.index(b'"sig":"') + 7 + 128] + encoded[encoded.index(b'"sig":"') + 135 :]
    )
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="does not hold"):
            door.admit(forged, local.chain.tip.set_leaf)
    assert verify.calls == 2


def test_memory_of_the_door_is_bounded(local: LocalChain) -> None:
    verify = CountingVerifier()
    bodies = [make.request(local.members[0].id, nonce=number) for number in range(3)]
    encoded = [local.sign(body).encoded for body in bodies]
    door = Admission(local.network_id, verify, cache_bytes_max=2 * len(encoded[0]))
    for each in encoded:
        door.admit(each, local.chain.tip.set_leaf)
    door.admit(encoded[2], local.chain.tip.set_leaf)
    assert verify.calls == 3
    door.admit(encoded[0], local.chain.tip.set_leaf)
    assert verify.calls == 4
