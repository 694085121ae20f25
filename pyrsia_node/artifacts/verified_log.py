"""The log as this process believes it: nothing is read from it that was not proved first.

The core writes ``log/``; this side trusts none of it. A checkpoint counts when a quorum of the
members of its epoch cosigned it, and only if it extends the one that was believed before. Who the
members are follows from the genesis alone: each set change that ``log/trust`` names is proved
before it counts, and one that counted is never forgotten. An entry
counts when its inclusion under that checkpoint was computed from the tiles. Because every believed
checkpoint extends the last, an entry once proved stays proved, and is looked at once.
Specification: docs/spec/log-formats.md.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.leaves import Accepted, Header, decode_outcome
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.proofs import (
    make_consistency_proof,
    make_inclusion_proof,
    verify_consistency,
)
from pyrsia_node.tlog.tile import WIDTH, Tile, TileHashReader, tile_width
from pyrsia_node.tlog.tree import HashReader, Subtree
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Cosigned, Trust, TrustFile

LEAVES_MAX: Final = 4096
"""Proved leaves that are kept in memory (at most 48 kB each, usually under 1 kB)."""

HASHES_MAX: Final = 16_384
"""Hashes of subtrees that are kept in memory: some 4 MB."""

BUNDLES_MAX: Final = 2
"""Bundles of 256 leaves that are kept in memory: usually some 300 kB each, at most 12 MB."""

TILES_MAX: Final = 64
"""Tiles of 256 hashes that are kept in memory: 8 kB each."""

GENESIS_LEAVES: Final = 2
"""The genesis and the first set stand before every block."""

_HEADER_START: Final = b'{"body_root":'
_log = logging.getLogger("pyrsia.artifacts.log")


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that a quorum stands behind, and its bytes as the core published them."""

    signed: SignedCheckpoint
    cosigned: Cosigned
    data: bytes

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self.signed.checkpoint.size

    @property
    def root(self) -> bytes:
        """Return the root hash."""
        return self.signed.checkpoint.root


@dataclass(frozen=True, slots=True)
class ProvedLeaf:
    """A leaf that stands in the log, and the block that brought it."""

    index: int
    data: bytes
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class ProvedEntry:
    """An ACCEPTED entry that stands in the log."""

    index: int
    entry: Accepted
    height: int
    time_ms: int


class ProvedLog(Protocol):
    """A log from which nothing comes that was not proved."""

    @property
    def network_id(self) -> bytes:
        """The id of the network whose log this is."""
        ...

    def head(self) -> Head:
        """Return the head under which leaves are proved.

        Raises:
            UnavailableError: There is none yet.
        """
        ...

    def leaf(self, index: int) -> ProvedLeaf:
        """Return a leaf.

        Raises:
            NotFoundError: The log does not have it.
            VerificationError: It cannot be proved.
            UnavailableError: It cannot be read now.
        """
        ...

    def accepted(self, index: int) -> ProvedEntry:
        """Return an ACCEPTED entry; raises as :meth:`leaf`, VerificationError for other leaves."""
        ...


class VerifiedLog:
    """Reads ``log/`` and proves what it returns. Methods block for a few small reads."""

    def __init__(self, folder: Path, trust: Trust) -> None:
        """Read below ``folder``; ``trust``, of a genesis, says whose cosignatures count first."""
        self._folder = folder
        self._checkpoint = str(folder / "checkpoint")
        self._trust = trust
        self._tiles = _LastRead(TileFiles(folder))
        self._head: Head | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._trust_text = TrustFile(trust.genesis.encode()).encode()
        self._refusal = ""
        self._leaves: OrderedDict[int, ProvedLeaf] = OrderedDict()
        self._headers: OrderedDict[int, Header] = OrderedDict()
        self._hashes: OrderedDict[Subtree, bytes] = OrderedDict()
        self._network_id = trust.genesis.network_id

    def head(self) -> Head:
        """Return the newest checkpoint that is believed.

        A published checkpoint that is malformed, lacks a quorum, or does not extend the one
        believed before is reported in telemetry and ignored.

        Raises:
            UnavailableError: There is none yet.
        """
        try:
            stamp = _stamp_of(self._checkpoint)
            if stamp != self._stamp:
                # Noted first: what is wrong stays wrong and is reported once, not at every call.
                self._stamp = stamp
                self._follow_sets()
                with self._distrusting():
                    self._accept(Path(self._checkpoint).read_bytes()[: NOTE_BYTES_MAX + 1])
        except OSError as error:
            if self._head is None:
                raise UnavailableError("the log has no published checkpoint yet") from error
        except (InvalidInputError, VerificationError) as error:
            _log.error("the published checkpoint is not believed: %s", error)
            self._refusal = str(error)
        except UnavailableError as error:
            self._stamp = None
            self._refusal = str(error)
        if self._head is None:
            raise UnavailableError(f"no checkpoint can be believed: {self._refusal}")
        return self._head

    def leaf(self, index: int) -> ProvedLeaf:
        """Return a leaf after proving it, at most once.

        Raises:
            NotFoundError: The log does not reach so far.
            VerificationError: The tiles do not lead to the root.
            UnavailableError: A tile is missing or damaged; says how to repair it.
        """
        known = self._leaves.get(index)
        if known is not None:
            self._leaves.move_to_end(index)
            return known
        head = self.head()
        if not 0 <= index < head.size:
            raise NotFoundError(f"the log has {head.size} entries, there is no entry {index}")
        with self._distrusting():
            data = self._proof_of(index, head)[0]
            height, time_ms = self._block_of(index, head)
        proved = ProvedLeaf(index, data, height, time_ms)
        self._leaves[index] = proved
        if len(self._leaves) > LEAVES_MAX:
            self._leaves.popitem(last=False)
        return proved

    def accepted(self, index: int) -> ProvedEntry:
        """Return an ACCEPTED entry; raises as :meth:`leaf`.

        Raises:
            VerificationError: The leaf is something else.
        """
        return as_accepted(self.leaf(index))

    def proof(self, index: int) -> bytes:
        """Return the offline proof of a leaf under the newest head; raises as :meth:`leaf`."""
        head = self.head()
        if not 0 <= index < head.size:
            raise NotFoundError(f"the log has {head.size} entries, there is no entry {index}")
        with self._distrusting():
            return self._proof_of(index, head)[1].encode()

    @property
    def network_id(self) -> bytes:
        """The id of the network whose log this is."""
        return self._network_id

    def trust_text(self) -> bytes:
        """Return the trust file that what is believed here rests on."""
        return self._trust_text

    # ------------------------------------------------------------ inside

    def _follow_sets(self) -> None:
        """Take in the set changes that the core has written down, if they continue what is known.

        What does not hold is reported and left out: checkpoints of a later epoch are then refused.
        """
        try:
            with (self._folder / "trust").open("rb") as file:
                data = file.read(TRUST_BYTES_MAX + 1)
            if data == self._trust_text:
                return
            trust = self._grown(TrustFile.parse(data))
        except FileNotFoundError:
            return
        except (OSError, InvalidInputError, VerificationError) as error:
            _log.error("log/trust is not believed: %s", error)
            return
        known = self._trust.epochs
        if trust.epochs[: len(known)] != known:
            _log.error("log/trust is not believed: it contradicts epochs that were proved before")
            return
        self._trust, self._trust_text = trust, data

    def _grown(self, file: TrustFile) -> Trust:
        """Return the trust that a file proves; what was proved before is not checked again."""
        known = TrustFile.parse(self._trust_text)
        news = file.changes[len(known.changes) :]
        if file == TrustFile(known.genesis, known.changes + news):
            return self._trust.extended(*news)
        return Trust.establish(file, network_id=self._trust.genesis.network_id)

    def _accept(self, data: bytes) -> None:
        signed = SignedCheckpoint.parse(data)
        cosigned = self._trust.check(signed)
        new = Head(signed, cosigned, data)
        old = self._head
        if old is not None:
            if new.size < old.size:
                raise VerificationError(f"size went back from {old.size} to {new.size}")
            reader = TileHashReader(self._tiles, new.size)
            with _readable():
                proof = make_consistency_proof(reader, old_size=old.size, new_size=new.size)
            verify_consistency(
                old_size=old.size,
                old_root=old.root,
                new_size=new.size,
                new_root=new.root,
                proof=proof,
            )
        self._head = new

    def _proof_of(self, index: int, head: Head) -> tuple[bytes, EntryProof]:
        reader = _Remembered(self._hashes, TileHashReader(self._tiles, head.size))
        with _readable():
            data = self._tiles.bundle(index // WIDTH, size=head.size)[index % WIDTH]
            hashes = make_inclusion_proof(reader, index=index, size=head.size)
        proof = EntryProof(extra=data, index=index, hashes=hashes, signed=head.signed)
        proof.verify_leaf(data)
        reader.keep()
        return data, proof

    def _block_of(self, index: int, head: Head) -> tuple[int, int]:
        """Return height and time of the block that a leaf is in, from its proved header."""
        if index < GENESIS_LEAVES:
            return 0, self._trust.genesis.time_ms
        at = self._header_index(index, head)
        header = self._headers.get(at)
        if header is None:
            header = _parse_header(self._proof_of(at, head)[0], at)
            self._headers[at] = header
            if len(self._headers) > LEAVES_MAX:
                self._headers.popitem(last=False)
        if not header.prev_size <= index < header.size:
            raise VerificationError(
                f"block {header.height} has entries {header.prev_size} to {header.size - 1}, "
                f"and no header stands between it and entry {index}"
            )
        return header.height, header.time_ms

    def _header_index(self, index: int, head: Head) -> int:
        """Return where the nearest header at or before a leaf stands."""
        end = index + 1
        while end > GENESIS_LEAVES:
            start = (end - 1) // WIDTH * WIDTH
            with _readable():
                leaves = self._tiles.bundle(start // WIDTH, size=head.size)
            for offset in reversed(range(end - start)):
                if leaves[offset].startswith(_HEADER_START):
                    return start + offset
            end = start
        raise VerificationError(f"no block header stands before entry {index}")

    @contextmanager
    def _distrusting(self) -> Iterator[None]:
        """Read files anew after something was wrong with them: they may be repaired by then."""
        try:
            yield
        except VerificationError:
            self._tiles.forget()
            raise


class _LastRead:
    """Tiles and bundles as they were read last: one proof after another needs the same ones.

    A leaf and the header of its block mostly stand in one bundle. What is here was not proved.
    """

    def __init__(self, files: TileFiles) -> None:
        self._files = files
        self._tiles: OrderedDict[Tile, bytes] = OrderedDict()
        self._bundles: OrderedDict[Tile, list[bytes]] = OrderedDict()

    def read_tiles(self, tiles: Sequence[Tile]) -> list[bytes]:
        """Return each tile's content (``tlog.tile.TileReader``)."""
        return [self._tile(each) for each in tiles]

    def bundle(self, number: int, *, size: int) -> list[bytes]:
        """Return the leaves of a bundle of a log of ``size``; raises as ``TileFiles.entries``."""
        tile = Tile(None, number, tile_width(0, number, size=size))
        found = self._bundles.get(tile)
        if found is None:
            start = number * WIDTH
            found = list(self._files.entries(start, start + tile.width, size=size))
            self._bundles[tile] = found
            if len(self._bundles) > BUNDLES_MAX:
                self._bundles.popitem(last=False)
        return found

    def forget(self) -> None:
        """Read everything anew."""
        self._tiles.clear()
        self._bundles.clear()

    def _tile(self, tile: Tile) -> bytes:
        found = self._tiles.get(tile)
        if found is None:
            found = self._tiles[tile] = self._files.read(tile)
            if len(self._tiles) > TILES_MAX:
                self._tiles.popitem(last=False)
        return found


class _Remembered:
    """Hashes of perfect subtrees, read once: they are the same in every larger tree.

    Only what a proof that held consists of is kept, so nothing wrong is ever remembered.
    """

    def __init__(self, known: OrderedDict[Subtree, bytes], reader: HashReader) -> None:
        self._known = known
        self._reader = reader
        self._used: dict[Subtree, bytes] = {}

    def read_hashes(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        """Return the hashes, in the order asked."""
        missing = [each for each in subtrees if each not in self._known]
        read = dict(zip(missing, self._reader.read_hashes(missing), strict=True))
        found = [read[each] if each in read else self._known[each] for each in subtrees]
        self._used |= zip(subtrees, found, strict=True)
        return found

    def keep(self) -> None:
        """Remember what was read; what was not used for longest goes first."""
        for subtree, found in self._used.items():
            self._known[subtree] = found
            self._known.move_to_end(subtree)
        while len(self._known) > HASHES_MAX:
            self._known.popitem(last=False)


def as_accepted(leaf: ProvedLeaf) -> ProvedEntry:
    """Return a proved leaf as the ACCEPTED entry that it is.

    Raises:
        VerificationError: It is something else.
    """
    try:
        outcome = decode_outcome(leaf.data)
    except InvalidInputError as error:
        raise VerificationError(f"entry {leaf.index} is no accepted build: {error}") from error
    if not isinstance(outcome, Accepted):
        kind = type(outcome).__name__.lower()
        raise VerificationError(f"entry {leaf.index} is {kind}, not accepted")
    return ProvedEntry(leaf.index, outcome, leaf.height, leaf.time_ms)


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what is wrong with the files, which can be derived again, into a passing state."""
    try:
        yield
    except (NotFoundError, CorruptStateError, InvalidInputError, OSError) as error:
        raise UnavailableError(f"the log's files are not complete: {error}") from error


def _parse_header(data: bytes, index: int) -> Header:
    try:
        return Header.decode(data)
    except InvalidInputError as error:
        raise VerificationError(f"entry {index} is no block header: {error}") from error


def _stamp_of(path: str) -> tuple[int, int, int]:
    status = os.stat(path)  # noqa: PTH116 - asked at every request: no object is made of the path
    return status.st_ino, status.st_mtime_ns, status.st_size
