"""One audit from the checkpoint to the last leaf: wires the parts, decides nothing itself.

The checkpoint is read first, so everything that is read later was published by then. One pass over
the leaves feeds every part; memory holds one bundle, one block, and what is open in the log.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from consensus import ed25519
from pyrsia_node.audit.approvals import ApprovalAudit
from pyrsia_node.audit.blocks import Block, BlockAudit
from pyrsia_node.audit.certificates import CertificateAudit
from pyrsia_node.audit.convictions import ConvictionAudit
from pyrsia_node.audit.heads import HeadsAudit
from pyrsia_node.audit.replay import ReplayAudit, scratch_chain
from pyrsia_node.audit.report import AREAS, Report
from pyrsia_node.audit.signatures import SignatureAudit
from pyrsia_node.audit.source import LogSource
from pyrsia_node.audit.tree import TreeAudit, UnreadableError, bundle
from pyrsia_node.audit.verdicts import VerdictAudit
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    VerificationError,
)
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.tile import WIDTH
from pyrsia_node.tlog.trust import Trust

NO_HEADS: Final[Mapping[str, SignedCheckpoint]] = {}

Progress = Callable[[int, int], None]
"""Called with (leaves read, leaves in all) after each block."""

_HEADER_START: Final = b'{"body_root":'
_BY_BLOCK: Final = tuple(area for area in AREAS if area not in {"checkpoint", "heads", "index"})
"""What is audited block by block, and so ends where the blocks cannot be followed."""


def audit(
    source: LogSource,
    *,
    network_id: bytes | None = None,
    heads: Mapping[str, SignedCheckpoint] = NO_HEADS,
    progress: Progress | None = None,
) -> Report:
    """Derive everything that a log claims from its published files, and compare.

    Args:
        source: The files.
        network_id: The network's id, from elsewhere; without it the log's own genesis is taken
            for granted, and the report says so.
        heads: Signed heads that were seen elsewhere or earlier, by the names of their files.
        progress: Is told how far the audit is.

    Returns:
        What was counted, what contradicts, and what could not be checked.

    Raises:
        NotFoundError: There is no checkpoint.
        UnavailableError: The source cannot be read any more.
    """
    report = Report(source=source.name, genesis_is_given=network_id is not None)
    try:
        signed = SignedCheckpoint.parse(source.checkpoint())
    except (InvalidInputError, VerificationError, CorruptStateError) as error:
        report.contradict("checkpoint", "checkpoint", str(error))
        return report
    head = signed.checkpoint
    report.size, report.root, report.origin = head.size, head.root.hex(), head.origin
    blocks, seen = BlockAudit(report), HeadsAudit(heads, report)
    with tempfile.TemporaryDirectory(prefix="pyrsia-audit-") as scratch:
        try:
            _follow(source, signed.checkpoint, blocks, Path(scratch), seen=seen, progress=progress)
        except UnreadableError:
            _leave_out_the_rest(report)
    if blocks.genesis is not None:
        _check_genesis(blocks.genesis, report, network_id)
        trust = Trust(genesis=blocks.genesis, epochs=tuple(blocks.epochs))
        _check_cosignatures(signed, trust, report)
        seen.judge(trust, end=blocks.size)
    return report


def _follow(
    source: LogSource,
    head: Checkpoint,
    blocks: BlockAudit,
    scratch: Path,
    *,
    seen: HeadsAudit,
    progress: Progress | None,
) -> None:
    """Feed every block to every part."""
    report = blocks.report
    parts: _Parts | None = None
    with ExitStack() as stack:
        for block in blocks.blocks(TreeAudit(source, head, report).leaves()):
            if parts is None:
                assert blocks.genesis is not None
                chain = stack.enter_context(scratch_chain(scratch / "chain", blocks.genesis))
                parts = _Parts(source, chain, tip_height(source, head.size), report)
            parts.check(block)
            if seen.wants(block.header.size):
                seen.remember(block.header.size, blocks.root)
            report.height, report.epoch = block.height, block.next_set.epoch
            if progress is not None:
                progress(block.header.size, head.size)


class _Parts:
    """The parts of an audit that look at blocks."""

    def __init__(self, source: LogSource, chain: Chain, height: int, report: Report) -> None:
        genesis = chain.genesis
        self._certificates = CertificateAudit(source, height, report)
        self._signatures = SignatureAudit(genesis.network_id, report)
        self._approvals = ApprovalAudit(genesis.network_id, report)
        self._convictions = ConvictionAudit(genesis.network_id, report)
        self._verdicts = VerdictAudit(genesis, report)
        self._replay = ReplayAudit(chain, report)

    def check(self, block: Block) -> None:
        certificate = self._certificates.check(block)
        self._signatures.check(block)
        self._approvals.check(block)
        self._convictions.check(block)
        self._verdicts.check(block)
        self._replay.check(block, certificate)


def tip_height(source: LogSource, size: int) -> int:
    """Return the height of the block that ends at ``size``, as its header says; 0 without one.

    The header stands in front of the block's leaves, so it is looked for from the end backwards.
    """
    for number in reversed(range(-(-size // WIDTH))):
        try:
            entries = bundle(source, number, size=size)
        except (NotFoundError, CorruptStateError):
            return 0
        for leaf in reversed(entries):
            if leaf.startswith(_HEADER_START):
                try:
                    return Header.decode(leaf).height
                except InvalidInputError:
                    return 0
    return 0


def _check_genesis(genesis: Genesis, report: Report, network_id: bytes | None) -> None:
    report.network_id = genesis.network_id.hex()
    try:
        genesis.verify(ed25519.verify)
    except VerificationError as error:
        report.contradict("signatures", "leaf 0", str(error))
    if network_id is not None and genesis.network_id != network_id:
        report.contradict(
            "blocks",
            "leaf 0",
            f"the genesis is of network {genesis.network_id.hex()}, asked for {network_id.hex()}",
        )


def _check_cosignatures(signed: SignedCheckpoint, trust: Trust, report: Report) -> None:
    """Count the cosignatures of the epoch that signs the head."""
    try:
        cosigned = trust.check(signed)
    except PyrsiaError as error:
        report.contradict("checkpoint", "checkpoint", str(error))
        return
    report.cosigned_by, report.quorum = cosigned.labels, cosigned.quorum
    report.cosigned_at_s = cosigned.time_s
    report.counted["checkpoint"] += len(cosigned.labels)


def _leave_out_the_rest(report: Report) -> None:
    last = report.contradictions[-1]
    why = f"not read beyond {last.place}, which cannot be followed"
    for area in _BY_BLOCK:
        report.leave_out(area, why)
