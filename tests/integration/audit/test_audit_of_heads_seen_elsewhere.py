"""Heads that another node showed, or the same one earlier, held against an audited log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pyrsia_node.audit.auditor import audit
from pyrsia_node.audit.report import Report
from pyrsia_node.audit.source import DirectorySource
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from tests.fakes.audited_log import AuditedLog
from tests.strategies.small_logs import cosigned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    return AuditedLog(tmp_path_factory.mktemp("audited") / "node")


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A head: of a block's end and with its root unless it says otherwise."""

    height: int = 3
    beyond: int = 0
    is_other: bool = False
    cosigners: int = 4

    def signed(self, made: AuditedLog) -> SignedCheckpoint:
        chain = made.story.chain
        block = chain.block(self.height)
        root = bytes(32) if self.is_other else chain.root_at(block.size)
        head = Checkpoint(chain.genesis.origin, block.size + self.beyond, root)
        members = made.story.local.members[: self.cosigners]
        return SignedCheckpoint(head, tuple(cosigned(head, member) for member in members))


def audited(made: AuditedLog, **heads: Elsewhere) -> Report:
    signed = {name: head.signed(made) for name, head in heads.items()}
    return audit(DirectorySource(made.root), network_id=made.network_id, heads=signed)


def test_heads_of_the_same_history_are_prefixes(made: AuditedLog) -> None:
    tip = made.story.chain.tip.height
    report = audited(made, first=Elsewhere(height=1), newest=Elsewhere(height=tip))
    assert report.holds
    assert report.counted["heads"] == 2
    assert report.unchecked == {}


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Elsewhere(is_other=True), "this log has root"),
        (Elsewhere(beyond=1), "this log has no block that ends there"),
    ],
)
def test_a_head_of_another_history_is_a_contradiction(
    made: AuditedLog, head: Elsewhere, expected: str
) -> None:
    report = audited(made, other=head, same=Elsewhere())
    (found,) = report.contradictions
    assert (found.area, found.place) == ("heads", "other")
    assert "a quorum cosigned size" in found.what
    assert expected in found.what
    assert report.counted["heads"] == 1


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Elsewhere(is_other=True, cosigners=2), "says nothing: "),
        (Elsewhere(beyond=10_000), "this log was read up to"),
    ],
)
def test_a_head_that_says_nothing_about_this_log_is_no_contradiction(
    made: AuditedLog, head: Elsewhere, expected: str
) -> None:
    report = audited(made, other=head)
    assert report.holds
    assert expected in report.unchecked["heads"]


def test_a_forged_signature_says_nothing(made: AuditedLog, tmp_path: Path) -> None:
    good = Elsewhere(is_other=True).signed(made)
    (line, *rest) = good.signatures
    data = bytearray(SignedCheckpoint(good.checkpoint, (line, *rest)).encode())
    # Another character of base64, whatever stands there.
    data[-5] = ord("B" if data[-5] == ord("A") else "A")
    forged = SignedCheckpoint.parse(bytes(data))
    report = audit(DirectorySource(made.root), heads={"forged": forged})
    assert report.holds
    assert "forged says nothing" in report.unchecked["heads"]
