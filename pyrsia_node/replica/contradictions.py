"""Blocks that a quorum finalized and that cannot follow this chain: kept, and judged again.

Such a block proves that this node's chain and the network's are two histories, by fault of more
than f members or of this node. The proof is durable before catch-up stops, and each start finds it
again: the alarm outlives the process. What a start no longer finds contradicting, because the chain
is another one now or the rule that it broke was wrong, is forgotten.
Design: docs/design/catchup.md; for people: docs/guides/recover.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from consensus import wire
from consensus.errors import DecodeError
from pyrsia_node.ledger.blocks import check_cheaply
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.model.leaves import Header
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.replica.catchup_wire import join_prefixed, split_prefixed

_LOG = logging.getLogger("pyrsia.replica.contradictions")

_PREFIX: Final = b"catch-up/contradiction/"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A final block that cannot follow this chain. Its certificate was checked when it came."""

    height: int
    block: bytes
    certificate: bytes
    reason: str

    @property
    def words(self) -> str:
        """What an operator must know."""
        return (
            f"a quorum has finalized a block of height {self.height} that cannot follow this "
            f"node's chain ({self.reason}): the proof is kept; ask the other operators before "
            "anything else (docs/guides/recover.md)"
        )


class ContradictionLocker:
    """The contradictions that this node holds, across restarts."""

    def __init__(self, store: KeyValueStore) -> None:
        """Keep them in ``store``."""
        self._store = store

    def keep(self, found: Contradiction) -> None:
        """Keep one; durable on return."""
        value = join_prefixed([found.block, found.certificate, found.reason.encode()])
        self._store.write([(_key(found.height), value)], sync=True)

    def standing(self, chain: Chain) -> Contradiction | None:
        """Return the lowest one that contradicts ``chain`` as it is now; forget those that do not.

        One beyond the next height is kept and judged when the chain gets there.

        Raises:
            CorruptStateError: A row is no contradiction.
        """
        for key, value in list(self._store.scan(_PREFIX)):
            found = _decode(int.from_bytes(key.removeprefix(_PREFIX), "big"), value)
            if found.height > chain.tip.height + 1:
                return None
            if reason_against(chain, found.block, found.height):
                return found
            _LOG.warning(
                "a block of height %d no longer contradicts this chain (%s)",
                found.height,
                found.reason,
            )
            self._store.write([(key, None)], sync=True)
        return None


def reason_against(chain: Chain, block: bytes, height: int) -> str:
    """Return why a final block of a height up to the next one cannot be of this chain, or "".

    Only what its header shows and its parent certificate, which must be the one that it names.
    """
    parts = wire.split_block(block)
    if height <= chain.tip.height:
        ours, theirs = chain.block(height).hash, wire.block_hash(block).hex()
        return "" if ours == theirs else f"height {height} is block {ours} here, not {theirs}"
    try:
        check_cheaply(
            Header.decode(parts.header),
            chain.tip,
            network=Sha256(chain.genesis.network_id.hex()),
            certificate=parts.parent_certificate,
        )
    except InvalidInputError as error:
        return str(error)
    return ""


def _decode(height: int, value: bytes) -> Contradiction:
    try:
        block, certificate, reason = split_prefixed(value, items_max=3)
        wire.split_block(block)
        return Contradiction(height, block, certificate, reason.decode())
    except (InvalidInputError, DecodeError, ValueError) as error:
        raise CorruptStateError(f"contradiction of height {height} in the store: {error}") from None


def _key(height: int) -> bytes:
    return _PREFIX + height.to_bytes(8, "big")
