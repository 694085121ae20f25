"""Reads the evidence that the log has: who was convicted of what, and by which leaf."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.contradiction import Contradiction
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.machine.evidence import EVIDENCE_PREFIX, contradiction_in
from pyrsia_node.ledger.storage import StateReader
from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.model.evidence import Evidence
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.ports import KeyValueReader


@dataclass(frozen=True, slots=True)
class Conviction:
    """Evidence in the log: the proof, who brought it, and where it stands."""

    proof: Contradiction
    by: str
    leaf: int
    block: int


def convictions(store: KeyValueReader, chain: Chain) -> list[Conviction]:
    """Return all evidence that the chain in ``store`` has, in log order."""
    rows = StateReader(store).scan(EVIDENCE_PREFIX.encode("ascii"))
    return [_read(chain, leaf) for leaf in sorted(int(value) for _, value in rows)]


def _read(chain: Chain, leaf: int) -> Conviction:
    body = decode_transaction(chain.leaf(leaf), network_id=chain.genesis.network_id).body
    if not isinstance(body, Evidence):
        raise CorruptStateError(f"leaf {leaf} is a {body.kind}, the state says evidence")
    return Conviction(contradiction_in(body), body.by, leaf, chain.block_of_leaf(leaf)[0])
