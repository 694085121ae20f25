"""Unix sockets that the worker listens on: who may connect, and how they come into being."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path


def peer_uid(connection: socket.socket) -> int:
    """Return the user of the process at the other end of a unix socket."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def bind_private(path: Path, backlog: int) -> socket.socket:
    """Return a listening socket at ``path``, mode 0600 from its first moment.

    Args:
        path: Where; a socket that a crash left is replaced.
        backlog: Connections that may wait to be accepted.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    # Under another name first: whoever sees the socket at its path can connect to it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    # The kernel's limit of 107 bytes is on the text, not on the path: go through an open folder.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{temporary.name}")
    finally:
        os.umask(before)
        os.close(folder)
    listener.listen(backlog)
    temporary.replace(path)
    return listener
