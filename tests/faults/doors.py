"""The doors through which everything durable passes, and a failure at the k-th time.

The doors are those of the standard library and of our store: ``pwrite``, ``fsync``, ``fdatasync``,
``rename``, ``replace``, ``link``, ``unlink``, a LevelDB batch, an SQLite commit. They are wrapped
in the child process that is to fail; the product has no code for this. Only what lies in the data
directory counts, without ``run/``, where nothing outlives a process.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pyrsia_node.model.errors import DiskError
from pyrsia_node.store.leveldb import LevelDbStore


class Failure(Enum):
    """How the chosen write fails."""

    REFUSED = "refused"
    """The disk says no; nothing of it was written, of a pwrite half."""

    DIED_BEFORE = "died-before"
    """SIGKILL before it."""

    DIED_AFTER = "died-after"
    """SIGKILL when it had succeeded, before anybody heard of that."""

    POWER_LOST = "power-lost"
    """SIGKILL before it, and what was written to that file and not synced is gone, too."""


StrPath = str | os.PathLike[str]
_BY_PATH: Final = ("rename", "replace", "link", "unlink")
_T = TypeVar("_T")


class Doors:
    """Counts the durable writes below a folder; makes the chosen one fail.

    ``names`` tells what each was, for the report.
    """

    def __init__(self, folder: Path, *, fail_at: int, failure: Failure) -> None:
        """Fail at write number ``fail_at``, the first being 1; 0 only counts."""
        self._folder = f"{folder}/"
        self._transient = f"{folder}/run/"
        self._fail_at = fail_at
        self._failure = failure
        self._lock = threading.Lock()
        self._real_pwrite = os.pwrite
        self._unsynced: dict[int, list[tuple[int, int]]] = {}
        self.names: list[str] = []

    def install(self) -> None:
        """Wrap the doors of this process, for good."""
        for name in _BY_PATH:
            setattr(os, name, self._by_path(name, getattr(os, name)))
        setattr(os, "pwrite", self._pwrite)  # noqa: B010 - typeshed's signature has no room for ours
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._sync(name, getattr(os, name)))
        self._wrap_leveldb()
        self._wrap_sqlite()

    # ------------------------------------------------------------ the choice

    def _pass(
        self, name: str, path: str, work: Callable[[], _T], refuse: Callable[[], NoReturn]
    ) -> _T:
        """Do ``work``, unless this write is the one that fails."""
        if not path.startswith(self._folder) or path.startswith(self._transient):
            return work()
        with self._lock:
            self.names.append(f"{name} {path.removeprefix(self._folder)}")
            is_chosen = len(self.names) == self._fail_at
        if not is_chosen:
            return work()
        if self._failure is Failure.REFUSED:
            refuse()
        if self._failure is Failure.DIED_AFTER:
            work()
        if self._failure is Failure.POWER_LOST:
            self._lose_unsynced()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a process lives on after SIGKILL")

    def _lose_unsynced(self) -> None:
        """Take back what no sync has made durable. SIGKILL alone would leave it in the cache."""
        for descriptor, ranges in self._unsynced.items():
            for offset, length in ranges:
                self._real_pwrite(descriptor, bytes(length), offset)

    # ------------------------------------------------------------ files

    def _by_path(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def door(path: StrPath, *others: Any, **named: Any) -> None:
            text = os.fspath(path)
            self._pass(name, text, lambda: real(path, *others, **named), lambda: _say_full(text))

        return door

    def _pwrite(self, descriptor: int, content: bytes, offset: int) -> int:
        path = _path_of(descriptor)
        if not path.startswith(self._folder):
            # Not the node's disk, such as a mark in shared memory: no power cut gives zeros there,
            # and by then the descriptor may be that of something else.
            return self._real_pwrite(descriptor, content, offset)

        def work() -> int:
            self._unsynced.setdefault(descriptor, []).append((offset, len(content)))
            return self._real_pwrite(descriptor, content, offset)

        def refuse() -> NoReturn:
            self._real_pwrite(descriptor, content[: len(content) // 2], offset)
            _say_full(path)

        return self._pass("pwrite", path, work, refuse)

    def _sync(self, name: str, real: Callable[[int], None]) -> Callable[[int], None]:
        def door(descriptor: int) -> None:
            def work() -> None:
                real(descriptor)
                self._unsynced.pop(descriptor, None)

            path = _path_of(descriptor)
            self._pass(name, path, work, lambda: _say_full(path))

        return door

    # ------------------------------------------------------------ databases

    def _wrap_leveldb(self) -> None:
        real = LevelDbStore.write
        passing = self._pass

        def write(
            store: LevelDbStore, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool
        ) -> None:
            # The changes may be a generator, and a door may be passed only once.
            listed = list(changes)
            path = str(store._path / ("synced" if sync else "unsynced"))
            passing("leveldb", path, lambda: real(store, listed, sync=sync), lambda: _refuse(path))

        setattr(LevelDbStore, "write", write)  # noqa: B010 - a method of the product, in this process

    def _wrap_sqlite(self) -> None:
        real, passing = sqlite3.connect, self._pass

        class Connection(sqlite3.Connection):
            """Counts commits."""

            path = ""

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                def work() -> sqlite3.Cursor:
                    return sqlite3.Connection.execute(self, statement, *parameters)

                if statement != "COMMIT":
                    return work()

                def refuse() -> NoReturn:
                    # As SQLite does where the disk is full: it rolls back by itself.
                    sqlite3.Connection.execute(self, "ROLLBACK")
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error

                return passing("sqlite", self.path, work, refuse)

        def connect(path: StrPath, *arguments: Any, **named: Any) -> sqlite3.Connection:
            made = real(path, *arguments, factory=Connection, **named)
            assert isinstance(made, Connection)
            made.path = os.fspath(path)
            return made

        setattr(sqlite3, "connect", connect)  # noqa: B010 - typeshed's overloads have no room for ours


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _say_full(path: str) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _refuse(path: str) -> NoReturn:
    raise DiskError(f"{path} cannot be written: the disk is full")
