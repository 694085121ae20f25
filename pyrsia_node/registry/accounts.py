"""Accounts and namespaces as they are now, for decisions that are made at every request.

Reads them from the database when what is in memory is older than a second, so that several gateways
on one database agree within that time; what this gateway changes itself holds at once.

Not here: what the settings mean (``registry.access``), and passwords (``registry.passwords``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pyrsia_node.ports.registry import RegistryDb, User
from pyrsia_node.registry.access import AccessRules, AnonymousMode

FRESH_SECONDS: Final = 1.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AccessBook:
    """All settings of one moment."""

    rules: AccessRules
    users: Mapping[str, User] = field(default_factory=dict)


class Accounts:
    """The settings of a registry, read again once they are a second old."""

    def __init__(
        self, db: RegistryDb, anonymous: AnonymousMode, monotonic_s: Callable[[], float]
    ) -> None:
        """Read from ``db`` when first asked."""
        self._db = db
        self._anonymous: AnonymousMode = anonymous
        self._monotonic_s = monotonic_s
        self._book: AccessBook | None = None
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def book(self) -> AccessBook:
        """Return the settings; does not wait where they are fresh."""
        if self._book is None or self._monotonic_s() >= self._until:
            async with self._reading:
                # Whoever waited for the reader before takes what it found.
                if self._book is None or self._monotonic_s() >= self._until:
                    await self._read()
        assert self._book is not None
        return self._book

    async def change(self, change: Callable[[RegistryDb], _T]) -> _T:
        """Run ``change`` on the database in a thread; the next decision knows of it.

        Changes of one gateway do not overlap, so reading and writing back in one call is safe.
        """
        async with self._reading:
            try:
                return await asyncio.to_thread(change, self._db)
            finally:
                self._book = None

    async def _read(self) -> None:
        read_at = self._monotonic_s()
        namespaces, users = await asyncio.to_thread(
            lambda: (self._db.namespaces(), self._db.users())
        )
        rules = AccessRules.make(self._anonymous, namespaces)
        self._book = AccessBook(rules, {each.name: each for each in users})
        self._until = read_at + FRESH_SECONDS
