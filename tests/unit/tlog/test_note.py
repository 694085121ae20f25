"""Signed notes: what is read, what is refused, whose signatures count."""

from __future__ import annotations

import base64

import pytest

from consensus import ed25519
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog import cosignature
from pyrsia_node.tlog.checkpoint import Checkpoint, cosign, cosigner_key, log_key, sign
from pyrsia_node.tlog.note import KeyType, Note, SignatureLine, VerifierKey
from pyrsia_node.tlog.tree import EMPTY_ROOT, leaf_hash

SEEDS = [bytes([number]) * 32 for number in range(1, 4)]
HEAD = Checkpoint(origin="net-0000/log", size=7, root=leaf_hash(b"x"))
LOG = log_key(HEAD.origin, ed25519.public_key(SEEDS[0]))
WITNESS = cosigner_key("node-1", ed25519.public_key(SEEDS[1]))
LOG_LINE = sign(HEAD, LOG, ed25519.signer(SEEDS[0]))
COSIGNED = cosign(HEAD, WITNESS, ed25519.signer(SEEDS[1]), time_s=1_700_000_000)


def note(*lines: SignatureLine) -> Note:
    return Note(text=HEAD.text(), signatures=lines)


def spoiled(line: SignatureLine) -> SignatureLine:
    payload = line.payload[:-1] + bytes([line.payload[-1] ^ 1])
    return SignatureLine(name=line.name, key_id=line.key_id, payload=payload)


def test_log_signature_and_cosignature_hold_and_name_their_key_and_time() -> None:
    found = note(LOG_LINE, COSIGNED).verified_by([WITNESS, LOG])
    assert [(each.key, each.time_s) for each in found] == [
        (LOG, None),
        (WITNESS, 1_700_000_000),
    ]


def test_lines_of_unknown_keys_are_ignored_even_when_they_do_not_hold() -> None:
    found = note(LOG_LINE, spoiled(COSIGNED)).verified_by([LOG])
    assert [each.key for each in found] == [LOG]


@pytest.mark.parametrize("line", [LOG_LINE, COSIGNED])
def test_one_bad_line_of_a_known_key_spoils_the_whole_note(line: SignatureLine) -> None:
    with pytest.raises(VerificationError, match=f"signature of {line.name} .* does not hold"):
        note(LOG_LINE, COSIGNED, spoiled(line)).verified_by([LOG, WITNESS])


def test_a_note_that_no_known_key_signed_is_refused_and_names_who_did() -> None:
    with pytest.raises(VerificationError, match="only by: net-0000/log"):
        note(LOG_LINE).verified_by([WITNESS])


def test_a_key_that_signs_twice_counts_once_with_its_newest_time() -> None:
    signer = ed25519.signer(SEEDS[1])
    later = cosign(HEAD, WITNESS, signer, time_s=1_700_000_600)
    for lines in ((COSIGNED, later), (later, COSIGNED), (later, later)):
        found = note(*lines).verified_by([WITNESS])
        assert [each.time_s for each in found] == [1_700_000_600]


def test_a_cosignature_is_bound_to_its_time() -> None:
    moved = cosignature.join_payload(COSIGNED.payload[8:], time_s=1_700_000_001)
    line = SignatureLine(COSIGNED.name, COSIGNED.key_id, moved)
    with pytest.raises(VerificationError, match="does not hold"):
        note(line).verified_by([WITNESS])


@pytest.mark.parametrize("payload", [b"x", COSIGNED.payload[:-1], COSIGNED.payload + b"\0"])
def test_a_signature_of_another_length_does_not_hold(payload: bytes) -> None:
    line = SignatureLine(WITNESS.name, WITNESS.key_id, payload)
    with pytest.raises(VerificationError, match="bytes instead of 64"):
        note(line).verified_by([WITNESS])


def test_a_cosignature_with_a_negative_looking_time_does_not_hold() -> None:
    line = SignatureLine(WITNESS.name, WITNESS.key_id, b"\xff" * 72)
    with pytest.raises(VerificationError, match="impossible time"):
        note(line).verified_by([WITNESS])


def test_a_log_signature_never_passes_for_a_cosignature_of_the_same_key() -> None:
    twin = VerifierKey("node-1", KeyType.ED25519, ed25519.public_key(SEEDS[1]))
    assert twin.key_id != WITNESS.key_id
    line = SignatureLine(twin.name, twin.key_id, COSIGNED.payload[8:])
    with pytest.raises(VerificationError, match="does not hold"):
        note(line).verified_by([twin])


def test_a_note_takes_one_hundred_signatures_and_no_more() -> None:
    lines = [LOG_LINE] * 100
    assert len(Note.parse(note(*lines).encode()).signatures) == 100
    with pytest.raises(InvalidInputError, match="has 101 signatures"):
        Note.parse(note(*lines, LOG_LINE).encode())


def test_the_text_ends_at_the_last_empty_line() -> None:
    inner = Note(text="a\n\nb\n", signatures=(LOG_LINE,))
    assert Note.parse(inner.encode()) == inner


GOOD = note(LOG_LINE).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not end with a line end"),
        (GOOD[:-1], "does not end with a line end"),
        (b"text\n", "no blank line"),
        (b"\n" + GOOD.split(b"\n\n")[1], "no text"),
        (GOOD.split(b"\n\n")[0] + b"\n\n", "has 0 signatures"),
        (GOOD.replace(b"7\n", b"7\r\n"), "control character"),
        (b"\xff" + GOOD, "not UTF-8"),
        (GOOD.replace("— ".encode(), b"- "), "malformed"),
        (GOOD.replace(b"/log ", b"/log\xc2\xa0", 1), "malformed|space"),
        (GOOD + b"x" * 300_000 + b"\n", "exceeds the limit"),
        (GOOD[:-2] + b"\n", "base64"),
        (GOOD + b"\n", "has 0 signatures"),
        ("text\n\n— a+b AAAAAAA=\n".encode(), "plus sign"),
        ("text\n\n—  AAAAAAA=\n".encode(), "empty"),
        ("text\n\n— name AAAAAA==\n".encode(), "only 4 bytes"),
        ("text\n\n— name AAAAAAB=\n".encode(), "not canonical"),
        ("text\n\n— name AAAA AAA=\n".encode(), "not base64"),
        ("text\n\n— name AAAAAAA\n".encode(), "not base64"),
    ],
)
def test_malformed_notes_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        Note.parse(data)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u2003b", "a\x85b", "a\nb", "a\u3000", "a\x1fb"]
)
def test_illegal_key_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="key name"):
        VerifierKey(name, KeyType.ED25519, ed25519.public_key(SEEDS[0]))


SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


@pytest.mark.parametrize("key", [*SMALL_ORDER, b"", bytes(31), b"\xff" * 32], ids=lambda k: k.hex())
def test_small_order_and_impossible_keys_are_refused(key: bytes) -> None:
    with pytest.raises(InvalidInputError, match="no valid Ed25519 public key"):
        VerifierKey("name", KeyType.ED25519, key)


def test_a_verifier_key_is_read_back_from_its_text() -> None:
    for key in (LOG, WITNESS):
        assert VerifierKey.parse(key.format()) == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name", "is not NAME"),
        ("name+00000000", "is not NAME"),
        (LOG.format().replace(LOG.key_id.hex(), "00000000"), "has id '00000000'"),
        (LOG.format().replace(LOG.key_id.hex(), LOG.key_id.hex().upper()), "has id"),
        (f"name+00000000+{base64.b64encode(b'').decode()}", "unknown type"),
        (f"name+00000000+{base64.b64encode(b'@' * 33).decode()}", "unknown type"),
        ("name+00000000+!", "base64"),
    ],
)
def test_malformed_verifier_keys_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        VerifierKey.parse(text)


def test_two_keys_that_cannot_be_told_apart_are_refused() -> None:
    class Forged(VerifierKey):
        @property
        def key_id(self) -> bytes:
            return LOG.key_id

    forged = Forged(LOG.name, KeyType.ED25519, ed25519.public_key(SEEDS[2]))
    with pytest.raises(InvalidInputError, match="two keys share"):
        note(LOG_LINE).verified_by([LOG, forged])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "three lines"),
        ("o\n1\n", "three lines"),
        (HEAD.text() + "extension\n", "three lines"),
        (HEAD.text()[:-1], "three lines"),
        ("\n1\n" + HEAD.text().split("\n")[2] + "\n", "origin"),
        ("o" * 256 + "\n" + "\n".join(HEAD.text().split("\n")[1:]), "origin"),
        (HEAD.text().replace("\n7\n", "\n07\n"), "decimal"),
        (HEAD.text().replace("\n7\n", "\n+7\n"), "decimal"),
        (HEAD.text().replace("\n7\n", "\n7 \n"), "decimal"),
        (HEAD.text().replace("\n7\n", "\n\u0667\n"), "decimal"),
        (HEAD.text().replace("\n7\n", "\n1_0\n"), "decimal"),
        (HEAD.text().replace("\n7\n", f"\n{2**53}\n"), "exceeds"),
        (HEAD.text().replace("\n7\n", "\n0\n"), "size 0"),
        ("o\n7\nAAAA\n", "3 bytes instead of 32"),
        ("o\n7\n====\n", "base64"),
    ],
)
def test_malformed_checkpoints_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        Checkpoint.parse(text)


def test_the_empty_log_has_a_checkpoint() -> None:
    empty = Checkpoint(origin="o", size=0, root=EMPTY_ROOT)
    assert Checkpoint.parse(empty.text()) == empty
