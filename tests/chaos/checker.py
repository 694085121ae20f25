"""Judges a history against the logs that the nodes were left with. Pure: no network, no clock.

The rules, each with a test that plants its violation:

* one log: of any two nodes' logs one begins with the other;
* an acknowledged transaction stands in every log that is long enough, exactly once, at the leaf
  that was told, and every node's log is long enough in the end;
* no transaction stands twice; one that a node refused for good stands nowhere; none is invented;
* every head that a node published is the head of the one log, and a node's heads never shrink;
* a lookup as of a head, if it says that it is complete, shows exactly what the log of that size
  holds, and a node's answers never go back to an older head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyrsia_node.tlog.tree import EMPTY_FRONTIER, leaf_hash
from tests.chaos.history import Event, HeadSeen, Invoked, Looked, Written

TransactionOf = Callable[[bytes], str | None]
"""Returns the id of the transaction in a leaf; None where the leaf holds no client's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was judged, and what was wrong."""

    acknowledged: int
    refused: int
    unknown: int
    unknown_in_log: int
    heads: int
    lookups: int
    leaves: int
    violations: tuple[str, ...]


def judge(
    events: Sequence[Event],
    logs: Mapping[str, Sequence[bytes]],
    transaction_of: TransactionOf,
) -> Verdict:
    """Judge what clients saw against the leaves that each node holds in the end.

    Cost: linear in the leaves of all logs, plus one hash a leaf of the longest.
    """
    longest = max(logs.values(), key=len, default=())
    places = _places(longest, transaction_of)
    written = {each.transaction: each for each in events if isinstance(each, Written)}
    ok = {each.transaction: each for each in written.values() if each.outcome == "ok"}
    violations = [
        *_forks(logs, longest),
        *_doubled(places),
        *_lost(ok, places, logs),
        *_refused_or_invented(events, written, places),
        *_wrong_heads(events, longest),
        *_wrong_lookups(events, places),
    ]
    unknown = {
        each.transaction
        for each in events
        if isinstance(each, Invoked)
        and (each.transaction not in written or written[each.transaction].outcome == "unknown")
    }
    return Verdict(
        acknowledged=len(ok),
        refused=sum(each.outcome == "failed" for each in written.values()),
        unknown=len(unknown),
        unknown_in_log=len(unknown & places.keys()),
        heads=sum(isinstance(each, HeadSeen) for each in events),
        lookups=sum(isinstance(each, Looked) for each in events),
        leaves=len(longest),
        violations=tuple(violations),
    )


def _places(log: Sequence[bytes], transaction_of: TransactionOf) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for index, leaf in enumerate(log):
        transaction = transaction_of(leaf)
        if transaction is not None:
            places.setdefault(transaction, []).append(index)
    return places


def _forks(logs: Mapping[str, Sequence[bytes]], longest: Sequence[bytes]) -> Iterator[str]:
    for label, log in logs.items():
        if list(log) != list(longest[: len(log)]):
            index = next(i for i, leaf in enumerate(log) if leaf != longest[i])
            yield f"fork: leaf {index} of {label} is not that of the longest log"


def _doubled(places: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for transaction, found in places.items():
        if len(found) > 1:
            yield f"doubled: transaction {transaction} stands at leaves {found}"


def _lost(
    ok: Mapping[str, Written],
    places: Mapping[str, Sequence[int]],
    logs: Mapping[str, Sequence[bytes]],
) -> Iterator[str]:
    for transaction, told in ok.items():
        if told.leaf not in places.get(transaction, ()):
            yield (
                f"lost: {told.node} acknowledged transaction {transaction} at leaf {told.leaf},"
                f" the log has it at {places.get(transaction, [])}"
            )
    needed = max((told.leaf + 1 for told in ok.values()), default=0)
    for label, log in logs.items():
        if len(log) < needed:
            yield f"behind: {label} holds {len(log)} leaves, {needed} are acknowledged"


def _refused_or_invented(
    events: Sequence[Event],
    written: Mapping[str, Written],
    places: Mapping[str, Sequence[int]],
) -> Iterator[str]:
    invoked = {each.transaction for each in events if isinstance(each, Invoked)}
    for transaction, found in places.items():
        told = written.get(transaction)
        if transaction not in invoked:
            yield f"invented: nobody asked for transaction {transaction} at leaf {found[0]}"
        elif told is not None and told.outcome == "failed":
            yield f"refused: {told.node} refused transaction {transaction}, it is at {found}"


def _wrong_heads(events: Sequence[Event], log: Sequence[bytes]) -> Iterator[str]:
    heads = [each for each in events if isinstance(each, HeadSeen)]
    roots = _roots(log, {each.size for each in heads})
    newest: dict[str, int] = {}
    for head in heads:
        if head.size not in roots:
            yield f"head: {head.node} published size {head.size}, no log is that long"
        elif roots[head.size] != head.root:
            yield (
                f"head: {head.node} published root {head.root} at size {head.size},"
                f" the log has {roots[head.size]}"
            )
        if head.size < newest.get(head.node, 0):
            yield f"back: {head.node} published size {head.size} after {newest[head.node]}"
        newest[head.node] = max(head.size, newest.get(head.node, 0))


def _roots(log: Sequence[bytes], sizes: set[int]) -> dict[int, str]:
    """Return the root at each of ``sizes`` that the log reaches."""
    roots = {}
    frontier = EMPTY_FRONTIER
    before = 0
    for size in sorted(each for each in sizes if each <= len(log)):
        frontier = frontier.extend(leaf_hash(leaf) for leaf in log[before:size])
        roots[size] = frontier.root().hex()
        before = size
    return roots


def _wrong_lookups(events: Sequence[Event], places: Mapping[str, Sequence[int]]) -> Iterator[str]:
    newest: dict[str, int] = {}
    for look in events:
        if not isinstance(look, Looked):
            continue
        if look.as_of < newest.get(look.node, 0):
            yield f"back: {look.node} answered as of {look.as_of} after {newest[look.node]}"
        newest[look.node] = max(look.as_of, newest.get(look.node, 0))
        expected = {leaf for leaf in places.get(look.transaction, ()) if leaf < look.as_of}
        shown = set(look.leaves)
        # An incomplete answer may leave out; none may show what the log does not hold.
        if shown - expected or (look.complete and expected - shown):
            yield (
                f"lookup: {look.node} as of {look.as_of} shows transaction {look.transaction} at"
                f" {sorted(shown)}, the log has it at {sorted(expected)}"
            )
