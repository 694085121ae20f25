"""Runs queries on an index: every term becomes a condition, every value a parameter.

The unit of a search is a build request: it is found by what is known of it, and the hit is its
outcome's leaf if it has one, else its own. So two terms always speak of the same build. Order is
newest leaf first, and the cursor is a leaf index, so pages neither overlap nor skip while the log
grows. Nothing at or after ``as_of`` is seen.

A term that matches little is looked up first and drives the query; one that matches much is tested
on each candidate, newest first, until the page is full. Which it is, a bounded count tells.
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

FEW_MAX: Final = 2000
"""A term that matches more than this is tested instead of looked up."""


@dataclass(frozen=True, slots=True)
class _Forms:
    """The two ways to ask for a term, and the rows that decide between them.

    ``few`` and ``many`` are conditions on the request ``r``; ``{0}`` stands for the name of the
    term's parameter. ``rows`` is the statement whose length is bounded; empty where only ``few`` is
    ever right.
    """

    few: str
    many: str = ""
    rows: str = ""


_TEXT: Final = _Forms(
    few=(
        "r.id IN (SELECT e.request FROM words JOIN entry e ON e.leaf = words.rowid"
        " WHERE words MATCH {0} AND words.rowid < :as_of)"
    ),
    many=(
        "EXISTS (SELECT 1 FROM words WHERE words MATCH {0} AND rowid IN (r.leaf, r.decided)"
        " AND rowid < :as_of)"
    ),
    rows="SELECT 1 FROM words WHERE words MATCH {0}",
)
_FORMS: Final = {
    TermKind.PROJECT: _Forms("r.project = {0}"),
    TermKind.PURL: _Forms("r.purl = {0}"),
    TermKind.DIGEST: _Forms(
        "r.id IN (SELECT request FROM digest WHERE value = {0} AND leaf < :as_of)"
    ),
    TermKind.DEPENDENCY: _Forms(
        few="r.id IN (SELECT request FROM dependency WHERE project = {0} AND leaf < :as_of)",
        # What an entry depends on is known from its outcome on, whose leaf is ``decided``.
        many=(
            "EXISTS (SELECT 1 FROM dependency d WHERE d.project = {0} AND d.leaf = r.decided"
            " AND d.leaf < :as_of)"
        ),
        rows="SELECT 1 FROM dependency WHERE project = {0}",
    ),
    TermKind.BUILDER: _Forms(
        few=(
            "r.id IN (SELECT request FROM item WHERE outcome = 'BUILT' AND leaf < :as_of"
            " AND member IN (SELECT id FROM member WHERE label = {0} OR id = {0}))"
        ),
        many=(
            "EXISTS (SELECT 1 FROM item i WHERE i.request = r.id AND i.outcome = 'BUILT'"
            " AND i.leaf < :as_of"
            " AND i.member IN (SELECT id FROM member WHERE label = {0} OR id = {0}))"
        ),
        rows=(
            "SELECT 1 FROM item WHERE outcome = 'BUILT'"
            " AND member IN (SELECT id FROM member WHERE label = {0} OR id = {0})"
        ),
    ),
    TermKind.AUTHOR: _TEXT,
    TermKind.TEXT: _TEXT,
}
_DECIDED: Final = (
    "SELECT r.decided AS hit FROM request r WHERE r.decided < :before AND r.decided < :as_of"
)
_OPEN: Final = (
    "SELECT r.leaf AS hit FROM request r WHERE (r.decided IS NULL OR r.decided >= :as_of)"
    " AND r.leaf < :before AND r.leaf < :as_of"
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
    statuses = [term for term in terms if term.kind is TermKind.STATUS]
    others = [term for term in terms if term.kind is not TermKind.STATUS]
    conditions = "".join(_condition(db, term, number, named) for number, term in enumerate(others))
    parts = []
    if all(_admits(term, is_open=False) for term in statuses):
        decided = "".join(_status(term, number, named) for number, term in enumerate(statuses))
        parts.append(_DECIDED + decided + conditions)
    if all(_admits(term, is_open=True) for term in statuses):
        parts.append(_OPEN + conditions)
    if not parts:
        return HitPage(hits=(), next=None)
    # Only the constant texts above are joined here; every value is a parameter.
    statement = " UNION ALL ".join(parts) + " ORDER BY hit DESC LIMIT :limit"
    found = db.execute(statement, named).fetchall()
    hits = tuple(int(row[0]) for row in found[:limit])
    return HitPage(hits=hits, next=hits[-1] if len(found) > limit else None)


def _condition(db: sqlite3.Connection, term: Term, number: int, named: dict[str, SqlValue]) -> str:
    name = f"t{number}"
    named[name] = _value(term)
    forms = _FORMS[term.kind]
    form = forms.few
    if forms.rows:
        rows = forms.rows.format(f":{name}")
        counted = f"SELECT count(*) FROM ({rows} LIMIT {FEW_MAX + 1})"  # noqa: S608 - constants
        if db.execute(counted, {name: named[name]}).fetchone()[0] > FEW_MAX:
            form = forms.many
    return f" AND {'NOT ' if term.is_negated else ''}({form.format(f':{name}')})"


def _admits(term: Term, *, is_open: bool) -> bool:
    """Tell whether a status term can hold for open, or for decided, requests at all."""
    if term.value == "open":
        return is_open != term.is_negated
    return term.is_negated or not is_open


def _status(term: Term, number: int, named: dict[str, SqlValue]) -> str:
    """Return the condition of a status term on decided requests."""
    if term.value == "open":
        return ""  # negated, or this part would not be asked
    name = f"s{number}"
    named[name] = term.value
    return f" AND r.status {'<>' if term.is_negated else '='} :{name}"


def _value(term: Term) -> str:
    if term.kind not in {TermKind.TEXT, TermKind.AUTHOR}:
        return term.value
    # A quoted FTS5 string has no operators inside; a quotation mark is doubled.
    phrase = '"' + term.value.replace('"', '""') + '"' + ("*" if term.is_prefix else "")
    return f"author : {phrase}" if term.kind is TermKind.AUTHOR else phrase
