"""Whose cosignatures count, how sets follow one another, and what an offline proof proves."""

from __future__ import annotations

import dataclasses
import re

import pytest

from consensus import wire
from consensus.quorum import quorum
from consensus.types import Certificate, Digest, Height, View, VoteKind
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Expired, Header, encode_outcome
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.purl import Purl
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.tree import leaf_hash
from pyrsia_node.tlog.trust import SetChange, Trust, TrustFile
from pyrsia_node.tlog.verify import verify_bundle, verify_entry
from tests.strategies.identities import Identity, genesis_of, identities, identity
from tests.strategies.small_logs import (
    TIME_S,
    WHEEL,
    SmallLog,
    accepted,
    cosigned,
    document,
    log_signed,
    wheel,
    with_another_end,
)

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
TRUST = Trust.establish(TrustFile(GENESIS.encode()))
PURL = "pkg:pypi/six@1.17.0"
NAME = "six-1.17.0-py2.py3-none-any.whl"
DOC = document(PURL, wheel(NAME))
EXPIRED = encode_outcome(Expired(sha256_of(b"r"), Purl.parse(PURL), ()))
LOG = SmallLog(
    GENESIS.origin,
    (GENESIS.encode(), GENESIS.set_leaf().encode(), accepted(DOC, FOUR), EXPIRED, b"{}"),
)
BUNDLE = LOG.proof(2, LOG.signed(FOUR[:3])).encode()


# ---------------------------------------------------------------- quorum


def test_a_quorum_of_cosignatures_counts_and_says_who_and_when() -> None:
    found = TRUST.check(LOG.signed(FOUR[1:]))
    assert found.checkpoint == LOG.head()
    assert found.labels == tuple(sorted(one.member.record.label for one in FOUR[1:]))
    assert (found.quorum, found.epoch, found.time_s) == (3, 0, TIME_S)


def test_one_cosignature_fewer_than_a_quorum_does_not_count() -> None:
    with pytest.raises(VerificationError, match="has 2 cosignatures of epoch 0, needs 3 of 4"):
        TRUST.check(LOG.signed(FOUR[:2]))


def test_log_signatures_and_repeated_cosignatures_do_not_add_up_to_a_quorum() -> None:
    head = LOG.head()
    lines = (
        cosigned(head, FOUR[0]),
        cosigned(head, FOUR[0], time_s=TIME_S + 1),
        cosigned(head, FOUR[1]),
        *(log_signed(head, one) for one in FOUR),
    )
    with pytest.raises(VerificationError, match="has 2 cosignatures"):
        TRUST.check(SignedCheckpoint(head, lines))


def test_strangers_do_not_count_and_do_not_spoil() -> None:
    head = LOG.head()
    strangers = tuple(cosigned(head, identity(number)) for number in (7, 8, 9))
    with pytest.raises(VerificationError, match="signed by no known key"):
        TRUST.check(SignedCheckpoint(head, strangers))
    mixed = SignedCheckpoint(head, (*strangers, *LOG.signed(FOUR).signatures))
    assert len(TRUST.check(mixed).labels) == 4


@pytest.mark.parametrize("kind", ["cosign", "log"])
def test_a_bad_line_of_a_member_spoils_a_quorum_of_good_ones(kind: str) -> None:
    head = LOG.head()
    line = cosigned(head, FOUR[3]) if kind == "cosign" else log_signed(head, FOUR[3])
    bad = SignatureLine(line.name, line.key_id, with_another_end(line.payload))
    with pytest.raises(VerificationError, match="does not hold"):
        TRUST.check(SignedCheckpoint(head, (*LOG.signed(FOUR[:3]).signatures, bad)))


def test_a_log_key_can_not_stand_in_for_a_cosign_key() -> None:
    head = LOG.head()
    member = FOUR[3]
    posed = dataclasses.replace(member, sign={**member.sign, "cosign": member.sign["log"]})
    lines = (*LOG.signed(FOUR[:2]).signatures, cosigned(head, posed))
    with pytest.raises(VerificationError, match="does not hold"):
        TRUST.check(SignedCheckpoint(head, lines))


def test_a_checkpoint_of_another_log_does_not_count_and_both_are_named() -> None:
    other = SmallLog("testnet-00000000/log", LOG.leaves)
    with pytest.raises(VerificationError, match=re.escape(GENESIS.origin)):
        TRUST.check(other.signed(FOUR))


def test_freshness_is_the_time_that_a_quorum_stands_behind() -> None:
    head = LOG.head()
    times = (TIME_S, TIME_S + 50, TIME_S + 70, TIME_S + 10_000_000)  # the last one lies
    lines = tuple(cosigned(head, one, time_s=time) for one, time in zip(FOUR, times, strict=True))
    assert TRUST.check(SignedCheckpoint(head, lines)).time_s == TIME_S + 50


# ---------------------------------------------------------------- the trust file


def test_a_trust_file_of_another_network_is_refused_naming_both() -> None:
    other = genesis_of(identities(3))
    with pytest.raises(VerificationError) as caught:
        Trust.establish(TrustFile(other.encode()), network_id=GENESIS.network_id)
    assert other.network_id.hex() in str(caught.value)
    assert GENESIS.network_id.hex() in str(caught.value)


def test_a_genesis_whose_member_did_not_sign_is_refused() -> None:
    first = GENESIS.members[0]
    forged = dataclasses.replace(
        GENESIS,
        members=(
            dataclasses.replace(first, signatures=first.signatures[::-1]),
            *GENESIS.members[1:],
        ),
    )
    with pytest.raises(VerificationError, match="signature of key"):
        Trust.establish(TrustFile(forged.encode()))


GROWN = identities(5)


def change(
    signers: tuple[Identity, ...] = FOUR,
    *,
    members: tuple[Identity, ...] = GROWN,
    epoch: int = 1,
    prev: str | None = None,
    kind: VoteKind = VoteKind.FINALIZE,
    certified: Header | None = None,
    **header: str | int,
) -> SetChange:
    old = GENESIS.set_leaf()
    records = tuple(one.member.record for one in members)
    leaf = SetLeaf(
        epoch=epoch,
        prev=old.digest() if prev is None else sha256_of(prev.encode()),
        members=records,
    )
    fields: dict[str, str | int] = {
        "network": GENESIS.network_id.hex(),
        "height": 9,
        "parent": ZERO_SHA256,
        "prev_size": 20,
        "prev_root": ZERO_SHA256,
        "view": 0,
        "proposer": FOUR[0].id,
        "time_ms": 1,
        "n_leaves": 4,
        "body_root": ZERO_SHA256,
        "state_root": ZERO_SHA256,
        "set": old.digest(),
        "next_set": leaf.digest(),
        "prev_epoch_height": 0,
        "parent_cert": ZERO_SHA256,
        **header,
    }
    made = Header(**fields)  # type: ignore[arg-type] # a table of overrides
    block_hash = Digest(leaf_hash((certified or made).encode()))
    signed = wire.vote_bytes(
        kind,
        Height(made.height),
        View(0),
        block_hash,
        chain_id=Digest(GENESIS.network_id),
        set_hash=Digest(bytes.fromhex(old.digest())),
    )
    positions = [index for index, one in enumerate(FOUR) if one in signers]
    certificate = Certificate(
        kind=kind,
        height=Height(made.height),
        view=View(0),
        block_hash=block_hash,
        signers=tuple(positions),
        signatures=tuple(FOUR[index].sign["vote"](signed) for index in positions),
    )
    encoded = wire.encode_certificate(certificate, n=len(FOUR))
    return SetChange(made.encode(), encoded, leaf.encode())


def established(*changes: SetChange) -> Trust:
    file = TrustFile.parse(TrustFile(GENESIS.encode(), changes).encode())
    return Trust.establish(file, network_id=GENESIS.network_id)


def test_a_certified_change_moves_the_trust_from_its_size_on() -> None:
    trust = established(change())
    assert trust.current.epoch == 1
    assert trust.current.quorum == quorum(5) == 4
    assert [trust.epoch_at(size).members.epoch for size in (0, 24, 25, 26)] == [0, 0, 0, 1]
    old = SmallLog(GENESIS.origin, [b"%d" % number for number in range(25)])
    new = SmallLog(GENESIS.origin, [b"%d" % number for number in range(26)])
    assert trust.check(old.signed(FOUR[:3])).epoch == 0
    assert trust.check(new.signed(GROWN[:4])).epoch == 1
    with pytest.raises(VerificationError, match="has 3 cosignatures of epoch 1, needs 4 of 5"):
        trust.check(new.signed(GROWN[:3]))


ANY = sha256_of(b"another")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: change(network=ANY), "network is"),
        (lambda: change(set=ANY), "set is"),
        (lambda: change(next_set=ANY), "next_set is"),
        (lambda: change(prev="other"), "prev is"),
        (lambda: change(epoch=2), "epoch is 2, expected 1"),
        (lambda: change(prev_epoch_height=4), "prev_epoch_height is 4, expected 0"),
        (lambda: change(kind=VoteKind.NOTARIZE), "is a NOTARIZE certificate"),
        (lambda: dataclasses.replace(change(), header=change(height=10).header), "of height 9"),
        (
            lambda: dataclasses.replace(change(), header=change(time_ms=2).header),
            "is of block [0-9a-f]{64}",
        ),
        (
            lambda: dataclasses.replace(
                change(), certificate=with_another_end(change().certificate)
            ),
            "a signature of epoch 0 does not hold",
        ),
    ],
)
def test_a_change_that_is_not_certified_in_every_part_is_refused(bad: object, reason: str) -> None:
    assert callable(bad)
    with pytest.raises(VerificationError, match=reason):
        established(bad())


def test_a_change_certified_by_fewer_than_a_quorum_is_malformed() -> None:
    good = change()
    with pytest.raises(InvalidInputError, match="malformed"):
        established(dataclasses.replace(good, certificate=good.certificate[:-64]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not end with"),
        (b"pyrsia-trust@v2\n", "starts with"),
        (b"pyrsia-trust@v1\n", "no genesis line"),
        (b"pyrsia-trust@v1\nchange AA==\n", "no 'genesis' line"),
        (b"pyrsia-trust@v1\ngenesis AA== AA==\n", "no 'genesis' line"),
        (b"pyrsia-trust@v1\ngenesis !\n", "base64"),
        (b"pyrsia-trust@v1\ngenesis AA==\nchange AA== AA==\n", "no 'change' line of 3"),
        (b"pyrsia-trust@v1\ngenesis AA==\n\n", "no 'change' line"),
    ],
)
def test_malformed_trust_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        TrustFile.parse(data)


def test_the_policy_names_every_member_as_log_and_witness_under_one_quorum() -> None:
    policy = TRUST.policy()
    words = [line.split() for line in policy.splitlines()]
    assert [each[0] for each in words] == ["#", *["log"] * 4, *["witness"] * 4, "group", "quorum"]
    assert words[9][:3] == ["group", "quorum-rule", "3"]
    assert sorted(words[9][3:]) == sorted(one.member.record.label for one in FOUR)
    assert {each[1].split("+")[0] for each in words[1:5]} == {GENESIS.origin}


# ---------------------------------------------------------------- offline proofs


def test_a_bundle_proves_its_file_and_says_what_was_proved() -> None:
    proved = verify_bundle(BUNDLE, TRUST, file_sha256=sha256_of(WHEEL), purl=PURL, file_name=NAME)
    assert proved.file == DOC.files[0]
    assert proved.proved.index == 2
    assert proved.proved.entry.document == DOC
    assert proved.proved.cosigned.checkpoint == LOG.head()
    assert proved.contradicted_by is None


def test_a_contradicted_file_is_proved_and_the_contradiction_is_told() -> None:
    other = sha256_of(b"what the upstream publishes")
    doc = dataclasses.replace(DOC, contradicts=(Contradiction(NAME, other),))
    log = SmallLog(GENESIS.origin, (b"0", accepted(doc, FOUR)))
    bundle = log.proof(1, log.signed(FOUR)).encode()
    proved = verify_bundle(bundle, TRUST, file_sha256=sha256_of(WHEEL), purl=PURL, file_name=NAME)
    assert proved.contradicted_by == other


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"file_sha256": ANY}, f"has sha256 {ANY}, entry 2 lists {sha256_of(WHEEL)}"),
        ({"purl": "pkg:pypi/six@1.16.0"}, "is of pkg:pypi/six@1.17.0, not pkg:pypi/six@1.16.0"),
        ({"file_name": "x.whl"}, f"lists {NAME}, not x.whl"),
    ],
)
def test_a_bundle_of_something_else_is_refused_naming_both(
    wanted: dict[str, str], reason: str
) -> None:
    asked = {"file_sha256": sha256_of(WHEEL), "purl": PURL, "file_name": NAME, **wanted}
    with pytest.raises(VerificationError, match=re.escape(reason)):
        verify_bundle(BUNDLE, TRUST, **asked)


def test_a_bundle_without_its_entry_or_of_another_kind_is_bad_input() -> None:
    bare = dataclasses.replace(LOG.proof(2, LOG.signed(FOUR)), extra=None)
    with pytest.raises(InvalidInputError, match="carries no entry"):
        verify_entry(bare.encode(), TRUST)
    with pytest.raises(InvalidInputError, match="kind Expired"):
        verify_entry(LOG.proof(3, LOG.signed(FOUR)).encode(), TRUST)
    with pytest.raises(InvalidInputError):
        verify_entry(LOG.proof(4, LOG.signed(FOUR)).encode(), TRUST)


def test_an_entry_that_is_not_in_the_log_is_refused() -> None:
    forged = dataclasses.replace(
        LOG.proof(2, LOG.signed(FOUR)), extra=accepted(DOC, FOUR, request="22" * 32)
    )
    with pytest.raises(VerificationError, match="gives root"):
        verify_entry(forged.encode(), TRUST)


def test_a_true_entry_under_a_head_without_quorum_is_refused() -> None:
    with pytest.raises(VerificationError, match="has 2 cosignatures"):
        verify_entry(LOG.proof(2, LOG.signed(FOUR[:2])).encode(), TRUST)
    forged_head = Checkpoint(GENESIS.origin, 5, leaf_hash(b"another tree"))
    signed = SignedCheckpoint(forged_head, LOG.signed(FOUR).signatures)
    with pytest.raises(VerificationError):
        verify_entry(
            dataclasses.replace(LOG.proof(2, LOG.signed(FOUR)), signed=signed).encode(), TRUST
        )


def test_no_flipped_byte_of_a_bundle_is_accepted() -> None:
    asked = {"file_sha256": sha256_of(WHEEL), "purl": PURL, "file_name": NAME}
    step = 7  # every byte of every kind of line, at a cost that a unit test may have
    for position in range(0, len(BUNDLE), step):
        changed = bytearray(BUNDLE)
        changed[position] ^= 1
        with pytest.raises((InvalidInputError, VerificationError)):
            verify_bundle(bytes(changed), TRUST, **asked)
