"""How one member set hands over to the next: the proofs that a chain holds of its set changes.

A change is proved by the block that made it: its header, what finalized it under the set before,
and the set leaf whose hash the header names. Whoever holds an older set checks them with
``tlog.trust.Trust.extended``. They are found by walking back from epoch end to epoch end, so the
cost grows with the number of changes and not with the length of the chain.
Specification: docs/spec/log-formats.md, "Trust file".
"""

from __future__ import annotations

from typing import Final, Protocol

from pyrsia_node.ledger.blocks import Tip
from pyrsia_node.ledger.storage import BlockRecord
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.tlog.trust import SetChange

CHANGES_BYTES_MAX: Final = 4 * 1024 * 1024
"""Most bytes of proofs in one answer to a peer; who needs more asks again."""


class Blocks(Protocol):
    """What is read of a chain here."""

    @property
    def tip(self) -> Tip:
        """The newest committed block."""
        ...

    def block(self, height: int) -> BlockRecord:
        """Return what is known of a committed block."""
        ...

    def leaf(self, index: int) -> bytes:
        """Return a leaf."""
        ...

    def certificate(self, height: int) -> bytes:
        """Return what finalized a committed block; not for height 0."""
        ...


def set_changes(
    chain: Blocks, *, first_epoch: int = 1, bytes_max: int | None = None
) -> list[SetChange]:
    """Return the proofs of the sets of ``first_epoch`` and later, in order.

    Args:
        chain: Where the blocks are.
        first_epoch: The first epoch wanted, at least 1.
        bytes_max: Leave out the last ones beyond this many bytes; the first is never left out.

    Raises:
        CorruptStateError: The chain contradicts itself.
    """
    found: list[SetChange] = []
    height = chain.tip.epoch_height
    epoch = chain.tip.epoch
    while height and epoch >= first_epoch:
        found.append(_change_at(chain, height, epoch))
        height, epoch = chain.block(height - 1).epoch_height, epoch - 1
    found.reverse()
    return found if bytes_max is None else _fitting(found, bytes_max)


def _change_at(chain: Blocks, height: int, epoch: int) -> SetChange:
    record = chain.block(height)
    leaf = chain.leaf(record.set_leaf)
    try:
        made = SetLeaf.decode(leaf).epoch
    except InvalidInputError as error:
        raise CorruptStateError(f"the set leaf of height {height}: {error}") from None
    if made != epoch:
        raise CorruptStateError(f"height {height} made epoch {made}, {epoch} was expected")
    return SetChange(chain.leaf(record.first_leaf), chain.certificate(height), leaf)


def _fitting(changes: list[SetChange], bytes_max: int) -> list[SetChange]:
    size = 0
    for number, change in enumerate(changes):
        size += len(change.header) + len(change.certificate) + len(change.set_leaf) + 16
        if number and size > bytes_max:
            return changes[:number]
    return changes
