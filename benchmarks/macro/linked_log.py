"""A chain database of a million entries that a joining node can check in full, made in minutes.

The leaves are those of ``benchmarks.macro.realistic_log``; headers, certificates, roots and member
sets are real, so whoever adopts it checks what it would check of a real network. What is made up
is what adopting never looks at: the signatures in transactions, ``state_root``, and the values of
the state, which have the number, the keys and the sizes that executing such leaves gives (measured
on ``tests.fakes.executed_log``: four items, a request, a tally, a document and a try a package).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.macro.realistic_log import BLOCK_MS, Asked, RealisticLog, dumps
from consensus import wire
from consensus.types import Certificate, Digest, Height, NodeId, View, VoteKind
from pyrsia_node.ledger.adopting import Adoption, WholeBlock
from pyrsia_node.ledger.commitment import (
    INTERVAL_BLOCKS,
    BucketSum,
    bucket_hash,
    bucket_of,
    is_due,
    snapshot_root,
)
from pyrsia_node.model.digest import ZERO_SHA256, Sha256, sha256_of
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.signing import TRANSACTION_TAG
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, leaf_hash, root
from tests.strategies.identities import Identity, identity
from tests.strategies.member_bodies import renewed
from tests.strategies.small_logs import cosigned, log_signed

STATE_VALUES = {"item": 470, "request": 500, "tally": 380, "tries": 80, "doc": 8}
"""Bytes of a value, by kind of key."""

HEX = "0123456789abcdef"

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Planted:
    """A package whose file really exists, and whether the network withdrew it."""

    project: str
    file: dict[str, Any]
    is_withdrawn: bool = False


class LinkedLog:
    """Writes the chain; afterwards ``signers`` are those who decided its newest block."""

    def __init__(
        self,
        *,
        changes: int = 20,
        seed: int = 1,
        members: tuple[Identity, ...] = (),
        keeps_keys: Sequence[NodeId] = (),
    ) -> None:
        """Make a network of ``members``; those of ``keeps_keys`` never get new keys."""
        self.words = RealisticLog(seed, members=members)
        self._keeps_keys = keeps_keys
        self.genesis = self.words.local.genesis
        self.signers: tuple[Identity, ...] = self.words.local.members
        self._members = self.signers
        self._changes = changes
        self._rotated = 0
        self._set = self.genesis.set_leaf()
        self._epoch_height = 0
        self._frontier = EMPTY_FRONTIER.extend(
            map(leaf_hash, (self.genesis.encode(), self._set.encode()))
        )
        self._height = 0
        self._parent = Sha256(leaf_hash(self.genesis.encode()).hex())
        self._certificate = b""
        self._root: Sha256 = ZERO_SHA256
        self._closed: list[tuple[str, int]] = []

    def write(self, store: KeyValueStore, *, blocks: int, planted: Sequence[Planted]) -> Header:
        """Write a chain of ``blocks`` blocks, a multiple of 10,000, into an empty store."""
        assert blocks % INTERVAL_BLOCKS == 0
        first = self._planted_blocks(planted)
        names = {name: _sum_hash(pairs, name) for name, pairs in self._state(4 * blocks)}
        self._root = Sha256(snapshot_root(each for _, each in sorted(names.items())).hex())
        target = replace(first[-1].header, height=blocks, snapshot_root=self._root)
        adoption = Adoption(store, self.genesis, target, names)
        for name, pairs in self._state(4 * blocks):
            intake = adoption.begin_bucket(name)
            intake.add(sorted(pairs))
            adoption.finish_bucket(name, intake)
            adoption.write(adoption.take_full())
        adoption.add_blocks(first)
        before: list[Asked] = []
        last = first[-1]
        while self._height < blocks:
            self.words.size = self._frontier.size
            body, before = self.words.body(before)
            last = self._block(body, changes_set=self._height % (blocks // self._changes) == 7)
            adoption.add_blocks([last])
            adoption.write(adoption.take_full())
        adoption.finish()
        return last.header

    def publish(self, log: Path, *, time_s: int) -> None:
        """Write the checkpoint of the tip below ``log``."""
        head = Checkpoint(self.genesis.origin, self._frontier.size, self._frontier.root())
        lines = [log_signed(head, self.signers[0])]
        lines += [cosigned(head, one, time_s=time_s) for one in self.signers]
        write_atomic(log / "checkpoint", SignedCheckpoint(head, tuple(lines)).encode())

    # ------------------------------------------------------------ blocks

    def _block(self, body: list[bytes], *, changes_set: bool = False) -> WholeBlock:
        self._height += 1
        self.words.time_ms += BLOCK_MS
        next_set, members = self._set, self._members
        if changes_set and self._rotated < self._changes:
            members = self._with_new_keys()
            records = tuple(one.member.record for one in members)
            next_set = SetLeaf(self._set.epoch + 1, self._set.digest(), records)
            body = [*body, next_set.encode()]
        has_root = is_due(self._height, changes_set=next_set is not self._set)
        header = Header(
            network=Sha256(self.words.network_id.hex()),
            height=self._height,
            parent=self._parent,
            prev_size=self._frontier.size,
            prev_root=Sha256(self._frontier.root().hex()),
            view=0,
            proposer=self._members[self._height % 4].id,
            time_ms=self.words.time_ms,
            n_leaves=len(body),
            body_root=Sha256(root(map(leaf_hash, body)).hex()),
            state_root=ZERO_SHA256,
            set=self._set.digest(),
            next_set=next_set.digest(),
            prev_epoch_height=self._epoch_height,
            parent_cert=sha256_of(self._certificate) if self._certificate else ZERO_SHA256,
            snapshot_root=self._root if has_root else None,
        )
        leaves = (header.encode(), *body)
        name = leaf_hash(leaves[0])
        block = WholeBlock(header, self._certified(name), self._certificate, leaves)
        self._certificate, self._parent = block.certificate, Sha256(name.hex())
        self._frontier = self._frontier.extend(map(leaf_hash, leaves))
        self.signers = self._members
        if next_set is not self._set:
            self._set, self._members, self._epoch_height = next_set, members, self._height
        return block

    def _certified(self, name: bytes) -> bytes:
        height, view, block = Height(self._height), View(0), Digest(name)
        signed = wire.vote_bytes(
            VoteKind.FINALIZE,
            height,
            view,
            block,
            chain_id=Digest(self.words.network_id),
            set_hash=self._set.to_consensus().set_hash,
        )
        signatures = tuple(one.sign["vote"](signed) for one in self._members[:3])
        certificate = Certificate(VoteKind.FINALIZE, height, view, block, (0, 1, 2), signatures)
        return wire.encode_certificate(certificate, n=len(self._members))

    def _with_new_keys(self) -> tuple[Identity, ...]:
        rotating = [
            place for place, one in enumerate(self._members) if one.id not in self._keeps_keys
        ]
        place = rotating[self._rotated % len(rotating)]
        self._rotated += 1
        old = self._members[place]
        new = renewed(old.member.record, identity(1_000 + self._rotated))
        return (*self._members[:place], new, *self._members[place + 1 :])

    # ------------------------------------------------------------ what the test asks for

    def _planted_blocks(self, planted: Sequence[Planted]) -> list[WholeBlock]:
        """Return blocks that ask for packages, accept them, and withdraw some."""
        asked, requests = [], []
        for each in planted:
            wish, leaf = self._request(each)
            asked.append(wish)
            requests.append(leaf)
        first = self._block(requests)
        documents = [self._document(*pair) for pair in zip(asked, planted, strict=True)]
        at = self._frontier.size + 1
        answers = self.words.answers(asked, ["accepted"] * len(asked), documents, batches_at=at)
        second = self._block(answers)
        entries = range(second.header.size - len(planted), second.header.size)
        statements: list[bytes] = []
        for wish, each, entry in zip(asked, planted, entries, strict=True):
            if each.is_withdrawn:
                self._closed.append(
                    (f"withdrawn/{entry}", second.header.size + 1 + len(statements))
                )
                statements.append(self._withdraw(wish, entry))
        return [first, second, self._block(statements)]

    def _request(self, planted: Planted) -> tuple[Asked, bytes]:
        _, leaf = self.words.request()
        value = {**json.loads(leaf), "purl": f"pkg:pypi/{planted.project}@1.0"}
        unsigned = {name: each for name, each in value.items() if name != "sigs"}
        named = hashlib.sha256(TRANSACTION_TAG + self.words.network_id + dumps(unsigned))
        return Asked(named.hexdigest(), planted.project, "1.0"), dumps(value)

    def _document(self, wish: Asked, planted: Planted) -> dict[str, Any]:
        document = self.words.document(wish)
        document["files"] = [planted.file]
        document["metadata"] |= {"requires": [], "requires_python": ""}
        return document

    def _withdraw(self, wish: Asked, entry: int) -> bytes:
        by = self.words.ids[0]
        return dumps(
            {
                "t": "withdraw",
                "v": 1,
                "by": by,
                "purl": wish.purl,
                "entry": entry,
                "reason": "taken back",
                "nonce": f"{entry:032x}",
                "sigs": [{"by": by, "sig": "0" * 128}],
            }
        )

    # ------------------------------------------------------------ state

    def _state(self, requests: int) -> Iterator[tuple[str, Pairs]]:
        """Yield the buckets of the state that so many requests leave behind, each time the same."""
        closed: dict[str, Pairs] = {}
        for key, leaf in sorted(self._closed):
            closed.setdefault(bucket_of(key), []).append((key.encode(), b"%d" % leaf))
        yield from closed.items()
        draw = random.Random(3)  # noqa: S311 - the same again, and no secret in it
        for kind, size in STATE_VALUES.items():
            for first in HEX:
                keys = [
                    f"{kind}/{first}{draw.randbytes(32).hex()[1:]}" for _ in range(requests // 16)
                ]
                if kind == "item":
                    keys = [f"{key}/{one}" for key in keys for one in self.words.ids]
                yield f"{kind}/{first}", [(key.encode(), draw.randbytes(size)) for key in keys]


def _sum_hash(pairs: Pairs, name: str) -> bytes:
    total = BucketSum()
    for key, value in pairs:
        total.add(key.decode(), value)
    return bucket_hash(name, total.value())
