"""Puts small documents, such as manifests, into the blob store; every call blocks on the disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.store.pieces import PieceHasher


def keep_bytes(store: BlobStore, folder: Path, data: bytes, *, local: bool = False) -> BlobInfo:
    """Store bytes under their SHA-256.

    Args:
        store: Where they go.
        folder: For the file until it is complete, on the store's file system.
        data: The bytes.
        local: Keep them from peers.

    Raises:
        UnavailableError: The disk refuses; the text names the path.
    """
    sha256 = sha256_of(data)
    stored = store.stat(sha256)
    if stored is not None and (local or store.is_shared(sha256)):
        return stored
    hasher = PieceHasher()
    hasher.update(memoryview(data))
    # A start deletes what begins so; the store syncs the file and renames it away.
    handle, name = tempfile.mkstemp(dir=folder, prefix="upstream-")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return store.adopt_pieces(name, sha256, hasher.finish(), local=local)
    except OSError as error:
        raise UnavailableError(f"cannot write {name}: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)
