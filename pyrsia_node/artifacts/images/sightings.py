"""Who saw an image under its tag, and when: read from the items that an entry rests on.

An accepted entry names the batches of its attestors; each item in them carries the clock of the
member that looked at its own upstream (docs/spec/leaves.md). Every batch is proved before it
counts; one that cannot be had now is left out, since a sighting explains and decides nothing.
"""

from __future__ import annotations

from pyrsia_node.artifacts.verified_log import ProvedEntry, ProvedLog
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.items import BuiltItem
from pyrsia_node.model.transactions import AttestBatch, decode_transaction


def sightings(log: ProvedLog, proved: ProvedEntry) -> tuple[tuple[str, int], ...]:
    """Return (member, Unix milliseconds) of each attestor that says when it looked."""
    found: list[tuple[str, int]] = []
    for attestor in proved.entry.attestors:
        seen_ms = _seen_ms(log, attestor.leaf, proved.entry.request)
        if seen_ms is not None:
            found.append((str(attestor.id), seen_ms))
    return tuple(found)


def _seen_ms(log: ProvedLog, leaf: int, request: str) -> int | None:
    try:
        body = decode_transaction(log.leaf(leaf).data, network_id=log.network_id).body
    except PyrsiaError:
        return None
    if not isinstance(body, AttestBatch):
        return None
    items = (item for item in body.items if item.request == request)
    return next((item.seen_ms for item in items if isinstance(item, BuiltItem)), None)
