"""The mark on disk of a member that must not vote: ``wal/silence.json``.

It is written before anything else is done about forgotten votes, and it belongs to one vote key:
after the key was rotated it means nothing. An operator may remove it only as the guide says
(docs/guides/recover.md). A mark that cannot be read counts as a silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from consensus.types import Height
from pyrsia_node.model import canonical
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.store.files import sync_directory, write_atomic

_NAME: Final = "silence.json"
_BYTES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Silence:
    """Why, and from which height on voting is safe again; None where that is not known yet."""

    vote_key: bytes
    reason: str
    first_height: Height | None
    is_doubled: bool = False

    def encode(self) -> bytes:
        """Return the file's content."""
        # Height 0 is nobody's to vote at, so it stands for "not known yet".
        return canonical.dumps(
            {
                "doubled": self.is_doubled,
                "first_height": self.first_height or 0,
                "reason": self.reason,
                "vote_key": self.vote_key.hex(),
            }
        )


class SilenceFile:
    """The mark in the folder of the write-ahead log."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which must exist."""
        self.path: Final = folder / _NAME

    def read(self, vote_key: bytes) -> Silence | None:
        """Return the mark of this key; None where there is none, or one of an older key."""
        found = self.read_any()
        if found is None:
            return None
        if not found.vote_key:
            return replace(found, vote_key=vote_key)
        return found if found.vote_key == vote_key else None

    def read_any(self) -> Silence | None:
        """Return the mark of whatever key, for people; an unreadable one has no key."""
        try:
            data = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _decode(data) or Silence(b"", f"{self.path} cannot be read", None)

    def write(self, silence: Silence) -> None:
        """Make the mark durable. A crash leaves the old one or the new one.

        Raises:
            OSError: the disk failed; the caller must stop the process.
        """
        write_atomic(self.path, silence.encode())

    def remove(self) -> None:
        """Take the mark away: the silence is over."""
        self.path.unlink(missing_ok=True)
        sync_directory(self.path.parent)


def _decode(data: bytes) -> Silence | None:
    try:
        value = canonical.loads_object(data, bytes_max=_BYTES_MAX)
    except InvalidInputError:
        return None
    doubled, first, reason, key = (
        value.get(name) for name in ("doubled", "first_height", "reason", "vote_key")
    )
    if not (
        isinstance(doubled, bool)
        and isinstance(first, int)
        and isinstance(reason, str)
        and isinstance(key, str)
    ):
        return None
    try:
        vote_key = bytes.fromhex(key)
    except ValueError:
        return None
    return Silence(vote_key, reason, Height(first) if first > 0 else None, is_doubled=doubled)
