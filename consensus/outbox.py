"""Collects what a step wants done, in an order that is safe to perform from first to last.

Records of one step become one ``Persist`` in front of everything else of their height, so that one
disk sync covers a step and nothing that rests on a record can leave before it. ``Commit`` closes
the height: what comes after it starts a new group behind it.
"""

from __future__ import annotations

from consensus.effects import Broadcast, Commit, Effect, Persist, Record, RecordKind
from consensus.state import HeightState
from consensus.types import Message


class Outbox:
    """The effects of one step while they are being made."""

    __slots__ = ("_closed", "_effects", "_records")

    def __init__(self) -> None:
        """Start empty."""
        self._closed: list[Effect] = []
        self._records: list[Record] = []
        self._effects: list[Effect] = []

    def persist(self, kind: RecordKind, payload: bytes) -> None:
        """Have a record made durable before any other effect of this height."""
        self._records.append(Record(kind, payload))

    def add(self, effect: Effect) -> None:
        """Have an effect performed after the records and after the effects added before."""
        assert not isinstance(effect, Persist | Commit)
        self._effects.append(effect)

    def broadcast(self, state: HeightState, message: Message) -> None:
        """Have a message sent to every other member; a node outside the set says nothing."""
        if state.my_index is not None and state.n > 1:
            self._effects.append(Broadcast(message))

    def commit(self, effect: Commit) -> None:
        """Have the height closed; whatever is added later belongs to the next one."""
        self._close()
        self._closed.append(effect)

    def take(self) -> list[Effect]:
        """Return everything in order and start empty again."""
        self._close()
        taken, self._closed = self._closed, []
        return taken

    def _close(self) -> None:
        if self._records:
            # Bodies, certificates, own proposal, own votes: the numbers of RecordKind.
            ordered = sorted(self._records, key=lambda record: record.kind)
            self._closed.append(Persist(tuple(ordered)))
        self._closed += self._effects
        self._records, self._effects = [], []
