"""A motion that no approval can make valid is refused by the rule that it breaks."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger.motions import Approvable
from pyrsia_node.model.canonical import INTEGER_MAX
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import Accepted
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.members import SignedMember
from pyrsia_node.model.membership import AddNode, JoinProof, RotateKey
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import SIGNATURE_BYTES
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.model.transactions import Transaction
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import maven_bodies as maven
from tests.strategies import member_bodies as change
from tests.strategies.identities import identity

NEW, FRESH = identity(100), identity(200)
NONCE = "00" * 16
SIX = make.PURL
TO_COME = JoinProof(INTEGER_MAX, 2, ZERO_SHA256, bytes(SIGNATURE_BYTES))


@pytest.fixture
def local() -> LocalChain:
    return LocalChain()


def accept(local: LocalChain) -> int:
    """Let the members accept a build; return its entry."""
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    words = [make.batch(each, 1, make.built(req)) for each in members[:3]]
    committed = local.commit(body, *words, make.result(members[0], req))
    assert isinstance(committed.outcomes[0], Accepted)
    return committed.first_leaf + len(committed.leaves) - 1


def forged(member: SignedMember) -> SignedMember:
    return dataclasses.replace(member, signatures=member.signatures[::-1])


def refused(local: LocalChain, operation: Approvable, why: str) -> None:
    """Check that the door for motions refuses, before and after everybody has approved."""
    with pytest.raises(InvalidInputError, match=why):
        local.chain.check_motion(operation)
    local.commit(*local.approved(operation)[:-1])
    with pytest.raises(InvalidInputError, match=why):
        local.chain.check_motion(operation)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("foo", 4, "no parameter is named 'foo'; there are"),
        ("min_authorized", 999_999, "parameter min_authorized is 999999, not 1 to"),
        ("min_authorized", 0, "parameter min_authorized is 0, not 1 to"),
        ("min_authorized", 3, "parameter min_authorized is 3 already"),
        ("rules", 1, "parameter rules is 1, not 2 to"),
        ("sealed", 0, "parameter sealed is 0 already"),
        ("sealed", 2, "parameter sealed is 2, not 0 to 1"),
        ("class_ms.huge", 60_000, "no parameter is named 'class_ms.huge'"),
    ],
)
def test_a_parameter_that_cannot_be_set_so_is_refused(
    local: LocalChain, name: str, value: int, why: str
) -> None:
    operation = change.set_param(local.members[0].id, name, value)
    refused(local, operation, why)
    # The same operation as a transaction gets no further, whoever signs it.
    with pytest.raises(InvalidInputError, match=why):
        local.chain.check_transaction(local.sign(operation).encoded, local.now_ms)


def test_who_is_no_member_cannot_be_removed(local: LocalChain) -> None:
    operation = change.remove(local.members[0].id, NEW.id)
    refused(local, operation, f"{NEW.id} is no authorized node")
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        local.chain.check_transaction(local.sign(operation).encoded, local.now_ms)


def test_the_last_member_cannot_be_removed() -> None:
    local = LocalChain(1)
    (one,) = local.members
    refused(local, change.remove(one.id, one.id), "is the last authorized node")


def test_a_member_cannot_be_added_again(local: LocalChain) -> None:
    operation = AddNode(local.members[0].id, local.members[1].member, TO_COME)
    refused(local, operation, "is an authorized node already")


def test_a_record_whose_signatures_do_not_hold_is_refused(local: LocalChain) -> None:
    by = local.members[0]
    refused(local, AddNode(by.id, forged(NEW.member), TO_COME), "does not hold")
    after = change.renewed(by.member.record, FRESH).member
    refused(local, RotateKey(forged(after), TO_COME), "does not hold")


def test_keys_that_a_member_has_already_or_others_had_are_refused(local: LocalChain) -> None:
    one, other = local.members[:2]
    refused(local, RotateKey(one.member, TO_COME), "are these already")
    taken = change.renewed(one.member.record, other).member
    refused(local, RotateKey(taken, TO_COME), "key")


def test_a_second_revocation_is_refused(local: LocalChain) -> None:
    digest = sha256_of(b"wheel")
    by = local.members[0].id
    local.commit(*local.approved(Revoke(by, SIX, digest, "malware", NONCE)))
    again = Revoke(by, SIX, digest, "malware indeed", NONCE)
    refused(local, again, "says revoke already")
    with pytest.raises(InvalidInputError, match="says revoke already"):
        local.chain.check_transaction(local.sign(again).encoded, local.now_ms)


def test_what_is_withdrawn_must_be_an_accepted_entry_of_that_package(local: LocalChain) -> None:
    entry = accept(local)
    by = local.members[0].id
    for leaf, purl, why in [
        (entry, Purl.pypi("seven", "1"), "entry [0-9]+ is of pkg:pypi/six"),
        (entry - 1, SIX, "is no accepted build"),
        (10**9, SIX, "there is no entry 1000000000: the log has [0-9]+ leaves"),
    ]:
        refused(local, Withdraw(by, purl, leaf, "wrong", NONCE), why)


def test_a_second_withdrawal_is_refused(local: LocalChain) -> None:
    entry = accept(local)
    by = local.members[0].id
    local.commit(*local.approved(Withdraw(by, SIX, entry, "wrong", NONCE)))
    refused(local, Withdraw(by, SIX, entry, "wrong twice", NONCE), "says withdraw already")


def test_a_mapping_that_says_nothing_new_is_refused(local: LocalChain) -> None:
    by = local.members[0].id
    taken_back = maven.add_source(by, SourceMapping(maven.mapping().pattern, ""))
    refused(local, taken_back, "no source is mapped for pkg:maven/commons-codec/commons-codec")
    local.commit(*local.approved(maven.add_source(by)))
    refused(local, maven.add_source(by, nonce=1), "leaf [0-9]+ maps .* so already")


def test_a_motion_by_who_is_no_member_is_refused(local: LocalChain) -> None:
    refused(local, change.set_param(NodeId(NEW.id), "burst", 5), "is no authorized node")


def operations(local: LocalChain, entry: int) -> list[Approvable]:
    by = local.members[0]
    return [
        change.set_param(by.id, "burst", 5),
        change.set_param(by.id, "rules", 2),
        change.remove(by.id, local.members[3].id),
        AddNode(by.id, NEW.member, TO_COME),
        RotateKey(change.renewed(by.member.record, FRESH).member, TO_COME),
        Withdraw(by.id, SIX, entry, "wrong", NONCE),
        Revoke(by.id, SIX, sha256_of(b"wheel"), "malware", NONCE),
        maven.add_source(by.id),
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_motion_that_lacks_only_approvals_is_open(local: LocalChain, number: int) -> None:
    operation = operations(local, accept(local))[number]
    before = dict(local.store.scan(b""))
    local.chain.check_motion(operation)
    assert dict(local.store.scan(b"")) == before
    yes: list[Transaction] = local.approved(operation)[:-1]
    local.commit(*yes)
    local.chain.check_motion(operation)
