"""What an audit found: contradictions with their places, what was counted, what was out of reach.

A contradiction is never an opinion: it names the file, block or leaf, what stands there and what
follows from the rest. What could not be read or was not published is no contradiction and is
listed apart, so that "holds" never means more than was looked at.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

FINDINGS_MAX: Final = 20
"""Contradictions of one area that are kept; more would not help anybody."""

AREAS: Final = {
    "tree": "entries and tiles lead to the checkpoint's root",
    "checkpoint": "a quorum of the epoch's members cosigned it",
    "heads": "what was seen elsewhere or earlier is a prefix of this log",
    "blocks": "every header follows from what stands before and after it",
    "certificates": "a quorum of the height's members finalized every block",
    "signatures": "every transaction is signed by a member of its block's set",
    "sets": "every change of the set, of parameters, and every withdrawal had its approvals",
    "evidence": "every member that is accused signed what nobody may sign twice",
    "verdicts": "every outcome is what a plain count of the items gives",
    "execution": "the state machine gives every derived leaf and state root again",
    "index": "the search index has exactly the rows of the leaves",
}
"""What is audited, in the order of the report, and what it means that it holds."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Something that cannot be, if the rest is right. ``place`` is a file, a block or a leaf."""

    area: str
    place: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.place}: {self.what}"


@dataclass(slots=True)
class Report:
    """The state of an audit; grows while it runs.

    ``counted`` has, by area, how many things were checked; ``unchecked`` why an area, or a part of
    it, was not. ``facts`` are figures about the log: they are not judged.
    """

    source: str
    network_id: str = ""
    origin: str = ""
    size: int = 0
    root: str = ""
    height: int = 0
    epoch: int = 0
    cosigned_by: tuple[str, ...] = ()
    quorum: int = 0
    cosigned_at_s: int = 0
    genesis_is_given: bool = False
    counted: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    unchecked: dict[str, str] = field(default_factory=dict)
    contradictions: list[Contradiction] = field(default_factory=list)
    surplus: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing that was looked at contradicts anything else."""
        return not self.contradictions

    def contradict(self, area: str, place: str, what: str) -> None:
        """Keep a contradiction, or count it where there are too many already."""
        assert area in AREAS
        if self.wrong_in(area) < FINDINGS_MAX:
            self.contradictions.append(Contradiction(area, place, what))
        else:
            self.surplus += 1

    def leave_out(self, area: str, why: str) -> None:
        """Say why an area is not, or not wholly, checked; the first reason stays."""
        assert area in AREAS
        self.unchecked.setdefault(area, why)

    def wrong_in(self, area: str) -> int:
        """Return how many contradictions an area has."""
        return sum(each.area == area for each in self.contradictions)
