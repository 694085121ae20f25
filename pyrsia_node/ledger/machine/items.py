"""What a member says of a request, as the state keeps it.

Specification: docs/spec/leaves.md, "Validity"; where it is kept: ``records``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from pyrsia_node.ledger.machine.records import Record
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.transactions import BUILT

Position = tuple[int, int]
"""Where an item stands in the log: (leaf index of its batch, number within the batch)."""


@dataclass(frozen=True, slots=True)
class ItemRecord(Record):
    """A member's latest word about a request, and what its first word was.

    ``own`` is fixed by the first BUILT item. ``result`` and ``first_result`` are empty for an
    outcome without result. ``revisions`` counts revisions while OPEN; ``is_late`` says that the
    one late item was used. ``moved`` and ``seen_ms`` are of a MOVED item alone: its outcome leaf
    repeats them.
    """

    outcome: str
    at: Position
    first_at: Position
    result: str = ""
    first_result: str = ""
    level: int = 0
    own: tuple[Sha256, ...] = ()
    cause: str = ""
    revisions: int = 0
    is_late: bool = False
    moved: str = ""
    seen_ms: int | None = None

    @property
    def is_built(self) -> bool:
        """Whether the item names a result."""
        return self.outcome == BUILT

    def to_json(self) -> JsonObject:
        """Return the stored form, for people and tests; ``encode`` writes the same."""
        seen: JsonObject = {}
        if self.seen_ms is not None:
            seen = {"moved": self.moved, "seen": self.seen_ms}
        return {
            **seen,
            "at": list(self.at),
            "cause": self.cause,
            "first_at": list(self.first_at),
            "first_result": self.first_result,
            "is_late": self.is_late,
            "level": self.level,
            "outcome": self.outcome,
            "own": list(self.own),
            "result": self.result,
            "revisions": self.revisions,
        }

    def encode(self) -> bytes:
        """Return the canonical bytes of ``to_json``, at a fifth of its cost.

        There is one item for each member and request, so this is the most written record. Its
        texts are digests, names of outcomes and causes, which never need an escape.
        """
        moved, seen = "", ""
        if self.seen_ms is not None:
            moved, seen = f'"moved":"{self.moved}",', f',"seen":{self.seen_ms}'
        own = '"' + '","'.join(self.own) + '"' if self.own else ""
        return (
            f'{{"at":[{self.at[0]},{self.at[1]}],"cause":"{self.cause}",'
            f'"first_at":[{self.first_at[0]},{self.first_at[1]}],'
            f'"first_result":"{self.first_result}",'
            f'"is_late":{"true" if self.is_late else "false"},"level":{self.level},'
            f'{moved}"outcome":"{self.outcome}","own":[{own}],'
            f'"result":"{self.result}","revisions":{self.revisions}{seen}}}'
        ).encode("ascii")

    @classmethod
    def from_json(cls, value: JsonValue) -> ItemRecord:
        """Return the item that ``to_json`` wrote."""
        got = cast("dict[str, str]", value)
        numbers = cast("dict[str, int]", value)
        pairs = cast("dict[str, tuple[int, int]]", value)
        leaf, item = pairs["at"]
        first_leaf, first_item = pairs["first_at"]
        return cls(
            outcome=got["outcome"],
            at=(leaf, item),
            first_at=(first_leaf, first_item),
            result=got["result"],
            first_result=got["first_result"],
            level=numbers["level"],
            own=tuple(cast("dict[str, list[Sha256]]", value)["own"]),
            cause=got["cause"],
            revisions=numbers["revisions"],
            is_late=cast("dict[str, bool]", value)["is_late"],
            moved=got.get("moved", ""),
            seen_ms=numbers.get("seen"),
        )
