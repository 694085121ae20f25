"""What a node sends is shown only if its proof holds under the user's own trust file."""

from __future__ import annotations

import json

import pytest

from pyrsia_cli.entries import shown
from pyrsia_cli.proving import prove
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.schema.http import BlockPosition, Entry
from pyrsia_node.schema.leaf_content import files_of
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import SmallLog, accepted, document, wheel

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
TRUST = Trust.establish(TrustFile(GENESIS.encode()))
LEAF = accepted(document("pkg:pypi/six@1.17.0", wheel("six-1.17.0.tar.gz")), FOUR)
LOG = SmallLog(GENESIS.origin, (GENESIS.encode(), GENESIS.set_leaf().encode(), LEAF))


def entry(*, index: int = 2, leaf: bytes = LEAF, signers: int = 3, proof: str | None = "") -> Entry:
    """Return the entry as a node sends it; an empty ``proof`` stands for the true one."""
    if proof == "":
        proof = LOG.proof(2, LOG.signed(FOUR[:signers])).encode().decode()
    return Entry(
        index=index,
        type="accepted",
        leaf=json.loads(leaf),
        purl="pkg:pypi/six@1.17.0",
        files=files_of(json.loads(LEAF)),
        block=BlockPosition(height=1, time_ms=1),
        proof=proof,
    )


def test_proved_entry_is_shown_from_its_proved_bytes() -> None:
    assert prove([entry()], TRUST) == [json.loads(LEAF)]


def test_entry_without_a_proof_is_not_shown() -> None:
    with pytest.raises(VerificationError, match="without its proof"):
        prove([entry(proof=None)], TRUST)


def test_entry_with_the_proof_of_another_is_not_shown() -> None:
    with pytest.raises(VerificationError, match="a proof of 2 for entry 1"):
        prove([entry(index=1)], TRUST)


def test_entry_that_is_not_the_proved_leaf_is_not_shown() -> None:
    changed = LEAF.replace(b"six-1.17.0.tar.gz", b"six-6.66.0.tar.gz")
    with pytest.raises(VerificationError, match="not the leaf"):
        prove([entry(leaf=changed)], TRUST)


def test_entry_under_a_head_without_a_quorum_is_not_shown() -> None:
    with pytest.raises(VerificationError, match="has 2 cosignatures"):
        prove([entry(signers=2)], TRUST)


def test_one_false_entry_among_true_ones_spoils_the_answer() -> None:
    with pytest.raises(VerificationError):
        prove([entry(), entry(signers=2), entry()], TRUST)


@pytest.mark.parametrize(
    ("member", "lie"),
    [
        ("type", "withdraw"),
        ("purl", "pkg:pypi/requests@2.34.2"),
        ("files", []),
        ("files", [files_of(json.loads(LEAF))[0].model_copy(update={"sha256": "66" * 32})]),
    ],
)
def test_true_leaf_with_another_story_beside_it_is_refused(member: str, lie: object) -> None:
    told = entry().model_copy(update={member: lie})
    with pytest.raises(VerificationError, match=f"entry 2: the node says {member}"):
        prove([told], TRUST)


def test_what_only_the_node_says_is_named_as_such() -> None:
    told = entry()
    found = shown(told, prove([told], TRUST)[0])
    assert found["verified"] is True
    assert found["node_says"] == ["block", "status", "statements"]
    silent = shown(told, {"t": "attest_batch"})
    assert silent["node_says"] == ["purl", "block", "status", "statements"]
