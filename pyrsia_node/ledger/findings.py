"""What a check of the disk found: the place, what is wrong there, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``repair`` is the command that cures it, or says why none does."""

    path: Path
    what: str
    repair: str

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"{self.path}: {self.what}; repair: {self.repair}"
