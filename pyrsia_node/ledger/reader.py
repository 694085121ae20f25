"""Asks the search index where to look. Read-only; for the gateway.

An answer is leaf indexes, and hints about them. What an entry *says* is read from its leaf and held
against a cosigned checkpoint by whoever serves by it, so a tampered index can hide an entry but
never invent one. Callers pass ``as_of``, the size that they believe in: rows exist from commit on,
and nobody must see what is not yet published.

``IndexReader`` follows the pointer, so a rebuilt index is used from the next call on. Queries are
bounded in steps: no text that a user can type holds up the process for long.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.ledger.index import POINTER, REPAIR, read_meta, read_pointer
from pyrsia_node.ledger.query import parse_query
from pyrsia_node.ledger.rows import Block, SqlValue
from pyrsia_node.ledger.search import HitPage, Order, search
from pyrsia_node.model.errors import CorruptStateError, UnavailableError
from pyrsia_node.model.mappings import patterns_for
from pyrsia_node.model.purl import Purl

ABOUT_MAX: Final = 5000
"""Most leaves that one question about a package returns."""

_STEPS_MAX: Final = 20_000_000
"""Virtual machine steps of SQLite that one query may take: about a second."""

_STEPS_BETWEEN_CHECKS: Final = 50_000

# A plus keeps SQLite from looking through all leaves of one type.
_ABOUT: Final = (
    "WITH wanted(leaf) AS"
    " (SELECT leaf FROM unit WHERE {0} = :purl AND +type = 'build_request' AND leaf < :as_of)"
    " SELECT leaf FROM entry WHERE leaf < :as_of AND request IN (SELECT leaf FROM wanted)"
    " UNION SELECT leaf FROM item WHERE leaf < :as_of AND request IN (SELECT leaf FROM wanted)"
    " UNION SELECT leaf FROM statement WHERE leaf < :as_of AND project = :project AND {0} = :purl"
    " UNION SELECT leaf FROM unit WHERE purl IN (:exact, :group) AND +type = 'add_source'"
    " AND leaf < :as_of"
    " ORDER BY leaf DESC LIMIT :limit"
)
_ABOUT_PROJECT: Final = _ABOUT.format("project")
_ABOUT_VERSION: Final = _ABOUT.format("purl")
# From each name to the next one: as many looks as there are names, not as there are entries.
_PROJECTS: Final = (
    "WITH RECURSIVE name(project) AS ("
    "SELECT min(project) FROM unit INDEXED BY unit_accepted"
    " WHERE type = 'accepted' AND project > :low AND project < :high"
    " UNION ALL SELECT (SELECT min(project) FROM unit INDEXED BY unit_accepted"
    " WHERE type = 'accepted' AND project > name.project AND project < :high)"
    " FROM name WHERE name.project IS NOT NULL)"
    " SELECT project FROM name WHERE EXISTS (SELECT 1 FROM unit u INDEXED BY unit_accepted"
    " WHERE u.type = 'accepted' AND u.project = name.project AND u.leaf < :as_of)"
)
_HINT: Final = (
    "SELECT e.type, u.purl, r.id, r.status, r.decided, b.height, b.time_ms"
    " FROM entry e JOIN block b ON b.first <= e.leaf LEFT JOIN request r ON r.leaf = e.request"
    " LEFT JOIN unit u ON u.leaf = COALESCE(r.leaf, e.leaf)"
    " WHERE e.leaf = :leaf ORDER BY b.first DESC LIMIT 1"
)
_STATEMENTS_ON: Final = (
    "SELECT s.leaf, s.kind FROM unit u JOIN statement s ON s.project = u.project"
    " WHERE u.leaf = :leaf AND u.type = 'accepted' AND s.leaf < :as_of AND CASE s.kind"
    " WHEN 'withdraw' THEN s.entry = u.leaf WHEN 'revoke' THEN 0"
    " ELSE s.purl IN (u.purl, u.project) END"
    " UNION SELECT s.leaf, s.kind FROM tag t JOIN statement s ON s.sha256 = t.value"
    " WHERE t.leaf = :leaf AND t.kind = 'blob' AND s.kind = 'revoke' AND s.leaf < :as_of"
    " ORDER BY 1 LIMIT 100"
)
_BLOCKS: Final = (
    'SELECT height, first, "end", time_ms FROM block WHERE height <= :top AND "end" <= :as_of'
    " ORDER BY height DESC LIMIT :limit"
)
_STOPPED: Final = {"withdraw": "withdrawn", "revoke": "revoked"}


@dataclass(frozen=True, slots=True)
class StatementHint:
    """A statement about an entry: its leaf and its type."""

    index: int
    kind: str


@dataclass(frozen=True, slots=True)
class EntryHint:
    """What the index says of a leaf.

    ``purl`` and ``status`` are those of the build request that the leaf belongs to; None for
    leaves that belong to none or to several. An accepted entry that a statement stops is
    ``withdrawn`` or ``revoked``. ``time_ms`` is that of the block.
    """

    index: int
    type: str
    purl: str | None
    request: str | None
    status: str | None
    height: int
    time_ms: int
    statements: tuple[StatementHint, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """Leaf indexes, ascending. ``is_complete`` is False if something may be missing."""

    leaves: tuple[int, ...]
    is_complete: bool


class IndexReader:
    """The current index of a data directory. Not for use from two threads at once.

    All methods raise ``UnavailableError`` while there is no index yet or the query is too costly,
    and ``CorruptStateError`` when it is damaged.
    """

    def __init__(self, root: Path) -> None:
        """Read below the data directory ``root``; nothing is opened before it is needed."""
        self._root = root
        self._db: sqlite3.Connection | None = None
        self._pointer = str(root / POINTER)
        self._stamp: tuple[int, int] | None = None
        self._steps_left = 0

    def close(self) -> None:
        """Close the file; the reader opens it again when it is used again."""
        if self._db is not None:
            self._db.close()
        self._db = self._stamp = None

    def applied_size(self) -> int:
        """Return how many leaves the index covers."""
        try:
            return int(read_meta(self._open())["applied_size"])
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise _told(error) from None

    def accepted(self, ecosystem: str, name: str, *, as_of: int | None = None) -> list[int]:
        """Return the leaves of a package's ACCEPTED entries, all versions, ascending.

        Args:
            ecosystem: The purl type, such as ``pypi``.
            name: The normalised name, with its namespace if the ecosystem has any.
            as_of: Only leaves of a log of this size.
        """
        statement = (
            "SELECT leaf FROM unit INDEXED BY unit_accepted WHERE type = 'accepted'"
            " AND project = :project AND leaf < :as_of ORDER BY leaf"
        )
        return self._leaves(
            statement, {"project": f"pkg:{ecosystem}/{name}", "as_of": _bound(as_of)}
        )

    def newest_accepted(self, purl: Purl, *, as_of: int) -> list[int]:
        """Return the leaf of the newest ACCEPTED entry of one version, in a list; [] if none."""
        statement = (
            "SELECT leaf FROM unit WHERE purl = :purl AND type = 'accepted' AND leaf < :as_of"
            " ORDER BY leaf DESC LIMIT 1"
        )
        return self._leaves(statement, {"purl": str(purl), "as_of": as_of})

    def projects(self, ecosystem: str, *, as_of: int | None = None) -> list[str]:
        """Return the names of all packages with an ACCEPTED entry, sorted."""
        # "0" is the character after "/": the range holds exactly the texts with the prefix.
        values: dict[str, SqlValue] = {"low": f"pkg:{ecosystem}/", "high": f"pkg:{ecosystem}0"}
        found = self._rows(_PROJECTS, {**values, "as_of": _bound(as_of)})
        prefix = f"pkg:{ecosystem}/"
        return [str(row[0]).removeprefix(prefix) for row in found]

    def statements(self, ecosystem: str, name: str, *, as_of: int | None = None) -> list[int]:
        """Return the leaves of all statements about a package, any version, ascending."""
        return self._leaves(
            "SELECT leaf FROM statement WHERE project = :project AND leaf < :as_of ORDER BY leaf",
            {"project": f"pkg:{ecosystem}/{name}", "as_of": _bound(as_of)},
        )

    def revocations(self, digests: Iterable[str], *, as_of: int | None = None) -> list[int]:
        """Return the leaves that revoke one of these SHA-256 digests (hex), ascending."""
        statement = (
            "SELECT leaf FROM statement WHERE sha256 = :digest AND kind = 'revoke'"
            " AND leaf < :as_of"
        )
        found: set[int] = set()
        for digest in digests:
            values: dict[str, SqlValue] = {"digest": bytes.fromhex(digest)}
            found.update(self._leaves(statement, {**values, "as_of": _bound(as_of)}))
        return sorted(found)

    def blocks(self, *, as_of: int, top: int | None = None, limit: int = 50) -> list[Block]:
        """Return blocks of a log of size ``as_of``, from height ``top`` on downwards."""
        values: dict[str, SqlValue] = {"as_of": as_of, "limit": limit, "top": _bound(top)}
        rows = self._rows(_BLOCKS, values)
        return [Block(*(_integer(value) for value in row)) for row in rows]

    def about(self, purl: Purl, *, as_of: int, limit: int = ABOUT_MAX) -> Found:
        """Return every leaf about a package or one version of it.

        That is requests, attestations, results, outcomes, what came late, statements, and the
        mappings that ever said where its source is. With more than ``limit`` the newest are
        returned, and the answer is not complete.
        """
        self._check_loaded()
        statement = _ABOUT_PROJECT if purl.version is None else _ABOUT_VERSION
        values: dict[str, SqlValue] = {"purl": str(purl), "project": str(purl.without_version())}
        exact, group = patterns_for(purl) or (None, None)
        values |= {"exact": exact, "group": group}
        leaves = self._leaves(statement, {**values, "as_of": as_of, "limit": limit + 1})
        is_complete = len(leaves) <= limit and self.applied_size() >= as_of
        return Found(tuple(sorted(leaves[:limit])), is_complete)

    def hints(self, leaves: Iterable[int], *, as_of: int) -> list[EntryHint]:
        """Return what the index says of each leaf that it knows, in the order asked."""
        found = []
        for leaf in leaves:
            for row in self._rows(_HINT, {"leaf": leaf}):
                decided = row[4]
                is_open = decided is None or _integer(decided) >= as_of
                outcome = leaf if is_open else decided
                statements = self._rows(_STATEMENTS_ON, {"leaf": outcome, "as_of": as_of})
                found.append(_hint(leaf, row, statements, as_of))
        return found

    def search(
        self,
        query: str,
        *,
        as_of: int,
        limit: int = 50,
        cursor: int | None = None,
        order: Order = "newest",
    ) -> tuple[HitPage, bool]:
        """Return a page of what a query finds, and whether the index is complete.

        Args:
            query: See ``ledger.query``.
            as_of: The size of the log to look at.
            limit: Most hits, 1 to 200.
            cursor: ``next`` of the page before.
            order: See ``ledger.search``.

        Raises:
            QueryError: The query is malformed; says at which character.
            InvalidInputError: The limit is out of bounds, or the order does not fit the query.
        """
        expression = parse_query(query)
        self._check_loaded()
        db = self._open()
        self._steps_left = _STEPS_MAX
        # Asked first: what is added meanwhile must not make an answer complete that is not.
        is_complete = self.applied_size() >= as_of
        try:
            page = search(db, expression, as_of=as_of, limit=limit, cursor=cursor, order=order)
        except sqlite3.Error as error:
            raise _told(error) from None
        return page, is_complete

    def _check_loaded(self) -> None:
        """Refuse what would be slow for everybody while the indexes for it are missing."""
        try:
            meta = read_meta(self._open())
        except sqlite3.Error as error:
            raise _told(error) from None
        if "loading" in meta:
            raise UnavailableError(
                f"the search index is being built: {meta.get('applied_size')} entries are in it"
            )

    def _leaves(self, statement: str, values: dict[str, SqlValue]) -> list[int]:
        return [_integer(row[0]) for row in self._rows(statement, values)]

    def _rows(self, statement: str, values: dict[str, SqlValue]) -> list[tuple[SqlValue, ...]]:
        db = self._open()
        self._steps_left = _STEPS_MAX
        try:
            return db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _told(error) from None

    def _open(self) -> sqlite3.Connection:
        try:
            status = os.stat(self._pointer)  # noqa: PTH116 - at every query: no object is made of it
        except FileNotFoundError:
            raise UnavailableError("the log has no search index yet") from None
        # The pointer is replaced as a whole: the same file says the same.
        stamp = status.st_ino, status.st_mtime_ns
        if self._db is not None and stamp == self._stamp:
            return self._db
        name = read_pointer(self._root)
        if name is None:
            raise UnavailableError("the log has no search index yet")
        self.close()
        path = self._root / name
        if not path.is_file():
            raise CorruptStateError(f"{path} is missing: run '{REPAIR}'")
        try:
            # mode=rw, not ro: a reader of a database in WAL mode writes its lock file. query_only
            # keeps the content safe from us; autocommit keeps every read short.
            db = sqlite3.connect(
                f"file:{_uri_path(path)}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            db.execute("PRAGMA query_only=1")
            db.set_progress_handler(self._count_steps, _STEPS_BETWEEN_CHECKS)
        except sqlite3.Error as error:
            raise _told(error) from None
        self._db, self._stamp = db, stamp
        return db

    def _count_steps(self) -> int:
        self._steps_left -= _STEPS_BETWEEN_CHECKS
        return self._steps_left < 0


def _hint(
    leaf: int, row: tuple[SqlValue, ...], statements: list[tuple[SqlValue, ...]], as_of: int
) -> EntryHint:
    kind, purl, request, status, decided, height, time_ms = row
    if status is not None and (decided is None or _integer(decided) >= as_of):
        status = "open"
    said = tuple(StatementHint(_integer(index), str(what)) for index, what in statements)
    for what, stopped in _STOPPED.items():
        if any(each.kind == what for each in said):
            status = stopped
            break
    return EntryHint(
        index=leaf,
        type=str(kind),
        purl=None if purl is None else str(purl),
        request=None if request is None else str(request),
        status=None if status is None else str(status),
        height=_integer(height),
        time_ms=_integer(time_ms),
        statements=said,
    )


def _integer(value: SqlValue) -> int:
    if not isinstance(value, int):
        raise CorruptStateError(f"the search index has {value!r:.40} for a number: run '{REPAIR}'")
    return value


def _bound(as_of: int | None) -> int:
    return 2**62 if as_of is None else as_of


def _told(error: Exception) -> UnavailableError | CorruptStateError:
    text = str(error)
    if isinstance(error, sqlite3.OperationalError) and "interrupted" in text:
        return UnavailableError("the query is too costly: add a term that narrows it")
    if isinstance(error, sqlite3.OperationalError) and "locked" in text:
        return UnavailableError("the search index is busy")
    return CorruptStateError(f"the search index is damaged ({text}): run '{REPAIR}'")


def _uri_path(path: Path) -> str:
    text = os.fspath(path.absolute())
    return text.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
