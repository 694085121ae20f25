"""Executes every block again, with the ledger's own state machine, in a scratch chain.

The scratch chain is a real one in a folder of its own, so memory stays flat and every rule that a
node applies before it votes is applied here: parent certificates, admission, execution, derived
leaves, state root. It needs the certificates; without them nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from consensus import wire
from consensus.errors import DecodeError
from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.ports import KeyValueReader, KeyValueStore
from pyrsia_node.store.leveldb import LevelDbStore


class ScratchStore(KeyValueStore):
    """A store whose content nobody will miss: it never waits for the disk."""

    def __init__(self, store: KeyValueStore) -> None:
        """Write to ``store``."""
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self._store.get(key)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) under ``prefix`` in key order, keys > ``after``."""
        return self._store.scan(prefix, after=after)

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """Apply all changes or none."""
        del sync
        self._store.write(changes, sync=False)

    def settle(self) -> None:
        """Put what was written into files of its own."""
        self._store.settle()

    def snapshot(self) -> AbstractContextManager[KeyValueReader]:
        """Return a view that later writes do not change."""
        return self._store.snapshot()


class ReplayAudit:
    """Commits the log's blocks once more; stops at the first that does not come out the same."""

    def __init__(self, chain: Chain, report: Report) -> None:
        """Execute on ``chain``, which holds the genesis alone."""
        self._chain = chain
        self._report = report
        self._certificate = b""
        self._is_over = False

    def check(self, block: Block, certificate: bytes | None) -> None:
        """Execute one block, the one after the last."""
        if self._is_over:
            return
        if certificate is None:
            self._stop(f"certificates are missing from height {block.height} on")
            return
        carried, self._certificate = self._certificate, certificate
        transactions = list(block.leaves[1 : 1 + block.transactions])
        try:
            committed = self._chain.commit(
                wire.encode_block(block.leaves[0], carried, transactions), certificate
            )
        except (PyrsiaError, DecodeError) as error:
            self._report.contradict("execution", block.place, str(error))
            self._stop(f"stopped at height {block.height}, where execution differs")
            return
        for offset, (theirs, ours) in enumerate(zip(block.leaves, committed.leaves, strict=False)):
            if theirs != ours:
                self._report.contradict(
                    "execution",
                    block.place_of(offset),
                    f"the log has {theirs!r:.200}, execution gives {ours!r:.200}",
                )
        self._report.counted["execution"] += 1

    def _stop(self, why: str) -> None:
        self._is_over = True
        self._report.leave_out("execution", why)


@contextmanager
def scratch_chain(folder: Path, genesis: Genesis) -> Iterator[Chain]:
    """Open an empty chain of ``genesis`` in a new folder."""
    folder.mkdir()
    with LevelDbStore(folder, create=True) as store:
        yield Chain.open(ScratchStore(store), genesis)
