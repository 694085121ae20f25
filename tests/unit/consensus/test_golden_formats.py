"""Golden: signatures that all nodes must judge alike, and formats that must not move unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path

import pytest

from consensus import ed25519, wire
from consensus.effects import Record, RecordKind
from consensus.types import ZERO_DIGEST, Decision, Digest, Height, Status, View, Vote
from consensus.wal import encode_batch, scan
from tests.unit.consensus.committee import F, N, X, certificate_of, member_set, names, proposal_of

VECTORS = Path(__file__).parents[2] / "vectors/consensus"
EDGES = json.loads((VECTORS / "ed25519.json").read_text())


@pytest.mark.parametrize("case", EDGES, ids=[case["why"] for case in EDGES])
def test_every_node_judges_this_signature_so(case: dict[str, str | bool]) -> None:
    key, message, signature = (
        bytes.fromhex(str(case[name])) for name in ("key", "message", "signature")
    )
    assert ed25519.verify(key, message, signature) is case["accepted"]
    assert ed25519.is_valid_key(key) is case["valid_key"]


def test_no_signature_of_an_edge_case_holds_for_a_key_that_may_be_a_members() -> None:
    odd = {case["why"] for case in EDGES if case["accepted"] and case["valid_key"]}
    assert odd == {"an honest signature", "R with a torsion part (0 x torsion)"}


def formats() -> dict[str, bytes]:
    """One value of every format, from fixed inputs."""
    members = member_set(names(5))
    chain, name = Digest(b"c" * 32), Digest(b"n" * 32)
    block = wire.encode_block(b"header", b"parent certificate", (b"one", b"two"))
    at = wire.block_hash(block)
    vote = Vote(N, Height(7), View(3), name, 4, b"s" * 64)
    nullified = certificate_of(members, X, view=2, height=7)
    notarized = certificate_of(members, N, view=1, height=7, block_hash=at, signers=(0, 2, 3, 4))
    proposal = proposal_of(
        "m001",
        members,
        block,
        view=3,
        height=7,
        notarization=notarized,
        nullifications=(nullified,),
    )
    final = certificate_of(members, F, view=3, height=7, block_hash=at)
    status = Status(Height(7), View(9), ((View(0), View(2)), (View(5), View(5))), (name,))
    frames = {
        "vote": wire.encode_message(vote, n=5),
        "certificate": wire.encode_message(nullified, n=5),
        "proposal": wire.encode_message(proposal, n=5),
        "decision": wire.encode_message(Decision(block, final), n=5),
        "status": wire.encode_message(status, n=5),
    }
    signed = {"chain_id": chain, "set_hash": members.set_hash}
    return frames | {
        "block": block,
        "block_hash": at,
        "body_id": wire.body_id(block),
        "vote_bytes": wire.vote_bytes(X, Height(7), View(3), ZERO_DIGEST, **signed),
        "proposal_bytes": wire.proposal_bytes(Height(7), View(3), at, **signed),
        "log_batch": encode_batch(
            9, (Record(RecordKind.BODY, block * 200), Record(RecordKind.VOTE, frames["vote"][1:]))
        ),
    }


def test_golden_formats_have_not_moved() -> None:
    path = VECTORS / "golden.toml"
    found = {name: hashlib.sha256(data).hexdigest() for name, data in formats().items()}
    if os.environ.get("PYRSIA_GOLDEN") == "write":
        lines = [f'{name} = "{digest}"' for name, digest in sorted(found.items())]
        head = (
            "# SHA-256 of one value of each format; see tests/unit/consensus/test_golden_formats.py"
        )
        path.write_text("\n".join((head, *lines)) + "\n")
    assert tomllib.loads(path.read_text()) == found


def test_vote_is_laid_out_as_the_specification_says() -> None:
    vote = Vote(
        F, Height(0x0102030405060708), View(0x0A0B0C0D), Digest(b"h" * 32), 0x0102, b"s" * 64
    )
    expected = bytes.fromhex("01 03 0102030405060708 0a0b0c0d") + b"h" * 32 + b"\1\2" + b"s" * 64
    assert wire.encode_message(vote, n=512) == expected


def test_certificate_bitmap_counts_from_the_least_significant_bit() -> None:
    members = member_set(names(10))
    certificate = certificate_of(members, X, view=0, signers=(0, 1, 2, 3, 4, 5, 8))
    encoded = wire.encode_certificate(certificate, n=10)
    assert encoded[45:47] == bytes((0b0011_1111, 0b0000_0001))


def test_signed_vote_bytes_are_bound_to_chain_set_position_and_block() -> None:
    chain, members, name = Digest(b"c" * 32), Digest(b"v" * 32), Digest(b"b" * 32)
    found = wire.vote_bytes(N, Height(1), View(2), name, chain_id=chain, set_hash=members)
    position = (1).to_bytes(8) + (2).to_bytes(4) + b"\1"
    assert found == b"pyrsia/vote/1\0" + chain + members + position + name


def test_golden_log_reads_back() -> None:
    batch = formats()["log_batch"]
    assert [record.kind for record in scan(batch, 9).records] == [RecordKind.BODY, RecordKind.VOTE]
