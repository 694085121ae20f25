"""What clients asked and were told, in the order in which they learnt it; kept as JSON lines.

A write is *ok* when a node said that the log holds it, *failed* when a node said that it never
will, and *unknown* (info, in the words of others) when the client gave up without hearing either:
then both are allowed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TextIO

Outcome = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Invoked:
    """A client is about to hand a transaction to a node."""

    node: str
    transaction: str


@dataclass(frozen=True, slots=True)
class Written:
    """How that ended; ``leaf`` and ``height`` only where it is ok."""

    node: str
    transaction: str
    outcome: Outcome
    leaf: int = -1
    height: int = -1


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """A node published this head, with a quorum of cosignatures that hold."""

    node: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Looked:
    """A node was asked where a transaction stands: what it answered as of which head."""

    node: str
    transaction: str
    as_of: int
    leaves: tuple[int, ...]
    complete: bool = field(kw_only=True)


Event = Invoked | Written | HeadSeen | Looked

_KINDS: Final[dict[str, type[Any]]] = {
    each.__name__: each for each in (Invoked, Written, HeadSeen, Looked)
}


class History:
    """Collects events from many threads; each is in the file before the client goes on."""

    def __init__(self, path: Path) -> None:
        """Write to the new file ``path``."""
        self._file: TextIO = path.open("x", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._started_s = time.perf_counter()
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Take an event."""
        line = {
            "at_s": round(time.perf_counter() - self._started_s, 3),
            "event": type(event).__name__,
            **asdict(event),
        }
        with self._lock:
            self._events.append(event)
            self._file.write(json.dumps(line) + "\n")

    def events(self) -> list[Event]:
        """Return all so far, oldest first."""
        with self._lock:
            return list(self._events)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_history(lines: Iterable[str]) -> list[Event]:
    """Return the events that a ``History`` wrote."""
    events: list[Event] = []
    for line in lines:
        fields = json.loads(line)
        kind = _KINDS[fields.pop("event")]
        del fields["at_s"]
        if "leaves" in fields:
            fields["leaves"] = tuple(fields["leaves"])
        events.append(kind(**fields))
    return events
