"""Late items: what members say of a request that has its outcome.

They can show an accepted entry equal at a lower level, or a build that differs. They never undo
an outcome. Specification: docs/spec/leaves.md, "Outcomes", ``level`` and ``late_divergence``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from consensus.types import NodeId
from pyrsia_node.ledger.machine.records import Tally
from pyrsia_node.ledger.machine.tally import Count, is_stranger, level_of
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.leaves import LateDivergence, Level, Outcome


def late_leaves(
    request: Sha256,
    count: Count,
    tally: Tally,
    voters: Iterable[NodeId],
    *,
    barred: Container[NodeId] = (),
) -> tuple[list[Outcome], Tally]:
    """Return the leaves that this block's late items yield, and the tally after them.

    Args:
        request: The closed request.
        count: Its items that count, this block's included.
        tally: Its tally.
        voters: Who spoke late in this block.
        barred: Members whose items say nothing about the level.
    """
    agreement = tally.agreement
    if agreement is None:
        return [], tally
    leaves: list[Outcome] = []
    levels = [
        item.level
        for member, item in count.built.items()
        if item.result == agreement.result and member not in barred
    ]
    if len(levels) >= count.record.k:
        level = level_of(levels, count.record.k)
        if level < agreement.level:
            leaves.append(Level(request=request, level=level))
            tally = replace(tally, agreement=replace(agreement, level=level))
    for voter in sorted(voters):
        item = count.items.get(voter)
        if item is None or not item.is_built:
            continue
        # Whoever differed while the request was open stands in its outcome leaf already.
        is_news = item.first_at == item.at or not item.first_result
        if is_news and is_stranger(item, agreement.own):
            leaves.append(LateDivergence(request=request, id=voter, own=item.own[0]))
    return leaves, tally
