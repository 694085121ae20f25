"""How an artifact is cut into pieces, and how a piece is proved right.

Every piece but the last has ``PIECE_SIZE_BYTES``; each is hashed alone with BLAKE3, and BLAKE3
over the concatenated 32-byte hashes is the *piece root* that the attested entry carries
(docs/spec/leaves.md). Pure arithmetic and hashing: no file, no socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from pyrsia_node.model.errors import VerificationError
from pyrsia_node.ports import PIECE_SIZE_BYTES

PIECE_HASH_BYTES: Final = 32

ARTIFACT_BYTES_MAX: Final = 1 << 40
"""Largest artifact that is moved between nodes; bounds every piece list to 8 MiB."""

PIECE_LIST_BYTES_MAX: Final = ARTIFACT_BYTES_MAX // PIECE_SIZE_BYTES * PIECE_HASH_BYTES


def piece_count(size: int) -> int:
    """Return how many pieces ``size`` bytes have. An empty artifact has none."""
    return -(-size // PIECE_SIZE_BYTES)


def piece_length(index: int, *, size: int) -> int:
    """Return the length in bytes of piece ``index`` of an artifact of ``size`` bytes."""
    assert 0 <= index < piece_count(size)
    return min(PIECE_SIZE_BYTES, size - index * PIECE_SIZE_BYTES)


def pieces_of_range(start: int, length: int) -> range:
    """Return the indices of the pieces that bytes ``start`` to ``start + length`` touch."""
    return range(start // PIECE_SIZE_BYTES, piece_count(start + length)) if length else range(0)


def piece_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Return the hash of one piece. Releases the interpreter lock while it works."""
    return blake3(data).digest()


def piece_root(hashes: bytes | Iterable[bytes]) -> str:
    """Return the piece root, in hex, of concatenated (or separate) piece hashes."""
    return blake3(hashes if isinstance(hashes, bytes) else b"".join(hashes)).hexdigest()


@dataclass(frozen=True, slots=True)
class PieceList:
    """The checked piece hashes of one artifact.

    ``hashes`` is None only for an artifact of one piece whose list nobody sent: the root alone
    decides there, which saves a round trip for every small file.
    """

    size: int
    root: str
    hashes: bytes | None

    @classmethod
    def check(cls, hashes: bytes, *, size: int, root: str) -> PieceList:
        """Return the list if it is the one that ``root`` commits to.

        Raises:
            VerificationError: Wrong number of hashes, or another root; both values are named.
        """
        expected = piece_count(size) * PIECE_HASH_BYTES
        if len(hashes) != expected:
            raise VerificationError(
                f"piece list has {len(hashes)} bytes, {size} bytes of artifact need {expected}"
            )
        found = piece_root(hashes)
        if found != root:
            raise VerificationError(f"piece list has root {found}, the log says {root}")
        return cls(size=size, root=root, hashes=hashes)

    @classmethod
    def of_single(cls, *, size: int, root: str) -> PieceList | None:
        """Return a list that needs no hashes, or None if there is more than one piece."""
        if size == 0:
            return cls.check(b"", size=0, root=root)
        return cls(size=size, root=root, hashes=None) if piece_count(size) == 1 else None

    @property
    def count(self) -> int:
        """Return the number of pieces."""
        return piece_count(self.size)

    def check_piece(self, index: int, data: bytes | bytearray | memoryview) -> None:
        """Return if ``data`` is piece ``index``; cost is one pass over the data.

        Raises:
            VerificationError: Another length or another hash; both values are named.
        """
        length = piece_length(index, size=self.size)
        if len(data) != length:
            raise VerificationError(f"piece {index} has {len(data)} bytes instead of {length}")
        found = piece_hash(data)
        if self.hashes is None:
            if piece_root(found) != self.root:
                raise VerificationError(
                    f"piece {index} hashes to {found.hex()}, which is not under {self.root}"
                )
            return
        expected = self.hashes[index * PIECE_HASH_BYTES : (index + 1) * PIECE_HASH_BYTES]
        if found != expected:
            raise VerificationError(f"piece {index} hashes to {found.hex()}, not {expected.hex()}")


class PieceHasher:
    """Computes piece hashes while a file streams by, whatever the chunks' sizes."""

    def __init__(self) -> None:
        """Start an empty list."""
        self._hashes: list[bytes] = []
        self._current = blake3()
        self._room = PIECE_SIZE_BYTES

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        while data:
            part = data[: self._room]
            self._current.update(part)
            self._room -= len(part)
            data = data[len(part) :]
            if self._room == 0:
                self._close_piece()

    def finish(self) -> bytes:
        """Return the concatenated hashes; the hasher takes no more data."""
        if self._room < PIECE_SIZE_BYTES:
            self._close_piece()
        return b"".join(self._hashes)

    def _close_piece(self) -> None:
        self._hashes.append(self._current.digest())
        self._current = blake3()
        self._room = PIECE_SIZE_BYTES


class Bitmap:
    """Which pieces are there. Bit ``i`` is bit ``i % 8`` (lowest first) of byte ``i // 8``."""

    __slots__ = ("_bits", "_count", "_set")

    def __init__(self, count: int, data: bytes | None = None) -> None:
        """Make a bitmap of ``count`` pieces; ``data`` beyond the last piece is ignored."""
        size = -(-count // 8)
        self._count = count
        self._bits = bytearray((data or b"")[:size].ljust(size, b"\0"))
        if count % 8:
            self._bits[-1] &= (1 << count % 8) - 1
        self._set = int.from_bytes(self._bits, "big").bit_count()

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self._count and bool(self._bits[index >> 3] >> (index & 7) & 1)

    def __len__(self) -> int:
        return self._set

    def __bytes__(self) -> bytes:
        return bytes(self._bits)

    @property
    def is_full(self) -> bool:
        """Whether every piece is there."""
        return self._set == self._count

    def add(self, index: int) -> None:
        """Mark a piece as there."""
        assert 0 <= index < self._count
        if index not in self:
            self._bits[index >> 3] |= 1 << (index & 7)
            self._set += 1

    def discard(self, index: int) -> None:
        """Mark a piece as missing."""
        if index in self:
            self._bits[index >> 3] &= ~(1 << (index & 7))
            self._set -= 1

    def byte(self, index: int) -> tuple[int, bytes]:
        """Return position and value of the byte that holds piece ``index``."""
        return index >> 3, bytes(self._bits[index >> 3 : (index >> 3) + 1])

    def missing(self) -> Iterator[int]:
        """Yield the pieces that are not there, lowest first."""
        return (index for index in range(self._count) if index not in self)

    @classmethod
    def full(cls, count: int) -> Bitmap:
        """Return a bitmap in which every piece is there."""
        return cls(count, b"\xff" * -(-count // 8))
