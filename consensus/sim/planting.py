"""How a bug is planted in the core and removed again: attributes replaced for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """``owner.name`` is ``replacement`` while the bug is planted."""

    owner: object
    name: str
    replacement: object


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug, and what is wrong with it in a sentence."""

    about: str
    patches: tuple[Patch, ...]


@contextmanager
def patched(patches: tuple[Patch, ...]) -> Iterator[None]:
    """Put the replacements in place for the length of a ``with`` block."""
    originals = [(patch, getattr(patch.owner, patch.name)) for patch in patches]
    try:
        for patch in patches:
            setattr(patch.owner, patch.name, patch.replacement)
        yield
    finally:
        for patch, original in originals:
            setattr(patch.owner, patch.name, original)
