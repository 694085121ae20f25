"""Unix sockets of the local links: bound private, at paths of any length, with a known peer.

Only the parts that trio and asyncio share: plain sockets, no event loop. docs/spec/links.md.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import UnavailableError

_PATH_BYTES_MAX: Final = 107
"""What ``sun_path`` holds beside its final zero (unix(7))."""

_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("3i")


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield an address for ``path`` that fits into ``sun_path``; valid inside the context.

    A long path is reached through this process's descriptor of its folder.
    """
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


@contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """Yield a listening socket at ``path``, mode 0600; the file is removed at the end.

    A file that a killed predecessor left is replaced: the caller holds the data directory's lock,
    so nobody listens there.

    Raises:
        UnavailableError: the folder is missing or not writable; the text names the path.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        # The mode is set before the name exists: there is no moment in which others may connect.
        os.fchmod(listening.fileno(), 0o600)
        try:
            with short_address(path) as address:
                path.unlink(missing_ok=True)
                listening.bind(address)
            inode = path.stat().st_ino
        except OSError as error:
            raise UnavailableError(f"cannot listen on {path}: {error.strerror}") from error
        listening.listen(_BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            yield listening
        finally:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()


def peer_uid(descriptor: int) -> int:
    """Return the user of the process at the other end of a connected unix socket.

    Both event loops wrap their sockets, so the descriptor is what all of them can hand over.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connected:
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def require_peer(descriptor: int, uid: int, path: Path) -> None:
    """Check who serves a link.

    Raises:
        UnavailableError: the process at the other end belongs to another user than ``uid``.
    """
    found = peer_uid(descriptor)
    if found != uid:
        raise UnavailableError(f"{path} is served by user {found}, not by user {uid}")
