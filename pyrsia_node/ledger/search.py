"""Runs queries on an index: every term becomes a list of leaves, every value a parameter.

What a search finds are units (``ledger.rows``): a build is found by what is known of it, and the
hit is its outcome's leaf if it has one, else its request's. So two terms always speak of the same
build. The cursor is a leaf index, so pages neither overlap nor skip while the log grows. Nothing at
or after ``as_of`` is seen.

A page costs a bounded number of steps. A query that has not filled its page by then returns what
it found and the cursor from which the next page goes on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pyrsia_node.ledger.postings import (
    AllOf,
    Budget,
    Postings,
    Scope,
    Visible,
)
from pyrsia_node.ledger.query import And, Expression, Not, Or
from pyrsia_node.ledger.query_terms import TEXT_KINDS, Term
from pyrsia_node.ledger.term_lists import any_of, list_of, match_of, units
from pyrsia_node.model.errors import InvalidInputError

Order = Literal["newest", "log", "rank"]
"""Newest leaf first; oldest first, as in the log; best match of the words first."""

ORDERS: Final[tuple[Order, ...]] = ("newest", "log", "rank")

HITS_MAX: Final = 200
"""Most hits of one page."""

RANKED_MAX: Final = 50_000
"""Most matches that are ranked; of more, the newest come first."""

STEPS_MAX: Final = 300_000
"""Steps of one page; about half a second on a slow machine."""

_RANKED_STEPS_MAX: Final = 2_000_000

_COUNT_MATCHES: Final = (
    "SELECT count(*) FROM"
    " (SELECT 1 FROM words WHERE words MATCH :match AND rowid < :as_of LIMIT :limit)"
)
_BEST_MATCHES: Final = (
    "SELECT rowid FROM words WHERE words MATCH :match AND rowid < :as_of ORDER BY rank, rowid DESC"
)


@dataclass(frozen=True, slots=True)
class HitPage:
    """Leaf indexes in ``order``, which is not what was asked for if too many matched to rank.

    ``next`` is the cursor of the next page, if there is one; a page may be short, even empty,
    and still have a next one. ``matches`` is how many were ranked, of which ``hits`` are the best;
    None where nothing was.
    """

    hits: tuple[int, ...]
    next: int | None
    order: Order = "newest"
    matches: int | None = None


def search(
    db: sqlite3.Connection,
    query: Expression,
    *,
    as_of: int,
    limit: int,
    cursor: int | None = None,
    order: Order = "newest",
) -> HitPage:
    """Return a page of hits.

    Args:
        db: An index.
        query: What to find.
        as_of: The size of the log to look at.
        limit: Most hits, 1 to ``HITS_MAX``.
        cursor: The ``next`` of the page before: only leaves before it, in the order of the log
            only those after it.
        order: Which hits come first. Ranked answers are one page.

    Raises:
        InvalidInputError: The limit is out of bounds, or there are no words to rank by.
        sqlite3.Error: The index is damaged, or the query was interrupted.
    """
    if not 1 <= limit <= HITS_MAX:
        raise InvalidInputError(f"limit {limit} is not 1 to {HITS_MAX}")
    if order == "rank":
        if cursor is not None:
            raise InvalidInputError("ranked answers have one page: a cursor does not go with them")
        ranked = _ranked(db, query, as_of=as_of, limit=limit)
        if ranked is not None:
            return ranked
        order = "newest"
    scope = Scope(db, as_of, order == "newest", Budget(STEPS_MAX))
    if scope.is_newest_first:
        start = 1 - (as_of if cursor is None else min(cursor, as_of))
        end = 1
    else:
        start = 0 if cursor is None else cursor + 1
        end = as_of
    hits, reached = _take(scope, query, start, end, limit)
    if reached >= end:
        return HitPage(tuple(hits), next=None, order=order)
    # Everything before ``reached`` is decided, so the next page may begin right there.
    after = 1 if scope.is_newest_first else -1
    return HitPage(tuple(hits), next=scope.leaf(reached) + after, order=order)


def _take(
    scope: Scope, query: Expression, start: int, end: int, limit: int
) -> tuple[list[int], int]:
    """Return hits from ``start`` on, and the position up to which all are told."""
    found = AllOf(scope, [_listed(scope, query), Visible(scope)])
    hits: list[int] = []
    position = start
    while position < end:
        position, is_member = found.seek(position)
        if not is_member:
            if scope.budget.is_spent:
                break
        elif position < end:
            if len(hits) == limit:
                break
            hits.append(scope.leaf(position))
            position += 1
    return hits, min(position, end)


def _listed(scope: Scope, query: Expression) -> Postings:
    """Return the list of a whole query; one that only excludes takes from all units."""
    wanted, unwanted = _split(scope, query)
    if not wanted and not unwanted:
        return any_of([])
    return _combined(scope, wanted, unwanted)


def _combined(scope: Scope, wanted: list[Postings], unwanted: list[Postings]) -> Postings:
    if len(wanted) == 1 and not unwanted:
        return wanted[0]
    return AllOf(scope, wanted or [units(scope)], unwanted)


def _split(scope: Scope, query: Expression) -> tuple[list[Postings], list[Postings]]:
    """Return lists of which all must hold, and lists of which none may."""
    match query:
        case Term():
            return [list_of(scope, query)], []
        case Not(part):
            wanted, unwanted = _split(scope, part)
            if len(unwanted) == 1 and not wanted:
                return unwanted, []  # what is excluded twice is wanted
            return [], [_combined(scope, wanted, unwanted)]
        case And(parts):
            pairs = [_split(scope, part) for part in parts]
            return (
                [each for wanted, _ in pairs for each in wanted],
                [each for _, unwanted in pairs for each in unwanted],
            )
        case Or(parts):
            return [any_of([_listed(scope, part) for part in parts])], []


def _ranked(db: sqlite3.Connection, query: Expression, *, as_of: int, limit: int) -> HitPage | None:
    """Return the best hits of all matches, or None if too many match to be ranked."""
    words = [term for term in _required(query) if term.kind in TEXT_KINDS]
    if not words:
        raise InvalidInputError("nothing to rank by: the query requires no words")
    values = {"match": " AND ".join(f"({match_of(term)})" for term in words), "as_of": as_of}
    many = db.execute(_COUNT_MATCHES, {**values, "limit": RANKED_MAX + 1}).fetchone()[0]
    if many > RANKED_MAX:
        return None
    scope = Scope(db, as_of, is_newest_first=True, budget=Budget(_RANKED_STEPS_MAX))
    hits, reached = _take(scope, query, 1 - as_of, 1, RANKED_MAX)
    if reached < 1:
        return None
    matches = set(hits)
    found = (int(row[0]) for row in db.execute(_BEST_MATCHES, values))
    best = tuple(leaf for leaf, _ in zip(_only(found, matches), range(limit), strict=False))
    return HitPage(best, next=None, order="rank", matches=len(matches))


def _only(leaves: Iterator[int], wanted: set[int]) -> Iterator[int]:
    return (leaf for leaf in leaves if leaf in wanted)


def _required(query: Expression) -> Iterator[Term]:
    """Yield the terms that every hit fulfils."""
    match query:
        case Term():
            yield query
        case And(parts):
            for part in parts:
                yield from _required(part)
        case _:
            return
