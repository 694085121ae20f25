"""Vectors that other implementations and the specifications publish; see tests/vectors/tlog."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog import cosignature, proofs
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import Note, VerifierKey
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.tile import Tile, tiles_of_size

VECTORS = Path(__file__).parents[2] / "vectors/tlog"
MERKLE = json.loads((VECTORS / "merkle-proofs.json").read_text())
C2SP = json.loads((VECTORS / "c2sp.json").read_text())
# Equal sizes with equal "roots" that are no hashes at all, but 12 letters: Go never looks at their
# length, we refuse them.
NO_HASHES = {"consistency/additional/sizes-are-equal-one-and-proof-is-empty"}


@pytest.mark.parametrize("vector", MERKLE["inclusion"], ids=lambda v: v["name"])
def test_inclusion_proofs_are_judged_as_go_judges_them(vector: dict[str, object]) -> None:
    assert judged_inclusion(vector) == vector["valid"]


@pytest.mark.parametrize("vector", MERKLE["consistency"], ids=lambda v: v["name"])
def test_consistency_proofs_are_judged_as_go_judges_them(vector: dict[str, object]) -> None:
    expected = vector["valid"] and vector["name"] not in NO_HASHES
    assert judged_consistency(vector) == expected


def judged_inclusion(vector: dict[str, object]) -> bool:
    assert isinstance(vector["index"], int)
    assert isinstance(vector["size"], int)
    assert isinstance(vector["proof"], list)
    try:
        proofs.verify_inclusion(
            b64decode(str(vector["leaf"])),
            index=vector["index"],
            size=vector["size"],
            root=b64decode(str(vector["root"])),
            proof=[b64decode(each) for each in vector["proof"]],
        )
    except (InvalidInputError, VerificationError):
        return False
    return True


def judged_consistency(vector: dict[str, object]) -> bool:
    assert isinstance(vector["old_size"], int)
    assert isinstance(vector["new_size"], int)
    assert isinstance(vector["proof"], list)
    try:
        proofs.verify_consistency(
            old_size=vector["old_size"],
            new_size=vector["new_size"],
            old_root=b64decode(str(vector["old_root"])),
            new_root=b64decode(str(vector["new_root"])),
            proof=[b64decode(each) for each in vector["proof"]],
        )
    except (InvalidInputError, VerificationError):
        return False
    return True


@pytest.mark.parametrize("vector", C2SP["notes"], ids=lambda v: v["source"])
def test_the_example_note_of_the_specification_holds(vector: dict[str, str]) -> None:
    key = VerifierKey.parse(vector["vkey"])
    assert key.format() == vector["vkey"]
    note = Note.parse(vector["note"].encode())
    assert note.text == vector["text"]
    assert [each.key for each in note.verified_by([key])] == [key]
    assert note.encode() == vector["note"].encode()


@pytest.mark.parametrize("vector", C2SP["well_formed"], ids=lambda v: v["source"])
def test_notes_of_the_specification_are_read_and_written_back(vector: dict[str, object]) -> None:
    data = str(vector["note"]).encode()
    note = Note.parse(data)
    assert len(note.signatures) == vector["signatures"]
    assert note.encode() == data
    expected = vector.get("checkpoint")
    if isinstance(expected, dict):
        checkpoint = SignedCheckpoint.parse(data).checkpoint
        assert checkpoint.origin == expected["origin"]
        assert checkpoint.size == expected["size"]
        assert checkpoint.root == b64decode(expected["root"])


@pytest.mark.parametrize("vector", C2SP["opened"], ids=lambda v: v["source"])
def test_notes_that_others_signed_are_opened_with_their_keys(vector: dict[str, Any]) -> None:
    data = vector["note"].encode()
    keys = [VerifierKey.parse(each) for each in vector["vkeys"]]
    assert [each.format() for each in keys] == vector["vkeys"]
    found = Note.parse(data).verified_by(keys)
    assert [each.key for each in found] == keys
    times = {each.time_s for each in found if each.time_s is not None}
    assert times == ({vector["cosigned_at_s"]} if "cosigned_at_s" in vector else set())
    wrong = data.replace(b"1432088532", b"1432088533").replace(b"think", b"thick")
    with pytest.raises(VerificationError):
        Note.parse(wrong).verified_by(keys)


@pytest.mark.parametrize("vector", C2SP["bad_vkeys"], ids=lambda v: v["source"])
def test_keys_that_others_refuse_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        VerifierKey.parse(vector["vkey"])


def test_an_offline_proof_is_spelled_as_in_the_specification() -> None:
    vector, note = C2SP["proof"], C2SP["opened"][1]["note"].encode()
    hashes = tuple(b64decode(each) for each in vector["lines"].split()[2:])
    signed = SignedCheckpoint.parse(note)
    proof = EntryProof(extra=None, index=vector["index"], hashes=hashes, signed=signed)
    data = b"c2sp.org/tlog-proof@v1\n" + vector["lines"].encode() + note
    assert proof.encode() == data
    assert EntryProof.parse(data) == proof


@pytest.mark.parametrize("text", C2SP["proof"]["malformed"])
def test_offline_proofs_that_others_refuse_are_refused(text: str) -> None:
    note = C2SP["opened"][1]["note"].encode()
    with pytest.raises(InvalidInputError):
        EntryProof.parse(text.encode() + note)


def test_a_cosignature_signs_the_bytes_of_the_specification() -> None:
    vector = C2SP["cosignature"]
    signed = cosignature.signed_bytes(vector["checkpoint"], time_s=vector["time_s"])
    assert signed == vector["signed"].encode()


def test_tile_numbers_are_spelled_as_in_the_specification() -> None:
    vector = C2SP["tiles"]["number"]
    assert Tile(3, vector["value"]).path() == f"tile/3/{vector['path']}"
    assert Tile.parse(f"tile/entries/{vector['path']}.p/9") == Tile(None, vector["value"], 9)


@pytest.mark.parametrize("vector", C2SP["tiles"]["sizes"], ids=lambda v: v["size"])
def test_a_log_has_the_last_tiles_of_the_specification(vector: dict[str, object]) -> None:
    assert isinstance(vector["size"], int)
    last = {
        str(tile.level): [tile.number, tile.width]
        for tile in tiles_of_size(vector["size"])
        if tile.level is not None
    }
    assert last == vector["last"]
