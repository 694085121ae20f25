"""The tally: what the counted items of one request amount to. A pure function of its arguments.

An outcome needs k members that name one result whose document is in the log (ACCEPTED); the
others say why there is none. Specification: docs/spec/leaves.md, "Outcomes";
reasons: docs/design/ledger.md 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from consensus.quorum import faults
from consensus.types import NodeId
from pyrsia_node.ledger.machine.items import ItemRecord
from pyrsia_node.ledger.machine.records import RequestRecord, Slots, Tally
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.leaves import Attestor, Cause, Difference, ResultClass
from pyrsia_node.model.transactions import LEVELS


@dataclass(frozen=True, slots=True)
class Agreed:
    """ACCEPTED: the result, the level and who agreed or differed."""

    result: Sha256
    level: int
    attestors: tuple[Attestor, ...]
    differ: tuple[Difference, ...]
    own: tuple[tuple[Sha256, ...], ...]


@dataclass(frozen=True, slots=True)
class Disagreed:
    """DIVERGED: who got what."""

    classes: tuple[ResultClass, ...]


@dataclass(frozen=True, slots=True)
class Unbuildable:
    """FAILED: why."""

    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Overdue:
    """EXPIRED: who said nothing."""

    silent: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Undecided:
    """Still OPEN: the slots, if they run, and when an outcome falls due without more items."""

    slots: Slots | None
    due_ms: int


Finding = Agreed | Disagreed | Unbuildable | Overdue | Undecided


@dataclass(frozen=True, slots=True)
class Count:
    """The items that count now: of members of V_open that are members of the next set.

    All run in member order. ``built`` are the items that name a result, ``left`` the members
    that said nothing yet.
    """

    record: RequestRecord
    items: Mapping[NodeId, ItemRecord]
    built: Mapping[NodeId, ItemRecord]
    left: tuple[NodeId, ...]

    @classmethod
    def of(cls, record: RequestRecord, spoken: Iterable[tuple[NodeId, ItemRecord | None]]) -> Count:
        """Return the count of what each eligible member said, None for nothing."""
        items: dict[NodeId, ItemRecord] = {}
        built: dict[NodeId, ItemRecord] = {}
        left: list[NodeId] = []
        for member, item in spoken:
            if item is None:
                left.append(member)
                continue
            items[member] = item
            if item.is_built:
                built[member] = item
        return cls(record, items, built, tuple(left))

    def named(self) -> dict[Sha256, list[NodeId]]:
        """Return, for each result that is named, by whom."""
        results: dict[Sha256, list[NodeId]] = {}
        for member, item in self.built.items():
            results.setdefault(Sha256(item.result), []).append(member)
        return results


def evaluate(
    count: Count, tally: Tally, *, time_ms: int, has_document: Callable[[Sha256], bool]
) -> Finding:
    """Return what an OPEN request comes to at a block time.

    The order is ACCEPTED, DIVERGED, FAILED, EXPIRED, whichever holds first.

    Args:
        count: The items that count.
        tally: The request's tally so far, which must be OPEN.
        time_ms: Time of the block whose transactions have been counted.
        has_document: Tells whether the log holds a fitting document with a digest.
    """
    k = count.record.k
    supported = {result: by for result, by in count.named().items() if len(by) >= k}
    in_log = {result: by for result, by in supported.items() if has_document(result)}
    if in_log:
        return _agreed(count, in_log)
    built, left = count.built, count.left
    is_overdue = time_ms >= count.record.deadline_ms
    slots_passed = tally.slots is not None and time_ms >= tally.slots.ends_ms
    may_diverge = not left or is_overdue or slots_passed
    has_no_hope = len(built) >= k and not supported
    if may_diverge and has_no_hope and (slots_passed or _largest_class(count) is None):
        return Disagreed(_classes(built))
    if len(built) + len(left) < k:
        return Unbuildable(_causes(count))
    if is_overdue:
        return Overdue(left)
    return _undecided(count, tally, time_ms=time_ms, is_supported=bool(supported))


def level_of(levels: list[int], k: int) -> int:
    """Return the smallest level at or below which k of the claimed levels lie."""
    return sorted(levels)[k - 1]


def is_stranger(item: ItemRecord, own: tuple[tuple[Sha256, ...], ...]) -> bool:
    """Tell whether a BUILT item's own roots differ from the accepted class at every level."""
    return all(root not in accepted for root, accepted in zip(item.own, own, strict=True))


def _agreed(count: Count, candidates: Mapping[Sha256, list[NodeId]]) -> Agreed:
    k = count.record.k
    # Several results can have k items when k is small: the one that reached k first has it.
    reached = {
        result: sorted(count.items[member].at for member in by)[k - 1]
        for result, by in candidates.items()
    }
    result = min(reached, key=lambda each: reached[each])
    supporters = [count.items[member] for member in candidates[result]]
    own = tuple(tuple(sorted({item.own[level] for item in supporters})) for level in LEVELS)
    return Agreed(
        result=result,
        level=level_of([item.level for item in supporters], k),
        attestors=tuple(
            Attestor(id=member, leaf=count.items[member].at[0], level=count.items[member].level)
            for member in candidates[result]
        ),
        differ=tuple(
            Difference(id=member, own=item.own[0])
            for member, item in count.built.items()
            if item.result != result and is_stranger(item, own)
        ),
        own=own,
    )


def _classes(built: Mapping[NodeId, ItemRecord]) -> tuple[ResultClass, ...]:
    groups: dict[tuple[tuple[Sha256, ...], str], list[NodeId]] = {}
    for member, item in built.items():  # in member order, so the first id orders the groups
        groups.setdefault((item.own, item.result), []).append(member)
    return tuple(
        ResultClass(own=own, ids=tuple(ids), result=Sha256(result))
        for (own, result), ids in groups.items()
    )


def _causes(count: Count) -> tuple[Cause, ...]:
    return tuple(
        Cause(member, item.outcome, item.cause, moved=item.moved, seen_ms=item.seen_ms)
        for member, item in count.items.items()
        if not item.is_built
    )


def _largest_class(count: Count) -> tuple[int, Sha256, list[NodeId]] | None:
    """Return (level, own root, members) of a class of k or more at the lowest such level.

    With several at one level, the class that was k strong first.
    """
    k = count.record.k
    for level in LEVELS:
        groups: dict[Sha256, list[NodeId]] = {}
        for member, item in count.built.items():
            groups.setdefault(item.own[level], []).append(member)
        reached = {
            own: sorted(count.items[member].first_at for member in by)[k - 1]
            for own, by in groups.items()
            if len(by) >= k
        }
        if reached:
            own = min(reached, key=lambda each: reached[each])
            return level, own, groups[own]
    return None


def _undecided(count: Count, tally: Tally, *, time_ms: int, is_supported: bool) -> Undecided:
    record = count.record
    slots = tally.slots
    if slots is None and not is_supported:
        slots = _slots(count, time_ms)
    # When the slots end, the outcome is DIVERGED: due then, unless a result already has its k
    # items and only its document is missing, or too many of those who built have left the set.
    ends_open = (
        slots is not None
        and not is_supported
        and time_ms < slots.ends_ms
        and len(count.built) >= record.k
    )
    due_ms = record.deadline_ms
    if ends_open and slots is not None:
        due_ms = min(due_ms, slots.ends_ms)
    return Undecided(slots=slots, due_ms=due_ms)


def _slots(count: Count, time_ms: int) -> Slots | None:
    """Return the slots that start now, if k own roots are equal and no result has k items."""
    strongest = _largest_class(count)
    if strongest is None:
        return None
    level, own, members = strongest
    number = faults(len(count.record.members)) + 1
    first = sorted((count.items[each].first_at, count.items[each].first_result) for each in members)
    candidates = list(dict.fromkeys(Sha256(result) for _, result in first))
    return Slots(
        starts_ms=time_ms,
        length_ms=count.record.class_ms // (4 * number),
        level=level,
        own=own,
        candidates=tuple(candidates[:number]),
        count=number,
    )
