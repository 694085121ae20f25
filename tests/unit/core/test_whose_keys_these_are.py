"""A node finds out from the committed sets which member it is, whichever of its keys it holds."""

from __future__ import annotations

from pyrsia_node.core.rotation import member_id
from pyrsia_node.model.members import sign_member
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.store.keys import KeyUse, NodeKeys
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import Identity, identities


def keys_of(number: int) -> NodeKeys:
    return NodeKeys(bytes([number]) * 32)


def identity_of(keys: NodeKeys) -> Identity:
    signers = dict(keys.member_signers())
    return Identity(sign_member("north", keys.member_keys(), signers), signers)


FIRST, SECOND, THIRD = keys_of(1), keys_of(2), keys_of(3)


def twice_rotated() -> LocalChain:
    local = LocalChain(members=(*identities(2), identity_of(FIRST)))
    node = identity_of(FIRST).id
    local.commit(*local.rotate(node, identity_of(SECOND)))
    local.commit(*local.rotate(node, identity_of(THIRD)))
    assert local.chain.tip.epoch == 2
    return local


def test_every_key_that_a_member_ever_had_is_that_member() -> None:
    local = twice_rotated()
    found = {member_id(local.chain, keys) for keys in (FIRST, SECOND, THIRD)}
    assert found == {identity_of(FIRST).id}


def test_only_replaced_keys_are_retired() -> None:
    local = twice_rotated()
    retired = [local.chain.is_retired(keys.public(KeyUse.P2P)) for keys in (FIRST, SECOND, THIRD)]
    assert retired == [True, True, False]
    assert not local.chain.is_retired(keys_of(9).public(KeyUse.P2P))


def test_stranger_is_its_own_peer_id() -> None:
    stranger = keys_of(9)
    expected = peer_id_of(stranger.public(KeyUse.P2P))
    assert member_id(twice_rotated().chain, stranger) == expected


def test_replaced_key_of_a_member_that_left_is_a_stranger() -> None:
    local = twice_rotated()
    local.commit(*local.remove(identity_of(FIRST).id))
    for keys in (SECOND, THIRD):
        assert member_id(local.chain, keys) == peer_id_of(keys.public(KeyUse.P2P))
