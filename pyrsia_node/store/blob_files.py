"""The files of the blob store: where they lie, and the careful ways to bring bytes into them.

Nothing here knows which blobs there are; :mod:`pyrsia_node.store.blobs` does. Paths are made of
digests that were checked, and what build scripts left is opened without following links and
without waiting for the other end of a pipe. Format: docs/design/storage.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.store.pieces import PieceHasher

_COPY_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CLASSES: Final = ("sha256", "local")


class BlobFiles:
    """Names of the store's files under one root, and the durable steps on them."""

    def __init__(self, root: Path) -> None:
        """Make the folders; temporary files of an earlier run go."""
        self._root = root
        self._text = str(root)
        self.incoming = root / "incoming"
        for folder in (*_CLASSES, "pieces", "pins", "incoming"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for leftover in self.incoming.iterdir():
            leftover.unlink()

    def blob(self, sha256: str, *, local: bool) -> Path:
        """Where the bytes lie, in the class of local or of shared blobs."""
        return Path(self.blob_text(sha256, local=local))

    def blob_text(self, sha256: str, *, local: bool) -> str:
        """Where they lie, as text: an object for each file that is served takes its time."""
        return f"{self._text}/{'local' if local else 'sha256'}/{sha256[:2]}/{sha256}"

    def pieces(self, sha256: str) -> Path:
        """Where the piece hashes lie."""
        return self._root / "pieces" / sha256[:2] / sha256

    def pin(self, sha256: str) -> Path:
        """The empty file that says that a blob is never evicted."""
        return self._root / "pins" / sha256

    def pinned(self) -> set[str]:
        """Return the digests that have a pin."""
        return {pin.name for pin in (self._root / "pins").iterdir()}

    def blobs(self, *, local: bool) -> Iterator[Path]:
        """Yield every blob's file of a class."""
        for folder in (self._root / ("local" if local else "sha256")).iterdir():
            for file in folder.iterdir():
                if is_hex(file.name, size=32):
                    yield file

    def piece_lists(self) -> Iterator[Path]:
        """Yield every list of piece hashes."""
        return (self._root / "pieces").glob("??/*")

    def copy_in(self, path: str) -> tuple[str, str, bytes]:
        """Copy a file from outside to a temporary one.

        Returns:
            The temporary file, its SHA-256 and its piece hashes.

        Raises:
            InvalidInputError: ``path`` is no regular file.
            UnavailableError: The disk is full; the text names the path.
        """
        source = _open_regular(path)
        target, temporary = tempfile.mkstemp(dir=self.incoming)
        try:
            reserve(target, os.fstat(source).st_size, temporary)
            found, hashes = hash_stream(source, target)
            # The file may have shrunk since: drop what was reserved beyond its end.
            os.ftruncate(target, os.lseek(target, 0, os.SEEK_CUR))
            os.fchmod(target, 0o644)
        except OSError as error:
            Path(temporary).unlink()
            raise unavailable(error, f"{temporary} from {path}") from error
        except UnavailableError:
            Path(temporary).unlink()
            raise
        finally:
            os.close(source)
            os.close(target)
        return temporary, found, hashes

    def link(self, source: Path, target: Path) -> None:
        """Let ``target`` be the same file as ``source``, in place of what has that name."""
        target.parent.mkdir(exist_ok=True)
        # A link never replaces: it is made under a name of its own and renamed.
        temporary = self.incoming / f"link-{secrets.token_hex(8)}"
        os.link(source, temporary)
        temporary.rename(target)
        # A rename between two names of one file does nothing, and leaves both.
        temporary.unlink(missing_ok=True)

    def write_small(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all; the folder is not synced."""
        self.move_in(self.write_temporary(memoryview(data)), path)

    def write_temporary(self, data: memoryview) -> str:
        """Write and sync a temporary file; returns its path."""
        # As few calls as that takes: after each of them the thread waits for its turn again.
        path = f"{self.incoming}/whole-{secrets.token_hex(8)}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        except BaseException:
            Path(path).unlink()
            raise
        finally:
            os.close(handle)
        return path

    @staticmethod
    def move_in(path: str, target: Path) -> None:
        """Rename a file of ours, making the folder that it goes to."""
        # Tried first: nearly always the folder is there.
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, target)  # noqa: PTH104 - no object is made of the path
            return
        target.parent.mkdir(exist_ok=True)
        Path(path).rename(target)


def reserve(handle: int, size: int, path: str) -> None:
    """Reserve ``size`` bytes of disk for an open file.

    Raises:
        UnavailableError: There is no room; the text names ``path``.
    """
    if size == 0:
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise unavailable(error, path, needed=size) from error


def hash_stream(source: int, target: int | None) -> tuple[str, bytes]:
    """Return SHA-256 and piece hashes of the rest of ``source``, copying it to ``target``."""
    whole, pieces = hashlib.sha256(), PieceHasher()
    buffer = bytearray(_COPY_BYTES)
    view = memoryview(buffer)
    while count := os.readv(source, [buffer]):
        whole.update(view[:count])
        pieces.update(view[:count])
        written = 0
        while target is not None and written < count:
            written += os.write(target, view[written:count])
    return whole.hexdigest(), pieces.finish()


def _open_regular(path: str) -> int:
    # Not through a link, and never waiting for the other end of a pipe: builds are hostile.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(f"cannot adopt {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InvalidInputError(f"cannot adopt {path}: not a regular file")
    return handle


def sync_file(path: str) -> int:
    """Make a file's bytes durable and return its size."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def check_digest(sha256: str) -> None:
    """Raise InvalidInputError unless ``sha256`` may become a path."""
    # The digest becomes a path: nothing but 64 lowercase hex digits may pass.
    if not is_hex(sha256, size=32):
        raise InvalidInputError(f"digest {sha256!r:.80} is not 64 lowercase hex digits")


def unavailable(error: OSError, path: str, needed: int = 0) -> UnavailableError:
    """Return the error that tells a client that the disk refused, and where."""
    wanted = f" ({needed} bytes needed)" if needed else ""
    return UnavailableError(f"cannot write {path}{wanted}: {error.strerror}")
