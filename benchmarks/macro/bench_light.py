"""What a light client pays to follow a network over twenty changes of its member set, offline.

The chain is real (``tests.fakes.executed_log``): seven members, transactions that rotate keys, one
a block, certificates of a quorum. Measured: the bytes that the client takes in (set changes with
their proofs, the newest head with its cosignatures, the proof that it extends the head held), and
the time from those bytes to a believed head, each run from the trust file of the genesis.

    python -m benchmarks.macro.bench_light [--changes 20] [--runs 20] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.following import Following
from pyrsia_node.tlog.proofs import make_consistency_proof
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.identities import identity
from tests.strategies.small_logs import TIME_S, SmallLog, cosigned, log_signed

MEMBERS = 7
TARGET_MS = 1_000
TARGET_BYTES = 150_000


@dataclass(frozen=True)
class Brought:
    """What a client is given: before, a trust file and a head; then news."""

    trust_file: bytes
    note: bytes
    newer: bytes
    newer_note: bytes
    proof: tuple[bytes, ...]

    @property
    def bytes_taken(self) -> int:
        """Bytes of the news."""
        return len(self.newer) + len(self.newer_note) + sum(map(len, self.proof))


def signed_head(local: LocalChain) -> bytes:
    """Return the head of the tip, cosigned by everybody who signs it."""
    tip = local.chain.tip
    head = Checkpoint(local.genesis.origin, tip.size, tip.root)
    lines = [log_signed(head, local.members[0])]
    lines += [cosigned(head, member) for member in local.members]
    return SignedCheckpoint(head, tuple(lines)).encode()


def grown(changes: int) -> Brought:
    """Make a network, show its first head, and change its set so many times."""
    local = LocalChain(MEMBERS)
    local.commit(*local.set_param("burst", 65))
    first, first_size = signed_head(local), local.chain.tip.size
    for number in range(changes):
        member = local.members[number % MEMBERS].id
        local.commit(*local.rotate(member, identity(1_000 + number)))
    local.commit(*local.set_param("burst", 66))
    size = local.chain.tip.size
    log = SmallLog(local.genesis.origin, list(local.chain.leaves(0, size)))
    return Brought(
        trust_file=TrustFile(local.genesis.encode()).encode(),
        note=first,
        newer=TrustFile(local.genesis.encode(), tuple(set_changes(local.chain))).encode(),
        newer_note=signed_head(local),
        proof=make_consistency_proof(log, old_size=first_size, new_size=size),
    )


def follow(brought: Brought) -> tuple[float, float]:
    """Return milliseconds on the clock and of processor from the bytes to a believed head."""
    held = Following.load(brought.trust_file, brought.note)
    started, used = time.perf_counter(), time.process_time()
    newer = held.with_newer(TrustFile.parse(brought.newer))
    newer = newer.with_head(brought.newer_note, brought.proof, now_s=TIME_S)
    ended, used_until = time.perf_counter(), time.process_time()
    assert newer.head is not None
    assert newer.head.epoch == newer.trust.current.epoch
    return 1000 * (ended - started), 1000 * (used_until - used)


def run(changes: int, runs: int) -> dict[str, Any]:
    """Measure."""
    brought = grown(changes)
    times = [follow(brought) for _ in range(runs)]
    clock = [each for each, _ in times]
    return {
        "benchmark": "macro.light",
        "members": MEMBERS,
        "set changes": changes,
        "bytes": brought.bytes_taken,
        "bytes a change": round(len(brought.newer) / changes),
        "ms, median": round(statistics.median(clock), 1),
        "ms, worst": round(max(clock), 1),
        "processor ms, median": round(statistics.median(used for _, used in times), 1),
        "runs": runs,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_light")
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    told = run(arguments.changes, arguments.runs)
    for name, value in told.items():
        print(f"{name:24} {value}")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    met = told["ms, median"] < TARGET_MS and told["bytes"] < TARGET_BYTES
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
