"""Which older entries began to match a watch's query by a statement about them.

An entry's ``status:`` is not in its own leaf: a statement changes it, and stands in the log far
behind. A watch that told of new entries alone would lose every revocation of what is old. So each
new statement is looked at: the entries that it speaks of, and whether the query finds them as of
the statement and did not just before. Nothing else makes an old entry match anew here: answers that
come late (``builder:``) and packages that need it (``neededby:``) tell it no second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.schema.http import Entry, Search

STATEMENTS: Final = "type:revoke OR type:withdraw OR type:deprecate OR type:vulnerable"
HEIGHT_MAX: Final = 10**15 - 1
"""No query may name a greater one."""

Page = tuple[Search, list[JsonObject]]
Ask = Callable[[str, int | None, int], Page]
"""Returns a whole page in the order of the log, proved: of a query, after a leaf, as of a size."""


@dataclass(frozen=True, slots=True)
class Retold:
    """An older entry that matches since the leaf ``statement``, and its proved leaf."""

    statement: int
    entry: Entry
    leaf: JsonObject


def looks_at_statements(query: str) -> bool:
    """Tell whether a statement about an entry may make the query find it."""
    return "status:" in query


def within(query: str, height: int) -> str:
    """Return the query for one block; over the whole log it may look through everything."""
    return f"({query}) height:{height}"


def told_again(ask: Ask, query: str, *, after: int, as_of: int) -> Iterator[Retold]:
    """Yield the entries up to ``after`` that match by a statement behind it, as they stood then.

    Args:
        ask: Where to look.
        query: What is watched.
        after: The last leaf up to which everything was told.
        as_of: The size of the log to look at.

    Raises:
        PyrsiaError: as ``ask``.
    """
    if after < 0:
        return
    for statement, leaf in _hits(ask, STATEMENTS, after, as_of):
        digest = leaf.get("sha256")
        about = f"sha256:{digest}" if leaf.get("t") == "revoke" else str(leaf.get("purl"))
        for entry, _ in _hits(ask, about, None, after + 1):
            if entry.type != "accepted":
                continue
            now = _found(ask, query, entry, statement.index + 1)
            if now is not None and _found(ask, query, entry, statement.index) is None:
                yield Retold(statement.index, *now)


def _found(ask: Ask, query: str, entry: Entry, as_of: int) -> tuple[Entry, JsonObject] | None:
    """Return an entry as the query finds it as of a size; None if it does not."""
    for hit, leaf in _hits(ask, within(query, entry.block.height), entry.index - 1, as_of):
        return (hit, leaf) if hit.index == entry.index else None
    return None


def _hits(
    ask: Ask, query: str, after: int | None, as_of: int
) -> Iterator[tuple[Entry, JsonObject]]:
    cursor = after
    while True:
        page, leaves = ask(query, cursor, as_of)
        yield from zip(page.hits, leaves, strict=True)
        if page.next is None:
            return
        cursor = page.next
