"""Files that are whole or absent: the one way in which small state is written to disk.

Order of the durable steps, and what a crash leaves:

1. the bytes go to a temporary file beside the target, which is fsynced: the target is untouched;
2. rename over the target: the old or the new content, never a mixture;
3. fsync of the directory: without it the rename itself could be lost with the power.

Derived files, which the owner writes again when in doubt, may leave out both fsyncs
(``sync=False``); after a power cut such a file may be empty or missing.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace ``path`` by ``data``, or leave it as it was.

    Args:
        path: The target; its directory must exist.
        data: The whole content.
        mode: Permission bits, set before the first byte is written.
        sync: Whether the content is durable on return.

    Raises:
        OSError: The disk refused; the target is unchanged and no temporary file is left.
    """
    temporary = _write_temporary(path, data, mode=mode, sync=sync)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def create_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` to the new file ``path``, durably; an existing file is never replaced.

    Raises:
        FileExistsError: Something has that name already.
        OSError: The disk refused; nothing was created.
    """
    temporary = _write_temporary(path, data, mode=mode, sync=True)
    try:
        os.link(temporary, path)  # unlike rename, refuses an existing name
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_temporary(path: Path, data: bytes, *, mode: int, sync: bool) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return Path(name)
