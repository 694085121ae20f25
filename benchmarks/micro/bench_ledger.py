"""How fast the ledger executes attestations: items a second on one core, on real LevelDB.

Run: ``python -m benchmarks.micro.bench_ledger [--items 8800]``. CPU time of this process alone, so
that other work on the machine does not count. Prints JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from pathlib import Path

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.limits import BATCH_ITEMS_MAX
from pyrsia_node.model.purl import Purl
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

PARAMS = dataclasses.replace(DEFAULT_PARAMS, burst=1_000_000, open_max=1_000_000)
REQUESTS_A_BLOCK = 440
BATCHES_A_BLOCK = 8


def open_requests(local: LocalChain, count: int) -> list[Sha256]:
    """Commit ``count`` requests; return their ids."""
    ids: list[Sha256] = []
    for start in range(0, count, REQUESTS_A_BLOCK):
        signed = [
            local.sign(make.request(local.members[n % 4].id, purl=Purl.pypi("six", f"{n}")))
            for n in range(start, min(start + REQUESTS_A_BLOCK, count))
        ]
        block = local.build(*(each.encoded for each in signed))
        assert block is not None
        local.chain.commit(block, local.certify(block))
        ids += [each.id for each in signed]
    return ids


def measure_block(local: LocalChain, encoded: list[bytes], spent: dict[str, float]) -> None:
    """Commit one block; add to ``spent`` the CPU seconds of each step.

    ``admit`` reads the transactions and checks signatures, as for the mempool; ``execute`` judges
    a body that another node proposed, all hashes included; ``commit`` makes it durable.
    """
    proposer = Chain.open(local.store, local.genesis)
    block = proposer.build_body(
        height=local.chain.tip.height + 1,
        view=0,
        proposer=local.members[0].id,
        now_ms=local.now_ms,
        parent_certificate=local.parent_certificate(),
        transactions=encoded,
    )
    assert block is not None
    certificate = local.certify(block)
    started = time.process_time()
    for each in encoded:
        local.chain._admission.admit(each, local.chain.tip.set_leaf)  # noqa: SLF001 - a step alone
    admitted = time.process_time()
    checked = local.chain.check_body(block, local.chain.tip.height + 1, local.now_ms)
    executed = time.process_time()
    assert checked.valid, checked.reason
    local.chain.commit(block, certificate)
    spent["admit"] += admitted - started
    spent["execute"] += executed - admitted
    spent["commit"] += time.process_time() - executed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=8_800, help="items of all four members")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    count = arguments.items // 4 // BATCH_ITEMS_MAX * BATCH_ITEMS_MAX
    spent = {"admit": 0.0, "execute": 0.0, "commit": 0.0}
    with (
        tempfile.TemporaryDirectory() as folder,
        LevelDbStore(Path(folder) / "db", create=True) as store,
    ):
        local = LocalChain(store=store, params=PARAMS)
        ids = open_requests(local, count)
        batches = [
            [local.sign(make.batch(member.id, seq + 1, *map(make.built, ids[at : at + 110])))
             for seq, at in enumerate(range(0, count, BATCH_ITEMS_MAX))]
            for member in local.members
        ]  # fmt: skip
        for lane in batches:
            for at in range(0, len(lane), BATCHES_A_BLOCK):
                encoded = [each.encoded for each in lane[at : at + BATCHES_A_BLOCK]]
                measure_block(local, encoded, spent)
    items = 4 * count
    report = {
        "items": items,
        "items_per_second": {name: round(items / seconds) for name, seconds in spent.items()},
        "microseconds_per_item": {
            name: round(seconds / items * 1e6, 1) for name, seconds in spent.items()
        },
        "machine": {"python": platform.python_version(), "cores": os.cpu_count()},
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
