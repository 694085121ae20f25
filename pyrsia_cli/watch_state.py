"""Where a watch stands: a small JSON file, written whole after each delivery.

It names the network and the query, so that it is not taken up by another watch: that one would
skip what the first had seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_cli.settings import write_whole
from pyrsia_node.model.errors import InvalidInputError

STATE_BYTES_MAX: Final = 64 * 1024
_MEMBERS: Final = {"cursor", "origin", "query"}


@dataclass(slots=True)
class WatchState:
    """The place of one watch.

    ``cursor`` is the last leaf up to which everything was delivered, -1 before the first; None
    where nothing was decided yet. Without a ``path`` it is in memory alone.
    """

    path: Path | None
    origin: str
    query: str
    cursor: int | None = None

    @classmethod
    def open(cls, path: Path | None, *, origin: str, query: str) -> WatchState:
        """Return the state that a file holds, or a new one.

        Raises:
            InvalidInputError: the file is none of ours, or of another network or query.
        """
        state = cls(path, origin, query)
        if path is None:
            return state
        try:
            with path.open("rb") as file:
                data = file.read(STATE_BYTES_MAX + 1)
        except FileNotFoundError:
            return state
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
        state._read(data)
        return state

    def advance(self, cursor: int) -> None:
        """Say that everything up to the leaf ``cursor`` was delivered; durable on return.

        Raises:
            InvalidInputError: the file cannot be written.
        """
        if self.cursor is not None and cursor <= self.cursor:
            return
        self.cursor = cursor
        if self.path is not None:
            value = {"cursor": cursor, "origin": self.origin, "query": self.query}
            write_whole(self.path, json.dumps(value) + "\n")

    def _read(self, data: bytes) -> None:
        assert self.path is not None
        try:
            value = json.loads(data) if len(data) <= STATE_BYTES_MAX else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or set(value) != _MEMBERS:
            raise InvalidInputError(f"{self.path} is no state of a watch")
        for name, mine in (("origin", self.origin), ("query", self.query)):
            if value[name] != mine:
                raise InvalidInputError(
                    f"{self.path} is the state of another watch: its {name} is"
                    f" {value[name]!r:.200}, this one's is {mine!r:.200}"
                )
        cursor = value["cursor"]
        if type(cursor) is not int or not -1 <= cursor < 2**53:
            raise InvalidInputError(f"{self.path}: cursor {cursor!r:.40} is no leaf index")
        self.cursor = cursor
