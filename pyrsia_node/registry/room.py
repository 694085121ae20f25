"""Whether an upload may go on: room in its namespace's quota, and on the disk.

The database judges quotas when a blob gets its name, and is exact. Here is asked while bytes come,
so that nobody fills the disk with what can never get a name, nor with what can: the node's own
databases need room as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports.registry import QuotaExceededError, RegistryDb
from pyrsia_node.registry.access import prefixes_of

RESERVE_BYTES_MAX: Final = 1024**3
RESERVE_PERCENT: Final = 5
"""Pushes leave this much of the disk free, or ``RESERVE_BYTES_MAX`` if that is less."""


class Room:
    """What one request may bring."""

    def __init__(self, db: RegistryDb, folder: Path, repository: str) -> None:
        """Ask for uploads of a repository, whose bytes lie in ``folder``. Looks when first used."""
        self._db = db
        self._folder = folder
        self._repository = repository
        self._is_known = False
        self._quota: tuple[str, int, int] | None = None

    def check(self, upload_bytes: int, *, more: int) -> None:
        """Return if an upload may grow to ``upload_bytes``, by ``more``.

        Raises:
            QuotaExceededError: No blob of that size can get a name in this namespace now.
            UnavailableError: The disk has no room.
        """
        if not self._is_known:
            self._quota = self._tightest()
            self._is_known = True
        if self._quota is not None:
            prefix, used, quota = self._quota
            if used + upload_bytes > quota:
                raise QuotaExceededError(
                    f"namespace {prefix or '*'} may hold {quota} bytes and holds {used}:"
                    f" {upload_bytes} more do not fit"
                )
        status = os.statvfs(self._folder)
        reserve = min(RESERVE_BYTES_MAX, status.f_blocks * status.f_frsize * RESERVE_PERCENT // 100)
        free = status.f_bavail * status.f_frsize
        if free - more < reserve:
            raise UnavailableError(
                f"the node's disk is full: {free} bytes free, {reserve} of them stay free"
            )

    def _tightest(self) -> tuple[str, int, int] | None:
        """Return (prefix, bytes used, quota) of the namespace with least room, if any has one."""
        fitting = set(prefixes_of(self._repository))
        bounded = [
            (each.prefix, self._db.usage(each.prefix), each.quota_bytes)
            for each in self._db.namespaces()
            if each.prefix in fitting and each.quota_bytes is not None
        ]
        return min(bounded, key=lambda each: each[2] - each[1], default=None)
