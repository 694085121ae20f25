"""What a comparison says, whatever was compared: a level, and what differs in words. Pure.

Level 0: the same bytes. Level 1 and 2: equal normal forms (``stabilize``). Level 3: they differ in
something that matters. The verdict rests on digests alone; the words are for people.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

DIFFERENCES_MAX: Final = 64
DIFFERENCE_CHARACTERS_MAX: Final = 320


@dataclass(frozen=True, slots=True)
class Comparison:
    """The level of equality (0 to 3) and what differs, most important first, bounded."""

    level: int
    differences: tuple[str, ...]


def bounded(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first differences, each cut to what a message may carry."""
    cut = (line[:DIFFERENCE_CHARACTERS_MAX] for line in lines)
    return tuple(itertools.islice(cut, DIFFERENCES_MAX))
