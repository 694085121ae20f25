"""What this machine, since it was started, knows of its log of votes, outside every image of it.

An older copy of a data directory looks whole. What gives it away must not be part of the copy, and
must not survive what brings a copy of the whole disk back, which is a start of the machine. So the
mark is a file in shared memory: how far the log has come, in which boot. It vouches for a log that
is at least so far (docs/design/consensus.md 8); of one that is behind, it says so. After a start of
the machine there is no mark, until the other members have answered or somebody who knows vouches
for the directory (``vouch``). A copy of running memory is beyond it: nothing starts there.

Only its owner may write the file; one that belongs to another user, or that others may write, is
no mark. It belongs to one vote key in one directory, by path and inode: another copy elsewhere has
none, nor have older keys that are put into a new directory. The file names the directory, so that
marks of directories that are gone can be cleared away.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

_LOG = logging.getLogger("pyrsia.replica.boot_mark")

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - not for secrets; see ``_read`` for the rest
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_FORMAT: Final = struct.Struct(">8s32sQQ")
_MAGIC: Final = b"pyrmark1"
_PATH_BYTES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has come: its next batch, and the greatest height that it speaks of.

    The height before that was committed, durably, when the batch was written.
    """

    batch: int
    height: int


class Continuity(Enum):
    """What the mark says of a log."""

    UNKNOWN = "unknown"
    WHOLE = "whole"
    OLDER = "older"


class BootMark:
    """The mark of one vote key in one data directory."""

    def __init__(
        self,
        root: Path,
        vote_key: bytes,
        *,
        folder: Path = SHARED_MEMORY,
        boot_id: Path = BOOT_ID,
    ) -> None:
        """Use the mark of the directory ``root`` in ``folder``; nothing is written yet.

        Args:
            root: the data directory, which exists.
            vote_key: public key of the votes in its log.
            folder: in memory: gone with the machine's power.
            boot_id: file with a name that each start of the machine makes anew.
        """
        found = root.resolve()
        state = found.stat()
        self._root = os.fsencode(found)
        whose = vote_key + f"{state.st_dev}:{state.st_ino}:".encode() + self._root
        name = _names() + hashlib.sha256(whose).hexdigest()[:32]
        self.path: Final = folder / name if folder.is_dir() else None
        """The file; None on a machine without shared memory."""
        self._boot = _boot(boot_id)
        self._is_begun = False
        self._newest = Position(0, 0)

    def judge(self, at: Position) -> Continuity:
        """Say what the mark knows of a log that has come as far as ``at``."""
        known = self._read()
        if known is None:
            return Continuity.UNKNOWN
        is_older = at.batch < known.batch or at.height < known.height
        return Continuity.OLDER if is_older else Continuity.WHOLE

    @property
    def known_batch(self) -> int:
        """The next batch of the newest log that was here since the machine was started; 0: none."""
        known = self._read()
        return 0 if known is None else known.batch

    def vouch(self) -> bool:
        """Say that the log is the newest there is, however far it has come.

        For new keys, and for a person who knows that no older copy was put back. What the mark
        knows already stays.

        Returns:
            Whether there is a mark now.
        """
        if self._read() is None:
            self._write(Position(0, 0))
        return self._read() is not None

    def renew(self) -> None:
        """Forget what was known, and vouch for a directory whose keys were made just now."""
        if self.path is not None:
            _clear_away(self.path.parent)
        self._write(Position(0, 0))

    def begin(self, at: Position) -> None:
        """Keep the mark from now on: this node may vote, so its log is the newest there is.

        It never falls: an older copy that was put back and found out is one at its next start, too.
        """
        self._is_begun = True
        known = self._read() or at
        self._newest = Position(max(at.batch, known.batch), max(at.height, known.height))
        self._write(self._newest)

    def moved(self, at: Position) -> None:
        """Note how far the log has come, once that is durable. Nothing before ``begin``."""
        if self._is_begun:
            newest = self._newest
            self._newest = Position(max(at.batch, newest.batch), max(at.height, newest.height))
            self._write(self._newest)

    def _read(self) -> Position | None:
        if self.path is None or self._boot is None:
            return None
        data = _content(self.path)
        if len(data) < _FORMAT.size:
            return None
        magic, boot, batch, height = _FORMAT.unpack_from(data)
        return Position(batch, height) if (magic, boot) == (_MAGIC, self._boot) else None

    def _write(self, at: Position) -> None:
        """Replace the mark; where that fails there must be none, for an old one would lie."""
        if self.path is None or self._boot is None:
            return
        try:
            descriptor = os.open(
                self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
            )
            with os.fdopen(descriptor, "wb") as file:
                if not _is_own(os.fstat(descriptor)):
                    raise PermissionError(f"{self.path} is somebody else's")
                # What counts lies in one page: a process that is killed leaves all of it or none.
                known = _FORMAT.pack(_MAGIC, self._boot, at.batch, at.height)
                os.pwrite(file.fileno(), known + self._root, 0)
        except OSError as error:
            _LOG.warning("no mark of the log beyond this process: %s", error)
            self._is_begun = False
            with contextlib.suppress(OSError):
                self.path.unlink()


def _names() -> str:
    """Return how the names of all marks of this user begin."""
    return f"pyrsia-{os.geteuid()}-"


def _content(path: Path) -> bytes:
    """Return what a mark says; nothing where there is none that its owner alone can have made."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_FORMAT.size + _PATH_BYTES_MAX) if _is_own(os.fstat(descriptor)) else b""


def _clear_away(folder: Path) -> None:
    """Remove this user's marks of directories that are gone."""
    for path in folder.glob(f"{_names()}*"):
        root = _content(path)[_FORMAT.size :]
        if root and not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises for odd names
            with contextlib.suppress(OSError):
                path.unlink()


def _is_own(state: os.stat_result) -> bool:
    is_private = stat.S_ISREG(state.st_mode) and not state.st_mode & 0o022
    return is_private and state.st_uid == os.geteuid() and state.st_nlink == 1


def _boot(path: Path) -> bytes | None:
    """Return the name of this start of the machine; None where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
