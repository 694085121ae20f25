"""``python -m pyrsia_node.core.deriving``: derives files and index while its node joins.

It reads the history that its core adopts from standard input and writes tiles, certificates and
index, so that fetching and deriving each have a processor. The chain database is open to the core
alone, which is why the blocks come through a pipe; a full pipe keeps the core from running ahead.
Nothing depends on this process: where it ends, by whatever cause, the files are whole as ever
(``ledger.tiles``, ``ledger.certificates``, ``ledger.index``), and the core derives the rest.
On standard input: the genesis, then each block from height 1 on as ``snapshot_wire`` spells it,
each behind its length, u32 big-endian. It believes what it reads, because its core has proved it.
Design: docs/design/catchup.md, "Files and index".
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.replica.snapshot_wire import split_whole_block
from pyrsia_node.schema import exit_codes
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.parent import watch_parent

LEAVES_AT_ONCE: Final = 4096
"""Leaves, at least, that are added to the files at once: each time, partial files are written."""

LENGTH: Final = struct.Struct(">I")


@contextlib.contextmanager
def derived_lock(layout: Layout) -> Iterator[None]:
    """Hold what keeps two processes from deriving; waits for the other one to end.

    The kernel lets go of it with the process, so one that outlives a killed core by a moment is
    waited for and nothing has to be cleaned up.
    """
    with layout.derive_lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class History:
    """The leaves of a history while it arrives; writes tiles and certificates on the way."""

    def __init__(self, stream: BinaryIO, log: Path) -> None:
        """Read from ``stream``, write below ``log``."""
        self._stream = stream
        self._tiles = TileWriter(log)
        self._certificates = CertificateWriter(log)
        self._height = 0
        self._carried: dict[int, bytes] = {}
        self._newest = b""
        self.genesis = Genesis.decode(self._frame())

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end), where a block ends at ``end``. May be called once.

        Raises:
            UnavailableError: The core sends no more of them.
        """
        found = [self.genesis.encode(), self.genesis.set_leaf().encode()]
        position = 0
        # Files are written by a thread, one batch at a time: half of it is waiting for the disk.
        with ThreadPoolExecutor(max_workers=1) as pool:
            while position < end:
                while len(found) < min(LEAVES_AT_ONCE, end - position):
                    found += self._block()
                writing = pool.submit(self._write, position, found)
                yield from found[max(start - position, 0) :]
                writing.result()
                position += len(found)
                found = []

    def carried_certificate(self, height: int) -> bytes:
        """Return the certificate of a height that the block after it carries."""
        return self._carried[height]

    def certificate(self, height: int) -> bytes:
        """Return what finalized the newest block."""
        assert height == self._height
        return self._newest

    def _write(self, position: int, leaves: list[bytes]) -> None:
        """Add to the files what they lack: after a crash they may be ahead."""
        lacking = leaves[max(self._tiles.size - position, 0) :]
        if lacking:
            self._tiles.extend(lacking)
        if self._height > self._certificates.height:
            self._certificates.catch_up(self, height=self._height)
        self._carried = {
            height: each for height, each in self._carried.items() if height >= self._height
        }

    def _block(self) -> list[bytes]:
        self._newest, carried, leaves = split_whole_block(self._frame())
        self._carried[self._height] = carried
        self._height += 1
        return leaves

    def _frame(self) -> bytes:
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) != length:
            raise UnavailableError("the core ended before the history did")
        return data


def derive(stream: BinaryIO, layout: Layout, *, size: int) -> None:
    """Write everything that is derived from the history of ``size`` leaves in ``stream``.

    Raises:
        UnavailableError: The stream ends early; what is written stays, and is whole.
        CorruptStateError: The files are damaged or of another log.
        DiskError: The disk refused.
    """
    history = History(stream, layout.log)
    with IndexWriter.current(layout.root, network_id=history.genesis.network_id) as index:
        index.catch_up(history, size=size)


def main() -> int:
    """Derive from standard input; return the exit code."""
    parser = argparse.ArgumentParser(prog="pyrsia_node.core.deriving")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    parser.add_argument("--size", required=True, type=int, metavar="LEAVES")
    arguments = parser.parse_args()
    # It holds nothing that an end at any moment would harm, so it ends with its core at once.
    watch_parent(grace_s=0)
    layout = Layout(arguments.data)
    try:
        with derived_lock(layout):
            derive(sys.stdin.buffer, layout, size=arguments.size)
    except (PyrsiaError, OSError) as error:
        sys.stderr.write(f"deriving: {error}\n")
        return exit_codes.exit_code_of(error) if isinstance(error, PyrsiaError) else 1
    return exit_codes.OK


if __name__ == "__main__":
    sys.exit(main())
