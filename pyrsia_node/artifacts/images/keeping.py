"""Puts small documents, such as manifests, into the blob store; every call blocks on the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.store.pieces import PieceHasher

Keep = Callable[[str, str, bytes], BlobInfo]
"""Puts a file into the store: its path, SHA-256 and piece hashes. Blocks; durable on return."""


def keep_bytes(
    store: BlobStore, folder: Path, data: bytes, *, keep: Keep | None = None
) -> BlobInfo:
    """Store bytes under their SHA-256.

    Args:
        store: Where they go.
        folder: For the file until it is complete, on the store's file system.
        data: The bytes.
        keep: How they go there; without it they become shared.

    Raises:
        UnavailableError: The disk refuses; the text names the path.
    """
    sha256 = sha256_of(data)
    stored = store.stat(sha256)
    if keep is None and stored is not None and store.is_shared(sha256):
        return stored
    hasher = PieceHasher()
    hasher.update(memoryview(data))
    # A start deletes what begins so; the store syncs the file and renames it away.
    handle, name = tempfile.mkstemp(dir=folder, prefix="upstream-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return (keep or store.adopt_pieces)(name, sha256, hasher.finish())
    except OSError as error:
        raise UnavailableError(f"cannot write {name}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
