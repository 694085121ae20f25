"""Whether a log of votes is the newest there is, by what this machine knows beside its disk.

Joins the mark in memory (``boot_mark``) to one log and the chain beside it. The mark is begun when
the node may vote, and moves with every batch that is durable; so a crash leaves a mark that the log
has reached, never one that is ahead of it.
"""

from __future__ import annotations

from consensus.effects import Record
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.replica.amnesia import what_the_chain_lacks
from pyrsia_node.replica.boot_mark import BootMark, Continuity, Position
from pyrsia_node.replica.wal import WriteAheadLog


class LogContinuity:
    """What one start knows of the log that it found."""

    def __init__(self, mark: BootMark, wal: WriteAheadLog, chain: Chain) -> None:
        """Compare with ``mark``; ``wal`` was read."""
        self._mark = mark
        self._wal = wal
        self._chain = chain

    def is_vouched_for(self) -> bool:
        """Say whether the mark, or somebody since, calls this log the newest there is."""
        return self._mark.judge(self._position()) is Continuity.WHOLE

    def what_is_older(self) -> str:
        """Return what is wrong when this machine has seen a newer log or chain, or "".

        Then the log goes on with numbers that no batch had before: the mark, which does not fall,
        and the hole in the numbers tell every later start what was put back.
        """
        if self._mark.judge(self._position()) is not Continuity.OLDER:
            return ""
        self._wal.leave_gap(self._mark.known_batch)
        return (
            "since this machine was started it has written a newer log of votes or chain here:"
            " an older copy was put back"
        )

    def begin(self) -> None:
        """Keep the mark from now on."""
        self._mark.begin(self._position())
        self._wal.moved = lambda: self._mark.moved(self._position())

    def _position(self) -> Position:
        """Return how far log and chain have come.

        Only what is committed durably counts as a height: in the step that commits a block the log
        is written first, and a crash may come between.
        """
        return Position(self._wal.next_batch, self._chain.tip.height + 1)


def read_log(
    wal: WriteAheadLog, mark: BootMark, chain: Chain
) -> tuple[list[Record], str, LogContinuity]:
    """Return what a log of votes holds, what shows that votes are missing, and who vouches for it.

    Raises:
        DiskError: as ``WriteAheadLog.read``.
    """
    records, damage = wal.read()
    continuity = LogContinuity(mark, wal, chain)
    older = continuity.what_is_older()  # asked in any case: it also leaves a gap
    lacking = what_the_chain_lacks(records, chain.tip.height)
    return records, damage or lacking or older, continuity
