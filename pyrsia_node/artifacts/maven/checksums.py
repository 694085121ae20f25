"""Computes the checksums that Maven's clients ask for, and reads those that upstreams publish."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.ports.maven import Digests
from pyrsia_node.store.pieces import PieceHasher, piece_root

PREFERRED: Final = ("sha256", "sha1", "md5")
"""Which of an upstream's checksums counts: the first that it publishes."""

CHECKSUM_BYTES_MAX: Final = 4096
_CHUNK_BYTES: Final = 1024 * 1024
_LENGTHS: Final = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


class Hashes:
    """All digests of one file at once, and the hashes of its pieces."""

    def __init__(self) -> None:
        """Begin with no bytes."""
        # Old checksums are compared and repeated as Maven wants them; what is trusted is SHA-256.
        self._all = {
            kind: hashlib.new(kind, usedforsecurity=kind not in {"md5", "sha1"})
            for kind in ("sha256", "sha1", "md5", "sha512")
        }
        self._pieces = PieceHasher()
        self.size = 0

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        self.size += len(chunk)
        self._pieces.update(memoryview(chunk))
        for each in self._all.values():
            each.update(chunk)

    def digest(self, kind: str) -> str:
        """Return one digest of the bytes so far, in hex."""
        return self._all[kind].hexdigest()

    def finish(self) -> tuple[Digests, bytes]:
        """Return all of them, and the concatenated hashes of the pieces; no more bytes then."""
        pieces = self._pieces.finish()
        digests = Digests(
            sha256=self.digest("sha256"),
            size=self.size,
            pieces=piece_root(pieces),
            sha1=self.digest("sha1"),
            md5=self.digest("md5"),
            sha512=self.digest("sha512"),
        )
        return digests, pieces


def compute_digests(store: BlobStore, info: BlobInfo) -> Digests:
    """Read a stored blob and return its digests. Blocks.

    Raises:
        NotFoundError: The blob left the cache.
        CorruptStateError: Its bytes are not those of its name.
    """
    hashes = Hashes()
    with store.lease(info.sha256) as path, open(path, "rb") as blob:  # noqa: PTH123 - path is text
        while chunk := blob.read(_CHUNK_BYTES):
            hashes.update(chunk)
    _check(hashes.digest("sha256"), info.sha256)
    return hashes.finish()[0]


async def read_digest(reader: Reader, sha256: str, kind: str) -> str:
    """Read a small file and return one digest of it, in hex.

    Raises:
        UnavailableError: Its bytes cannot be had now.
        CorruptStateError: They are not those of its name.
    """
    data = bytearray()
    while len(data) < reader.size:
        data += await reader.read(len(data), reader.size - len(data))
    # Bytes that rotted on the disk must not get a checksum that fits them.
    _check(hashlib.sha256(data).hexdigest(), sha256)
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


def _check(found: str, sha256: str) -> None:
    if found != sha256:
        raise CorruptStateError(f"blob {sha256} holds other bytes: run pyrsia-node fsck")


def read_checksum(body: bytes, kind: str) -> str | None:
    """Return the digest in a checksum file; None if there is none of the right length.

    Such files hold the digest alone, or with the file's name before or behind it.
    """
    pattern = rb"(?<![0-9A-Za-z])[0-9A-Fa-f]{%d}(?![0-9A-Za-z])" % _LENGTHS[kind]
    match = re.search(pattern, body)
    return None if match is None else match[0].decode("ascii").lower()
