"""Checks that every transaction of a block is well-formed and signed by a member of its set."""

from __future__ import annotations

from consensus import ed25519
from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.ledger.admission import Admission
from pyrsia_node.model.errors import InvalidInputError, VerificationError


class SignatureAudit:
    """Holds transactions against the keys of the set that decided their block."""

    def __init__(self, network_id: bytes, report: Report) -> None:
        """Judge transactions of the network ``network_id``."""
        # Each transaction passes once, so there is nothing to remember.
        self._admission = Admission(network_id, ed25519.verify, cache_bytes_max=0)
        self._report = report

    def check(self, block: Block) -> None:
        """Check the transactions of a block."""
        for offset in range(1, 1 + block.transactions):
            try:
                self._admission.admit(block.leaves[offset], block.voters)
            except (InvalidInputError, VerificationError) as error:
                self._report.contradict("signatures", block.place_of(offset), str(error))
            else:
                self._report.counted["signatures"] += 1
