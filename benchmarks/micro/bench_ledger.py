"""What one member's ledger does for each attested item, step by step, on real LevelDB and SQLite.

Run: ``python -m benchmarks.micro.bench_ledger [--items 17600]``. CPU time of this process alone, so
that other work on the machine does not count; four such members and their network are
``macro.bench_consensus``. Prints JSON.

The steps: ``door`` reads a batch, checks its signature and judges it for the mempool; ``build``
makes one block in four, ``check`` judges the three that other members made, all hashes included;
``commit`` makes a block durable; ``review`` judges what waits on; ``tiles`` and ``index`` derive
what clients read.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.limits import BATCH_ITEMS_MAX
from pyrsia_node.model.purl import Purl
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

PARAMS = dataclasses.replace(DEFAULT_PARAMS, burst=1_000_000, open_max=1_000_000)
REQUESTS_A_BLOCK: Final = 440
MEMBERS: Final = 4


def open_requests(local: LocalChain, count: int) -> list[Sha256]:
    """Commit ``count`` requests; return their ids."""
    ids: list[Sha256] = []
    for start in range(0, count, REQUESTS_A_BLOCK):
        signed = [
            local.sign(make.request(local.members[n % MEMBERS].id, purl=Purl.pypi("six", f"{n}")))
            for n in range(start, min(start + REQUESTS_A_BLOCK, count))
        ]
        block = local.build(*(each.encoded for each in signed))
        assert block is not None
        local.chain.commit(block, local.certify(block))
        ids += [each.id for each in signed]
    return ids


class Member:
    """One member's ledger, with what it derives for clients."""

    def __init__(self, folder: Path, store: LevelDbStore) -> None:
        self.local = LocalChain(store=store, params=PARAMS)
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._mempool = Mempool()
        self._tiles = TileWriter(folder / "log")
        self._certificates = CertificateWriter(folder / "log")
        self._index = IndexWriter.current(folder, network_id=self.local.network_id)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started_s = time.process_time()
        yield
        self.spent[name] += time.process_time() - started_s

    def take(self, batch: bytes) -> None:
        """Let a batch into the mempool."""
        local = self.local
        with self.step("door"):
            info = local.chain.check_transaction(batch, local.now_ms)
            self._mempool.add(info, batch)

    def order(self) -> bool:
        """Order one block of what waits; False if nothing does."""
        local, chain = self.local, self.local.chain
        candidates = self._mempool.for_block()
        if not candidates:
            return False
        local.now_ms += 50
        height = chain.tip.height + 1
        if height % MEMBERS == 0:
            with self.step("build"):
                block = local.build(*candidates)
            assert block is not None
        else:
            block = self._of_another(candidates)
            with self.step("check"):
                checked = chain.check_body(block, height, local.now_ms)
            assert checked.valid, checked.reason
        certificate = local.certify(block)
        with self.step("commit"):
            committed = chain.commit(block, certificate)
        with self.step("review"):
            self._mempool.committed(committed.transaction_ids)
            self._mempool.review(lambda each: chain.check_transaction(each, local.now_ms))
        self.publish()
        return True

    def _of_another(self, candidates: list[bytes]) -> bytes:
        """Return the block that another member makes, who has the same chain and the same pool."""
        local = self.local
        other = Chain.open(local.store, local.genesis)
        block = other.build_body(
            height=other.tip.height + 1,
            view=0,
            proposer=local.members[1].id,
            now_ms=local.now_ms,
            parent_certificate=local.parent_certificate(),
            transactions=candidates,
        )
        assert block is not None
        return block

    def publish(self) -> None:
        """Derive tiles, certificates and index."""
        chain, tip = self.local.chain, self.local.chain.tip
        with self.step("tiles"):
            self._tiles.catch_up(chain, size=tip.size, root=bytes(tip.root))
            self._certificates.catch_up(chain, height=tip.height)
        with self.step("index"):
            self._index.catch_up(chain, size=tip.size)


def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the CPU seconds of each step for the answers of all members to ``count`` requests."""
    with LevelDbStore(folder / "db", create=True) as store:
        member = Member(folder, store)
        local = member.local
        ids = open_requests(local, count)
        member.publish()
        member.spent.clear()
        for seq, at in enumerate(range(0, count, BATCH_ITEMS_MAX), 1):
            for one in local.members:
                items = map(make.built, ids[at : at + BATCH_ITEMS_MAX])
                batch = local.sign(make.batch(one.id, seq, *items)).encoded
                member.take(batch)
        while member.order():
            pass
        return dict(member.spent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=17_600, help="items of all four members")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    count = arguments.items // MEMBERS // BATCH_ITEMS_MAX * BATCH_ITEMS_MAX
    with tempfile.TemporaryDirectory() as folder:
        spent = measure(Path(folder), count)
    items = MEMBERS * count
    each_us = {name: seconds / items * 1e6 for name, seconds in spent.items()}
    whole_us = sum(each_us.values())
    report = {
        "items": items,
        "microseconds_per_item": {name: round(value, 1) for name, value in each_us.items()},
        "microseconds_per_item_and_member": round(whole_us, 1),
        "items_per_second_of_one_core": round(1e6 / whole_us),
        "machine": {"python": platform.python_version(), "cores": os.cpu_count()},
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
