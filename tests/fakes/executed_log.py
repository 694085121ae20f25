"""A chain of any length in which every transaction is signed, executed, and certified for real.

Leaves read like those of a busy network (``benchmarks.macro.realistic_log``); blocks hold the
requests of one moment and the answers to those of the moment before. The member set changes as
often as asked; a header whose block changes it carries a snapshot root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.macro.realistic_log import Asked, RealisticLog
from consensus.types import NodeId
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Document, FileEntry
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.model.transactions import (
    AttestBatch,
    BuildRequest,
    BuiltItem,
    Result,
    Transaction,
    decode_transaction,
)
from pyrsia_node.ports import PIECE_SIZE_BYTES, KeyValueStore
from pyrsia_node.store.files import write_atomic
from pyrsia_node.store.pieces import piece_hash, piece_root
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import Identity, identity
from tests.strategies.small_logs import cosigned, log_signed

BLOCK_MS = 100_000
"""Slow enough for the sponsors' quotas."""

KEYS_FROM = 1_000
"""Number of the first identity whose keys a rotation takes."""


class ExecutedLog:
    """Grows a chain in ``store``; ``local`` is the chain with its members."""

    def __init__(
        self,
        store: KeyValueStore,
        *,
        seed: int = 1,
        members: tuple[Identity, ...] = (),
        keeps_keys: Sequence[NodeId] = (),
    ) -> None:
        """Start a chain of ``members``; those of ``keeps_keys`` never get new keys."""
        self.local = LocalChain(4, store=store, members=members)
        self._words = RealisticLog(seed, members=members)
        self._keeps_keys = keeps_keys
        self._waiting: list[tuple[Asked, Document]] = []
        self._seq = 0
        self._rotations = 0
        self._before = self.local.members

    @property
    def chain(self) -> Chain:
        return self.local.chain

    def grow(self, blocks: int, *, changes: int) -> None:
        """Commit blocks of one request each, which nobody answers, and changes of the set."""
        for number in range(blocks):
            self.local.now_ms += BLOCK_MS
            self.local.commit(self._request()[1])
            if number % (blocks // changes) == blocks // changes // 2:
                self.rotate()

    def block(self, requests: int, *planted: tuple[Asked, Document]) -> None:
        """Commit answers to what was asked last, and new requests."""
        local = self.local
        local.now_ms += BLOCK_MS
        bodies = self._answers()
        self._waiting = []
        for _ in range(requests):
            wish, body = self._request()
            document = Document.from_json(self._words.document(wish), "document")
            self._waiting.append((self._named(wish, body), document))
            bodies.append(body)
        for wish, document in planted:
            body = self._asks_for(document.purl)
            self._waiting.append((self._named(wish, body), document))
            bodies.append(body)
        local.commit(*bodies)

    def plant(self, name: str, content: bytes, *, file: str, version: str = "1.0") -> FileEntry:
        """Have a package accepted whose one file has this content; takes two blocks."""
        pieces = b"".join(
            piece_hash(content[start : start + PIECE_SIZE_BYTES])
            for start in range(0, len(content), PIECE_SIZE_BYTES)
        )
        entry = FileEntry(
            name=file,
            size=len(content),
            sha256=sha256_of(content),
            pieces=Sha256(piece_root(pieces)),
            media="application/zip",
            claim="rebuilt",
            origin="built",
        )
        like = Document.from_json(self._words.document(Asked("", name, version)), "document")
        metadata = replace(like.metadata, requires=(), requires_python="")
        document = replace(like, files=(entry,), metadata=metadata)
        self.block(0, (Asked("", name, version), document))
        self.block(1)
        return entry

    def rotate(self) -> None:
        """Give the next member new keys: another set."""
        local = self.local
        rotating = [one for one in local.members if one.id not in self._keeps_keys]
        member = rotating[self._rotations % len(rotating)]
        self._rotations += 1
        self._before = local.members
        local.now_ms += BLOCK_MS
        local.commit(*local.rotate(member.id, identity(KEYS_FROM + self._rotations)))

    def withdraw_package(self, name: str) -> None:
        """Withdraw the newest entry of a planted package."""
        leaf, entry = self._planted(name)
        by, purl = self.local.members[0].id, entry.document.purl
        self._close(Withdraw(by, purl, leaf, "taken back by the network", f"{leaf:032x}"))

    def revoke_package(self, name: str) -> None:
        """Revoke the bytes of a planted package's file."""
        leaf, entry = self._planted(name)
        by, document = self.local.members[0].id, entry.document
        sha256 = document.files[0].sha256
        self._close(Revoke(by, document.purl, sha256, "harmful", f"{leaf:032x}"))

    def _planted(self, name: str) -> tuple[int, Accepted]:
        wanted = f'"purl":"pkg:pypi/{name}@'.encode()
        for leaf in reversed(range(self.chain.tip.size)):
            data = self.chain.leaf(leaf)
            if data.endswith(b'"t":"accepted","v":1}') and wanted in data:
                entry = decode_outcome(data)
                assert isinstance(entry, Accepted)
                return leaf, entry
        raise LookupError(name)

    def _close(self, statement: Withdraw | Revoke) -> None:
        self.local.now_ms += BLOCK_MS
        self.local.commit(*self.local.approved(statement))

    def publish(self, log: Path, *, time_s: int) -> None:
        """Write the checkpoint of the tip below ``log``, cosigned by everybody."""
        tip = self.chain.tip
        head = Checkpoint(self.local.genesis.origin, tip.size, tip.root)
        # Who decided a block signs the head after it, also where it changed the set.
        signers = self._before if tip.epoch_height == tip.height else self.local.members
        lines = (
            log_signed(head, signers[0]),
            *(cosigned(head, one, time_s=time_s) for one in signers),
        )
        note = SignedCheckpoint(head, lines).encode()
        write_atomic(log / "checkpoint", note)

    def _asks_for(self, purl: Purl) -> BuildRequest:
        _, body = self._request()
        return replace(body, purl=purl)

    def _request(self) -> tuple[Asked, BuildRequest]:
        self._words.time_ms = self.local.now_ms
        wish, leaf = self._words.request()
        body = decode_transaction(leaf, network_id=self.local.network_id).body
        assert isinstance(body, BuildRequest)
        return wish, body

    def _named(self, wish: Asked, body: BuildRequest) -> Asked:
        return replace(wish, id=self.local.sign(body).id)

    def _answers(self) -> list[Transaction]:
        if not self._waiting:
            return []
        self._seq += 1
        bodies: list[Transaction] = []
        for member in self.local.members:
            items = tuple(
                BuiltItem(Sha256(wish.id), document.digest(), 0, _roots(wish))
                for wish, document in self._waiting
            )
            bodies.append(AttestBatch(member.id, self._seq, items, {"arch": "x86_64"}))
        first = self.local.members[0].id
        return bodies + [
            Result(first, Sha256(wish.id), document) for wish, document in self._waiting
        ]


def _roots(wish: Asked) -> tuple[Sha256, Sha256, Sha256]:
    l0, l1, l2 = (sha256_of(f"{level}/{wish.id}".encode()) for level in range(3))
    return l0, l1, l2
