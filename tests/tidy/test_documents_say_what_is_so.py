"""Checks on the documents: pages that programs write, and numbers that sentences name."""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.tlog.proof import EntryProof
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import SmallLog, accepted, document, wheel
from tests.tidy.command_reference import command_reference

ROOT = Path(__file__).resolve().parents[2]


def test_command_reference_says_what_the_programs_say() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    assert page == command_reference(), (
        "write it again: python -m tests.tidy.command_reference > docs/reference/cli.md"
    )


def test_proof_of_one_artifact_takes_two_to_four_kilobytes() -> None:
    """README: "a proof of 2 to 4 kB": four members, a wheel and its source distribution."""
    members = identities(4)
    genesis = genesis_of(members)
    entry = accepted(
        document(
            "pkg:pypi/six@1.17.0",
            wheel("six-1.17.0-py2.py3-none-any.whl", origin="upstream"),
            wheel("six-1.17.0.tar.gz", claim="mirrored", origin="upstream"),
            summary="Python 2 and 3 compatibility utilities",
            author="Benjamin Peterson",
            repository="https://github.com/benjaminp/six",
        ),
        members,
    )
    young = SmallLog(genesis.origin, (genesis.encode(), genesis.set_leaf().encode(), entry))
    proof = young.proof(2, young.signed(members))
    old = EntryProof(proof.extra, 2**20 - 1, (bytes(32),) * 20, proof.signed)
    assert 2_000 <= len(proof.encode()) <= len(old.encode()) <= 4_000
