"""Runs queries on an index: every term becomes a condition, every value a parameter.

The unit of a search is a build request: it is found by what is known of it, and the hit is its
outcome's leaf if it has one, else its own. So two terms always speak of the same build. Order is
newest leaf first, and the cursor is a leaf index, so pages neither overlap nor skip while the log
grows. Nothing at or after ``as_of`` is seen.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from pyrsia_node.ledger.query import Term, TermKind
from pyrsia_node.ledger.rows import SqlValue
from pyrsia_node.model.errors import InvalidInputError

HITS_MAX: Final = 200
"""Most hits of one page."""

_CONDITIONS: Final = {
    TermKind.PROJECT: "r.project = ?",
    TermKind.PURL: "r.purl = ?",
    TermKind.DIGEST: "r.id IN (SELECT request FROM digest WHERE value = ? AND leaf < :as_of)",
    TermKind.DEPENDENCY: (
        "r.id IN (SELECT request FROM dependency WHERE project = ? AND leaf < :as_of)"
    ),
    TermKind.BUILDER: (
        "r.id IN (SELECT request FROM item WHERE outcome = 'BUILT' AND leaf < :as_of"
        " AND member IN (SELECT id FROM member WHERE label = ?1 OR id = ?1))"
    ),
    TermKind.AUTHOR: (
        "r.id IN (SELECT e.request FROM words JOIN entry e ON e.leaf = words.rowid"
        " WHERE words MATCH ? AND words.rowid < :as_of)"
    ),
    TermKind.TEXT: (
        "r.id IN (SELECT e.request FROM words JOIN entry e ON e.leaf = words.rowid"
        " WHERE words MATCH ? AND words.rowid < :as_of)"
    ),
}
_IS_DECIDED: Final = "(r.decided IS NOT NULL AND r.decided < :as_of)"
_HITS: Final = (
    "SELECT r.decided AS hit FROM request r WHERE r.decided < :before AND r.decided < :as_of {0}"
    " UNION ALL "
    "SELECT r.leaf AS hit FROM request r WHERE (r.decided IS NULL OR r.decided >= :as_of)"
    " AND r.leaf < :before AND r.leaf < :as_of {0}"
    " ORDER BY hit DESC LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class HitPage:
    """Leaf indexes, newest first; ``next`` is the cursor of the next page, if there is one."""

    hits: tuple[int, ...]
    next: int | None


def search(
    db: sqlite3.Connection,
    terms: tuple[Term, ...],
    *,
    as_of: int,
    limit: int,
    cursor: int | None = None,
) -> HitPage:
    """Return a page of hits.

    Args:
        db: An index.
        terms: Conditions that all must hold.
        as_of: The size of the log to look at.
        limit: Most hits, 1 to ``HITS_MAX``.
        cursor: Only leaves before this index: the ``next`` of the page before.

    Raises:
        InvalidInputError: The limit is out of bounds.
        sqlite3.Error: The index is damaged, or the query was interrupted.
    """
    if not 1 <= limit <= HITS_MAX:
        raise InvalidInputError(f"limit {limit} is not 1 to {HITS_MAX}")
    named: dict[str, SqlValue] = {
        "as_of": as_of,
        "before": as_of if cursor is None else cursor,
        "limit": limit + 1,
    }
    conditions = "".join(_condition(term, number, named) for number, term in enumerate(terms))
    # Only the constant texts above are joined here; every value is a parameter.
    found = db.execute(_HITS.format(conditions), named).fetchall()
    hits = tuple(int(row[0]) for row in found[:limit])
    return HitPage(hits=hits, next=hits[-1] if len(found) > limit else None)


def _condition(term: Term, number: int, named: dict[str, SqlValue]) -> str:
    if term.kind is TermKind.STATUS:
        condition = _status_condition(term.value, number, named)
    else:
        name = f":t{number}"
        named[name[1:]] = _value(term)
        condition = _CONDITIONS[term.kind].replace("?1", name).replace("?", name)
    return f" AND {'NOT ' if term.is_negated else ''}({condition})"


def _status_condition(status: str, number: int, named: dict[str, SqlValue]) -> str:
    if status == "open":
        return f"NOT {_IS_DECIDED}"
    named[f"t{number}"] = status
    return f"r.status = :t{number} AND {_IS_DECIDED}"


def _value(term: Term) -> str:
    if term.kind not in {TermKind.TEXT, TermKind.AUTHOR}:
        return term.value
    # A quoted FTS5 string has no operators inside; a quotation mark is doubled.
    phrase = '"' + term.value.replace('"', '""') + '"' + ("*" if term.is_prefix else "")
    return f"author : {phrase}" if term.kind is TermKind.AUTHOR else phrase
