"""Lists of leaves in one order, and what AND, OR and NOT make of them: leapfrogging, bounded.

A list is asked for its first member at or after a *position*, and skips what lies between; so two
lists of which one is short cost as much as the short one. Positions ascend whichever way the
log is read: a leaf's index in the order of the log, its negative newest first.

An answer is (position, True) for a member, or (position, False) for "nothing before it, ask
again from there"; then the position lies beyond the one that was asked for, so that whoever asks
makes progress. ``END`` says that nothing follows.

Work is counted in a ``Budget``. Who finds it spent stops with what it knows, and the caller goes on
from there another time: no query is ever too costly, it only takes more pages.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pyrsia_node.ledger.rows import SqlValue

END: Final = 2**62
"""Beyond every position."""

Found = tuple[int, bool]

_FETCH_MIN: Final = 64
_FETCH_MAX: Final = 1024
_FETCH_COST: Final = 10
_WINDOW_LEAVES: Final = 8192
_WINDOW: Final = "SELECT u.leaf FROM unit u WHERE u.leaf BETWEEN :window_low AND :window_high"


@dataclass(slots=True)
class Budget:
    """Steps that are left; one is about a microsecond."""

    left: int

    def spend(self, steps: int) -> None:
        """Count steps."""
        self.left -= steps

    @property
    def is_spent(self) -> bool:
        """Whether to stop at the next occasion."""
        return self.left <= 0


@dataclass(frozen=True, slots=True)
class Scope:
    """What all lists of one query share."""

    db: sqlite3.Connection
    as_of: int
    is_newest_first: bool
    budget: Budget

    def leaf(self, position: int) -> int:
        """Return the leaf at a position."""
        return -position if self.is_newest_first else position

    def position(self, leaf: int) -> int:
        """Return the position of a leaf."""
        return -leaf if self.is_newest_first else leaf


class Postings(Protocol):
    """A set of leaves, in order."""

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``; see the module's text."""
        ...


class Ordered:
    """What a statement finds by an index that is in the order of leaves."""

    def __init__(
        self, scope: Scope, select: str, values: Mapping[str, SqlValue], *, leaf: str = "leaf"
    ) -> None:
        """Read with ``select``, which ends in its conditions; ``leaf`` is its column."""
        down = scope.is_newest_first
        self._scope = scope
        self._statement = (
            f"{select} AND {leaf} {'<=' if down else '>='} :bound"
            f" ORDER BY {leaf} {'DESC' if down else 'ASC'} LIMIT :count"
        )
        self._values = {**values, "as_of": scope.as_of}
        self._buffer: list[int] = []
        self._from = END
        self._is_last = False
        self._count = _FETCH_MIN

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``."""
        buffer = self._buffer
        is_behind = not self._is_last and (not buffer or bound > buffer[-1])
        if bound < self._from or is_behind:
            self._fetch(bound)
            buffer = self._buffer
        at = bisect.bisect_left(buffer, bound)
        return (buffer[at], True) if at < len(buffer) else (END, False)

    def _fetch(self, bound: int) -> None:
        scope = self._scope
        values = {**self._values, "bound": scope.leaf(bound), "count": self._count}
        rows = scope.db.execute(self._statement, values).fetchall()
        self._buffer = [scope.position(row[0]) for row in rows]
        self._from = bound
        self._is_last = len(rows) < self._count
        scope.budget.spend(_FETCH_COST + len(rows))
        self._count = min(2 * self._count, _FETCH_MAX)


class Small:
    """Leaves that fit in memory, from wherever."""

    def __init__(self, scope: Scope, leaves: Sequence[int]) -> None:
        """Sort ``leaves``."""
        self._positions = sorted({scope.position(leaf) for leaf in leaves})
        scope.budget.spend(len(leaves))

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``."""
        at = bisect.bisect_left(self._positions, bound)
        return (self._positions[at], True) if at < len(self._positions) else (END, False)


class Scan:
    """Units that pass a test, window by window: for conditions that very many fulfil."""

    def __init__(self, scope: Scope, test: str, values: Mapping[str, SqlValue]) -> None:
        """Test the units ``u`` by the condition ``test``."""
        self._scope = scope
        # Conditions are constants of ``ledger.term_lists``; every value is a parameter.
        self._statement = f"{_WINDOW} AND {test}"
        self._values = {**values, "as_of": scope.as_of}
        self._window = range(0)
        self._members: list[int] = []

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``, if it is in its window."""
        if bound not in self._window:
            self._read(bound)
        at = bisect.bisect_left(self._members, bound)
        if at < len(self._members):
            return self._members[at], True
        last = 0 if self._scope.is_newest_first else self._scope.as_of
        return (END if self._window.stop > last else self._window.stop), False

    def _read(self, bound: int) -> None:
        scope = self._scope
        self._window = range(bound, bound + _WINDOW_LEAVES)
        low, high = sorted((scope.leaf(bound), scope.leaf(bound + _WINDOW_LEAVES - 1)))
        rows = scope.db.execute(
            self._statement, {**self._values, "window_low": low, "window_high": high}
        )
        self._members = sorted(scope.position(row[0]) for row in rows)
        scope.budget.spend(_WINDOW_LEAVES // 4)


class Span:
    """The members of a list within an interval of leaves [low, high)."""

    def __init__(self, scope: Scope, inner: Postings, low: int, high: int) -> None:
        """Cut ``inner``."""
        ends = (scope.position(low), scope.position(high - 1))
        self._first, self._last = min(ends), max(ends)
        self._inner = inner
        self._is_empty = high <= low

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``."""
        if self._is_empty or bound > self._last:
            return END, False
        position, is_member = self._inner.seek(max(bound, self._first))
        return (END, False) if position > self._last else (position, is_member)


class Visible:
    """Units as of the size: a build request is one only while it is open."""

    def __init__(self, scope: Scope) -> None:
        """Look units up in ``scope``."""
        self._scope = scope

    def seek(self, bound: int) -> Found:
        """Tell whether ``bound`` itself is a member."""
        scope = self._scope
        scope.budget.spend(3)
        found = scope.db.execute(
            "SELECT r.leaf, r.decided FROM unit u LEFT JOIN request r ON r.leaf = u.leaf"
            " WHERE u.leaf = ?",
            (scope.leaf(bound),),
        ).fetchone()
        if found is None:
            return bound + 1, False
        request, decided = found
        is_open = decided is None or decided >= scope.as_of
        return (bound, True) if request is None or is_open else (bound + 1, False)


class AllOf:
    """Members of every one of ``parts`` and of none of ``excluded``."""

    def __init__(
        self, scope: Scope, parts: Sequence[Postings], excluded: Sequence[Postings] = ()
    ) -> None:
        """Combine; ``parts`` are not empty."""
        assert parts
        self._budget = scope.budget
        self._parts = parts
        self._excluded = excluded

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``, as far as the budget reaches."""
        while True:
            position, is_member = self._try(bound)
            if is_member or position >= END or self._budget.is_spent:
                return position, is_member
            bound = position

    def _try(self, bound: int) -> Found:
        self._budget.spend(1)
        candidate, is_member = self._parts[0].seek(bound)
        if not is_member:
            return candidate, False
        for part in self._parts[1:]:
            position, is_member = part.seek(candidate)
            if not is_member or position != candidate:
                return position, False
        for part in self._excluded:
            if part.seek(candidate) == (candidate, True):
                return candidate + 1, False
        return candidate, True


class AnyOf:
    """Members of any one of ``parts``."""

    def __init__(self, parts: Sequence[Postings]) -> None:
        """Combine; no parts have no members."""
        self._parts = parts

    def seek(self, bound: int) -> Found:
        """Return the first member at or after ``bound``."""
        nearest, is_member = END, False
        for part in self._parts:
            position, found = part.seek(bound)
            if position < nearest:
                nearest, is_member = position, found
            elif position == nearest:
                is_member = is_member or found
        return nearest, is_member
