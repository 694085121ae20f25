"""Holds heads that were seen elsewhere, or earlier, against the log that is audited.

A head that a quorum cosigned and that is no prefix of this log proves two histories of one log: the
reports name it, and the file is worth keeping. A head that no quorum cosigned says nothing, and one
that is larger than this log cannot be compared from this side.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyrsia_node.audit.report import Report
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.trust import Trust


class HeadsAudit:
    """Remembers the roots that the heads speak of, and compares them at the end."""

    def __init__(self, heads: Mapping[str, SignedCheckpoint], report: Report) -> None:
        """Compare ``heads``, by the names under which the report is to name them."""
        self._heads = heads
        self._report = report
        self._sizes = {each.checkpoint.size for each in heads.values()}
        self._roots: dict[int, bytes] = {}

    def wants(self, size: int) -> bool:
        """Tell whether a head has this size, so that its root has to be ``remember``ed."""
        return size in self._sizes

    def remember(self, size: int, root: bytes) -> None:
        """Take the root of this log at the end of a block."""
        self._roots[size] = root

    def judge(self, trust: Trust, *, end: int) -> None:
        """Compare every head with the log, which was followed to ``end``."""
        for name, signed in self._heads.items():
            head = signed.checkpoint
            try:
                trust.check(signed)
            except (InvalidInputError, VerificationError) as error:
                self._report.leave_out("heads", f"{name} says nothing: {error}")
                continue
            if head.size > end:
                self._report.leave_out(
                    "heads", f"{name} has size {head.size}, this log was read up to {end}"
                )
            elif self._roots.get(head.size) == head.root:
                self._report.counted["heads"] += 1
            else:
                here = self._roots.get(head.size)
                found = f"root {here.hex()}" if here is not None else "no block that ends there"
                self._report.contradict(
                    "heads",
                    name,
                    f"a quorum cosigned size {head.size} with root {head.root.hex()}, "
                    f"this log has {found}: these are two histories, keep the file",
                )
