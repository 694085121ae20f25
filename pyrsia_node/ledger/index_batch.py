"""Turns rows into what is inserted: request ids become leaves, facts follow their request.

What is said of a request before its outcome is found at the request's leaf, and from the outcome
on at the outcome's, too; what comes later is found at the outcome alone. Requests that were
touched lately are kept in memory, so that following the log asks the file for almost nothing.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.ledger.rows import Row, SqlValue
from pyrsia_node.model.errors import InvalidInputError

Values = tuple[SqlValue, ...]

ROWS_MAX: Final = 10_000
"""Rows after which a batch should be written."""

_REQUESTS_MAX: Final = 3 * ROWS_MAX
"""Requests in memory: more than the rows of one batch can touch, so none is lost unwritten."""

_LOAD: Final = (
    "SELECT r.leaf, u.purl, u.project, r.decided"
    " FROM request r JOIN unit u ON u.leaf = r.leaf WHERE r.id = ?"
)


@dataclass(slots=True)
class _Request:
    """What is known of a request so far; ``facts`` are (kind, value), until it is decided."""

    leaf: int
    purl: str | None = None
    project: str | None = None
    decided: int | None = None
    facts: list[tuple[SqlValue, SqlValue]] = field(default_factory=list)


class BatchBuilder:
    """Collects the rows of consecutive leaves for one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Ask ``db`` for requests that are no longer in memory."""
        self._db = db
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._builders: dict[str, int] | None = None
        self._tables: dict[str, list[Values]] = {}
        self._count = 0

    @property
    def count(self) -> int:
        """Rows that wait to be taken."""
        return self._count

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of the next leaf.

        Raises:
            InvalidInputError: A row names a request that is not in the log.
        """
        for table, values in rows:
            match table:  # the most frequent first
                case "tag" | "description":
                    self._put(table, values)
                case "fact":
                    self._fact(values)
                case "entry" | "item":
                    self._put(table, (*values[:-1], self._leaf_of(values[-1])))
                case "unit":
                    self._unit(values)
                case "decision":
                    self._decision(values)
                case "request":
                    leaf, request_id = values
                    assert isinstance(leaf, int)
                    assert isinstance(request_id, str)
                    self._remember(request_id, _Request(leaf))
                    self._put(table, values)
                case _:
                    self._put(table, values)

    def take(self) -> dict[str, list[Values]]:
        """Return the rows of each table and begin the next batch."""
        taken, self._tables, self._count = self._tables, {}, 0
        return taken

    def forget(self) -> None:
        """Drop everything that is not in the file, after a batch that was not written."""
        self._requests.clear()
        self._builders = None
        self._tables, self._count = {}, 0

    def _fact(self, values: Values) -> None:
        kind, value, known, request_id = values
        request = self._request(request_id)
        if kind == "builder":
            value = self._builder(str(value))
        if request.decided is None:
            request.facts.append((kind, value))
            self._put("tag", (request.leaf, kind, value, known))
        else:
            self._put("tag", (request.decided, kind, value, known))

    def _decision(self, values: Values) -> None:
        status, leaf, request_id = values
        request = self._request(request_id)
        assert isinstance(leaf, int)
        self._tables.setdefault("tag", []).extend(
            [(leaf, kind, value, leaf) for kind, value in request.facts]
        )
        self._count += len(request.facts)
        request.facts.clear()
        request.decided = leaf
        self._put("decision", (status, leaf, request.leaf))

    def _unit(self, values: Values) -> None:
        leaf, kind, purl, project, request_id = values
        if request_id is None:
            self._put("unit", values)
            return
        request = self._request(request_id)
        if kind == "build_request":
            request.purl, request.project = _text(purl), _text(project)
        self._put(
            "unit", (leaf, kind, purl or request.purl, project or request.project, request.leaf)
        )

    def _leaf_of(self, request_id: SqlValue) -> int | None:
        return None if request_id is None else self._request(request_id).leaf

    def _request(self, request_id: SqlValue) -> _Request:
        assert isinstance(request_id, str)
        known = self._requests.get(request_id)
        if known is not None:
            self._requests.move_to_end(request_id)
            return known
        found = self._db.execute(_LOAD, (request_id,)).fetchone()
        if found is None:
            raise InvalidInputError(f"names request {request_id}, which the log does not hold")
        request = _Request(*found)
        if request.decided is None:
            facts = self._db.execute("SELECT kind, value FROM tag WHERE leaf = ?", (request.leaf,))
            request.facts = facts.fetchall()
        self._remember(request_id, request)
        return request

    def _remember(self, request_id: str, request: _Request) -> None:
        self._requests[request_id] = request
        if len(self._requests) > _REQUESTS_MAX:
            self._requests.popitem(last=False)

    def _builder(self, member: str) -> int:
        if self._builders is None:
            self._builders = dict(self._db.execute("SELECT id, number FROM builder").fetchall())
        number = self._builders.get(member)
        if number is None:
            number = self._builders[member] = len(self._builders) + 1
            self._put("builder", (number, member))
        return number

    def _put(self, table: str, values: Values) -> None:
        self._tables.setdefault(table, []).append(values)
        self._count += 1


def _text(value: SqlValue) -> str | None:
    return value if isinstance(value, str) else None
