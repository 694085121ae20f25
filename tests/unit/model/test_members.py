"""Member records, sets and the genesis: who may be admitted."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.ed25519 import verify
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis, make_genesis
from pyrsia_node.model.limits import LEAF_BYTES_MAX, MEMBERS_MAX
from pyrsia_node.model.members import (
    KEY_NAMES,
    MemberKeys,
    SetLeaf,
    SignedMember,
    sign_member,
)
from tests.strategies.identities import GENESIS_TIME_MS, genesis_of, identities, identity

FOUR = identities(4)


def test_member_record_verifies_and_reads_back() -> None:
    member = FOUR[0].member
    member.verify(verify)
    assert SignedMember.decode(member.encode()) == member


@pytest.mark.parametrize("position", range(5))
def test_each_of_the_five_keys_must_have_signed(position: int) -> None:
    member = FOUR[0].member
    broken = [*member.signatures]
    broken[position] = bytes([broken[position][0] ^ 1]) + broken[position][1:]
    with pytest.raises(VerificationError, match=f"key {KEY_NAMES[position]}"):
        SignedMember(member.record, tuple(broken)).verify(verify)


def test_id_must_be_the_peer_id_of_the_p2p_key() -> None:
    record = dataclasses.replace(FOUR[0].member.record, id=FOUR[1].id)
    with pytest.raises(VerificationError, match="is not 12D3"):
        SignedMember(record, FOUR[0].member.signatures).verify(verify)


def test_small_order_key_is_refused_before_its_signature_is_looked_at() -> None:
    keys = dataclasses.replace(FOUR[0].member.record.keys, cosign=bytes([1]) + bytes(31))
    signed = sign_member("low", keys, FOUR[0].sign)
    with pytest.raises(VerificationError, match=r"key cosign .* no sound"):
        signed.verify(lambda *_: True)


def test_two_equal_keys_of_one_member_are_refused() -> None:
    keys = FOUR[0].member.record.keys
    with pytest.raises(InvalidInputError, match="two of the five"):
        sign_member("twice", dataclasses.replace(keys, tx=keys.vote), FOUR[0].sign)


@pytest.mark.parametrize("label", ["", "A", "a b", "a+b", "a" * 65, "é", "a\n"])
def test_label_that_cannot_be_a_key_name_is_refused(label: str) -> None:
    with pytest.raises(InvalidInputError, match="label"):
        sign_member(label, FOUR[0].member.record.keys, FOUR[0].sign)


def test_genesis_does_not_depend_on_the_order_in_which_members_are_given() -> None:
    forward = genesis_of(FOUR)
    assert genesis_of(FOUR[::-1]) == forward
    assert forward.network_id.hex() == sha256_of(forward.encode())
    assert forward.origin == f"testnet-{forward.network_id.hex()[:8]}/log"


def test_genesis_with_two_members_of_one_label_is_refused() -> None:
    twin = identity(9, "node-0")
    with pytest.raises(InvalidInputError, match="share the label node-0"):
        genesis_of((*FOUR, twin))


def test_genesis_with_one_member_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="distinct"):
        genesis_of((FOUR[0], FOUR[0]))


def test_genesis_with_one_key_in_two_members_is_refused() -> None:
    theirs = FOUR[1].member.record.keys
    mine = FOUR[0].member.record.keys
    keys = MemberKeys(mine.cosign, mine.log, mine.p2p, theirs.tx, mine.vote)
    thief = sign_member("thief", keys, {**FOUR[0].sign, "tx": FOUR[1].sign["tx"]})
    with pytest.raises(InvalidInputError, match="share the key"):
        make_genesis("x", time_ms=GENESIS_TIME_MS, members=[thief, FOUR[1].member], verify=verify)


def test_genesis_with_a_forged_member_is_refused() -> None:
    member = FOUR[0].member
    forged = SignedMember(dataclasses.replace(member.record, label="other"), member.signatures)
    with pytest.raises(VerificationError, match="other"):
        make_genesis("x", time_ms=GENESIS_TIME_MS, members=[forged], verify=verify)


def test_genesis_of_unknown_rules_says_which_rules_are_known() -> None:
    value = canonical.loads_object(genesis_of(FOUR).encode(), bytes_max=LEAF_BYTES_MAX)
    with pytest.raises(InvalidInputError, match="rules 2; this program knows 1"):
        Genesis.decode(canonical.dumps({**value, "rules": 2}))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"min_authorized": 0}, "min_authorized"),
        ({"burst": 0}, "burst"),
        ({"rate_per_hour": -1}, "rate_per_hour"),
        ({"k": {"PyPI": 0}}, "ecosystem"),
        ({"k": {"pypi": -1}}, "pypi"),
        ({"class_ms": {"S": 10, "M": 10_000, "L": 10_000}}, "S is 10"),
        ({"class_ms": {"S": 10_000}}, "missing"),
    ],
)
def test_parameter_out_of_range_is_named(change: dict[str, object], what: str) -> None:
    params = dataclasses.replace(DEFAULT_PARAMS, **change)  # type: ignore[arg-type] # on purpose
    with pytest.raises(InvalidInputError, match=what):
        genesis_of(FOUR, params)


def test_set_leaf_of_epoch_zero_lists_the_members_by_id_with_their_quorum() -> None:
    leaf = genesis_of(FOUR).set_leaf()
    assert SetLeaf.decode(leaf.encode()) == leaf
    assert leaf.quorum == 3
    members = leaf.to_consensus()
    assert [m.id for m in members.members] == [one.id for one in FOUR]
    assert members.set_hash.hex() == leaf.digest()
    assert leaf.record_of(FOUR[2].id) == FOUR[2].member.record
    assert leaf.record_of("nobody") is None


@pytest.mark.parametrize("change", [{"q": 2}, {"epoch": 1}, {"prev": "1" * 64}, {"members": []}])
def test_set_leaf_that_contradicts_itself_is_refused(change: canonical.JsonObject) -> None:
    leaf = genesis_of(FOUR).set_leaf()
    value = canonical.loads_object(leaf.encode(), bytes_max=LEAF_BYTES_MAX)
    with pytest.raises(InvalidInputError):
        SetLeaf.decode(canonical.dumps({**value, **change}))


def test_largest_set_fits_a_leaf() -> None:
    longest = [
        dataclasses.replace(identity(0).member.record, label="a" * 64) for _ in range(MEMBERS_MAX)
    ]
    leaf = SetLeaf(epoch=2**53 - 1, prev=sha256_of(b""), members=tuple(longest))
    assert len(leaf.encode()) <= LEAF_BYTES_MAX
