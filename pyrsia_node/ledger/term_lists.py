"""What each kind of term finds: its list of leaves, by SQL whose every value is a parameter.

A term whose leaves stand in an index in their order is read as it is needed. One that spans a range
of values (a prefix, an address and all below) is read whole while it finds few; above ``FEW_MAX``
the units are tested one by one instead, newest first or as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pyrsia_node.ledger.postings import AllOf, AnyOf, Ordered, Postings, Scan, Scope, Small, Span
from pyrsia_node.ledger.query_terms import Term, TermKind
from pyrsia_node.ledger.rows import SqlValue
from pyrsia_node.schema.search_terms import CLAIMS, OUTCOMES

FEW_MAX: Final = 20_000
"""Leaves of one term that are read at once."""

NEEDED_MAX: Final = 1000
"""Most projects that ``neededby:`` follows."""

_Values = dict[str, SqlValue]

_COLUMNS: Final = {
    TermKind.AUTHOR: "author",
    TermKind.NAME: "name",
    TermKind.LICENCE: "licence",
}
_TAG: Final = "SELECT leaf FROM tag WHERE kind = :kind AND value = :value AND known < :as_of"
_UNIT: Final = "SELECT leaf FROM unit WHERE"
_ACCEPTED: Final = (
    "SELECT leaf FROM unit INDEXED BY unit_accepted WHERE type = 'accepted' AND project = :value"
)

# CROSS JOIN: the few statements first, each looked up among the units. Without it SQLite may look
# at all that was ever accepted, and find the statements to it.
_REVOKED: Final = (
    "SELECT t.leaf FROM statement s CROSS JOIN tag t ON t.kind = 'blob' AND t.value = s.sha256"
    " WHERE s.kind = 'revoke' AND s.leaf < :as_of"
)
_WITHDRAWN: Final = "SELECT entry AS leaf FROM statement WHERE kind = 'withdraw' AND leaf < :as_of"
_ADVISED: Final = (
    "SELECT u.leaf FROM statement s CROSS JOIN unit u INDEXED BY unit_accepted"
    " ON u.type = 'accepted' AND u.project = s.project AND s.purl IN (u.purl, u.project)"
    " WHERE s.kind = :kind AND s.leaf < :as_of"
)


def units(scope: Scope) -> Postings:
    """Return the list of everything that can be found."""
    return Ordered(scope, f"{_UNIT} 1", {})


def any_of(parts: Sequence[Postings]) -> Postings:
    """Return what any of ``parts`` finds; no parts find nothing."""
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def list_of(scope: Scope, term: Term) -> Postings:
    """Return the list of a term."""
    return _LISTS[term.kind](scope, term)


def match_of(term: Term) -> str:
    """Return the FTS5 expression of a term that looks for words."""
    # A quoted FTS5 string has no operators inside; a quotation mark is doubled.
    phrase = '"' + term.value.replace('"', '""') + '"' + ("*" if term.is_prefix else "")
    column = _COLUMNS.get(term.kind)
    return phrase if column is None else f"{column} : {phrase}"


def _few_or_scan(scope: Scope, select: str, test: str, values: _Values) -> Postings:
    """Return what ``select`` finds, or the units that pass ``test`` if that is very many."""
    # Only constants of this module are joined here; every value is a parameter.
    statement = f"SELECT leaf FROM ({select}) LIMIT {FEW_MAX + 1}"  # noqa: S608
    rows = scope.db.execute(statement, {**values, "as_of": scope.as_of}).fetchall()
    if len(rows) > FEW_MAX:
        return Scan(scope, f"u.leaf < :as_of AND ({test})", values)
    return Small(scope, [row[0] for row in rows])


def _tagged(kind: str) -> Callable[[Scope, Term], Postings]:
    """Return the reader of terms that are one value of a tag, or a prefix of it."""

    def read(scope: Scope, term: Term) -> Postings:
        if not term.is_prefix:
            return _tag(scope, kind, term.value)
        return _tag_range(scope, kind, term.value, _after(term.value))

    return read


def _tag(scope: Scope, kind: str, value: SqlValue) -> Postings:
    return Ordered(scope, _TAG, {"kind": kind, "value": value})


def _tag_range(scope: Scope, kind: str, low: SqlValue, high: SqlValue) -> Postings:
    return _few_or_scan(
        scope,
        "SELECT leaf FROM tag WHERE kind = :kind AND value >= :low AND value < :high"
        " AND known < :as_of AND leaf < :as_of",
        "EXISTS (SELECT 1 FROM tag t WHERE t.leaf = u.leaf AND t.kind = :kind"
        " AND t.value >= :low AND t.value < :high AND t.known < :as_of)",
        {"kind": kind, "low": low, "high": high},
    )


def _column(column: str) -> Callable[[Scope, Term], Postings]:
    """Return the reader of terms that are one value of a unit's column."""
    return lambda scope, term: Ordered(scope, f"{_UNIT} {column} = :value", {"value": term.value})


def _purl_prefix(scope: Scope, term: Term) -> Postings:
    return _few_or_scan(
        scope,
        f"{_UNIT} purl >= :low AND purl < :high AND leaf < :as_of",
        "u.purl >= :low AND u.purl < :high",
        {"low": term.value, "high": _after(term.value)},
    )


def _digest(scope: Scope, term: Term) -> Postings:
    kinds = ("blob", "sha256")
    if not term.is_prefix:
        value = bytes.fromhex(term.value)
        return any_of([_tag(scope, kind, value) for kind in kinds])
    low = bytes.fromhex(term.value.ljust(64, "0"))
    # One byte longer than any digest, so that the last one is below it.
    high = bytes.fromhex(term.value.ljust(64, "f")) + b"\0"
    return any_of([_tag_range(scope, kind, low, high) for kind in kinds])


def _repository(scope: Scope, term: Term) -> Postings:
    # "0" is the character after "/": the range holds exactly what lies below the address.
    below = _tag_range(scope, "repo", f"{term.value}/", f"{term.value}0")
    return any_of([_tag(scope, "repo", term.value), below])


def _needed_by(scope: Scope, term: Term) -> Postings:
    column = "purl" if "@" in term.value else "project"
    # Only the constants above are joined here; every value is a parameter.
    needed = scope.db.execute(
        # CROSS JOIN keeps the order: else SQLite looks through all that anybody depends on.
        "SELECT DISTINCT t.value FROM unit u CROSS JOIN tag t ON t.leaf = u.leaf"  # noqa: S608
        # The plus keeps it from looking through all that is accepted.
        f" WHERE u.{column} = :value AND +u.type = 'accepted' AND u.leaf < :as_of"
        f" AND t.kind = 'dep' ORDER BY +t.value LIMIT {NEEDED_MAX}",
        {"value": term.value, "as_of": scope.as_of},
    ).fetchall()
    return any_of([Ordered(scope, _ACCEPTED, {"value": row[0]}) for row in needed])


def _builder(scope: Scope, term: Term) -> Postings:
    numbers = scope.db.execute(
        "SELECT number FROM builder WHERE id = :value"
        " OR id IN (SELECT id FROM member WHERE label = :value AND leaf < :as_of)",
        {"value": term.value, "as_of": scope.as_of},
    ).fetchall()
    return any_of([_tag(scope, "builder", row[0]) for row in numbers])


def _status(scope: Scope, term: Term) -> Postings:
    status = term.value
    if status == "accepted":
        return AllOf(scope, [_type(scope, status)], [_withdrawn(scope), _revoked(scope)])
    if status in OUTCOMES:
        return _type(scope, status)
    match status:
        case "open":
            return _open(scope)
        case "revoked":
            # What is withdrawn, too, counts as withdrawn: it should not be there at all.
            return AllOf(scope, [_revoked(scope)], [_withdrawn(scope)])
        case "withdrawn":
            return _withdrawn(scope)
        case _:
            return _advised(scope, {"deprecated": "deprecate"}.get(status, status))


def _claim(scope: Scope, term: Term) -> Postings:
    if term.value != "rebuilt":
        return _tag(scope, "claim", term.value)
    # Most builds are rebuilt, so the index says of the others alone what they are.
    builds = any_of([_type(scope, each) for each in ("build_request", *OUTCOMES)])
    others = [_tag(scope, "claim", each) for each in CLAIMS if each != "rebuilt"]
    return AllOf(scope, [builds], others)


def _type(scope: Scope, kind: str) -> Postings:
    return Ordered(scope, f"{_UNIT} type = :value", {"value": kind})


def _open(scope: Scope) -> Postings:
    """Return requests that are open: those without an outcome, or with a later one."""
    undecided = Ordered(scope, "SELECT leaf FROM request WHERE decided IS NULL", {})
    later = _few_or_scan(
        scope,
        "SELECT leaf FROM request WHERE decided >= :as_of AND leaf < :as_of",
        "EXISTS (SELECT 1 FROM request r WHERE r.leaf = u.leaf AND r.decided >= :as_of)",
        {},
    )
    return any_of([undecided, later])


def _withdrawn(scope: Scope) -> Postings:
    return _few_or_scan(scope, _WITHDRAWN, f"u.leaf IN ({_WITHDRAWN})", {})


def _revoked(scope: Scope) -> Postings:
    return _few_or_scan(scope, _REVOKED, f"u.leaf IN ({_REVOKED})", {})


def _advised(scope: Scope, kind: str) -> Postings:
    return _few_or_scan(scope, _ADVISED, f"u.leaf IN ({_ADVISED})", {"kind": kind})


def _heights(scope: Scope, term: Term) -> Postings:
    low = _first_leaf(scope, "height", term.low)
    high = _first_leaf(scope, "height", term.high)
    return _span(scope, low, high)


def _times(scope: Scope, term: Term) -> Postings:
    low = _first_leaf(scope, "time_ms", term.low)
    high = _first_leaf(scope, "time_ms", term.high)
    return _span(scope, low, high)


def _span(scope: Scope, low: int | None, high: int | None) -> Postings:
    return Span(scope, units(scope), low or 0, scope.as_of if high is None else high)


def _first_leaf(scope: Scope, column: str, value: int | None) -> int | None:
    """Return the first leaf of the blocks from a height or time on; both ascend with the log."""
    if value is None:
        return None
    # The column is a constant above, and ordered by its own index: one look, no sorting.
    order = f"ORDER BY {column}, height LIMIT 1"
    statement = f"SELECT first FROM block WHERE {column} >= :value {order}"  # noqa: S608
    found = scope.db.execute(statement, {"value": value}).fetchone()
    return scope.as_of if found is None else int(found[0])


def _words(scope: Scope, term: Term) -> Postings:
    select = "SELECT rowid FROM words WHERE words MATCH :match"
    return Ordered(scope, select, {"match": match_of(term)}, leaf="rowid")


def _after(prefix: str) -> str:
    """Return the first text that is greater than all with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


_LISTS: Final[Mapping[TermKind, Callable[[Scope, Term], Postings]]] = {
    TermKind.AUTHOR: _words,
    TermKind.BUILDER: _builder,
    TermKind.CLAIM: _claim,
    TermKind.COMMIT: _tagged("commit"),
    TermKind.DEPENDENCY: _tagged("dep"),
    TermKind.DIGEST: _digest,
    TermKind.FILE: _tagged("file"),
    TermKind.HEIGHT: _heights,
    TermKind.LICENCE: _words,
    TermKind.NAME: _words,
    TermKind.NEEDED_BY: _needed_by,
    TermKind.PROJECT: _column("project"),
    TermKind.PURL: _column("purl"),
    TermKind.PURL_PREFIX: _purl_prefix,
    TermKind.REPOSITORY: _repository,
    TermKind.STATUS: _status,
    TermKind.TEXT: _words,
    TermKind.TIME: _times,
    TermKind.TYPE: _column("type"),
}
