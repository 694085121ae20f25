"""One node per data directory: a lock that the kernel gives back however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.schema.layout import Layout

_PID_BYTES_MAX = 20


@contextmanager
def hold_data_directory(layout: Layout) -> Iterator[None]:
    """Hold the data directory alone for as long as the context lasts.

    Raises:
        UnavailableError: another process holds it, named by its id, or it cannot be locked.
    """
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot lock {layout.lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, _PID_BYTES_MAX, 0).decode("ascii", "replace").strip()
            raise UnavailableError(
                f"{layout.root} is in use by process {holder or 'unknown'}; stop that node first"
            ) from None
        # The number is for people; the lock itself is what counts, so a stale number is harmless.
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
