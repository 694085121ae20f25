"""How fast the search index is made, followed and asked, over a log of a million entries.

The log is that of ``benchmarks.macro.realistic_log``: tiles on disk, a checkpoint with a quorum.
Bulk: the index is made from nothing, as ``pyrsia-node reindex`` and a new node do. Following:
blocks come at a given rate, and each transaction takes all that came during the one before, as a
node does (``replica.projection``); this is what is held against the targets. Beside it the worst
case, which a node never chooses: a transaction for each block, however many wait.
Queries go through ``IndexReader`` as the gateway's do, the values drawn from the log itself. Proofs
are made from the tiles and checked. The index that followed must have the same content as the one
made at once.

    python -m benchmarks.macro.bench_search [--entries 1000000] [--folder DIR] [--out FILE.json]

Targets are held against the wall's clock. Beside it stands what the processor took: on a machine
that others use as well, the difference is theirs. With ``--folder`` the log is kept and used again.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.macro.realistic_log import LogOnDisk, RealisticLog, write_log
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.index import IndexWriter, read_pointer, reindex
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.search import Order

TARGETS = {
    "bulk entries/s": (12_000, ">="),
    "following entries/s": (3_000, ">="),
    "lag at 4,000 entries/s, worst ms": (1_000, "<"),
    "exact purl p99 ms": (10, "<"),
    "exact hash p99 ms": (10, "<"),
    "reverse dependencies p99 ms": (200, "<"),
    "full text in log order p99 ms": (100, "<"),
    "proof p99 ms": (5, "<"),
}
FOLLOWED = 75_000
OFFERED_PER_S = 4_000
MIB = 1024 * 1024


@dataclass(frozen=True)
class Times:
    """What one kind of question took, in ms; ``processor_p99`` is without what others took."""

    p50: float
    p99: float
    worst: float
    processor_p99: float

    @classmethod
    def of(cls, seconds: Sequence[tuple[float, float]]) -> Times:
        ms = sorted(1000 * wall for wall, _ in seconds)
        processor_ms = sorted(1000 * processor for _, processor in seconds)
        at = min(len(ms) - 1, int(len(ms) * 0.99))
        figures = (statistics.median(ms), ms[at], ms[-1], processor_ms[at])
        return cls(*(round(each, 3) for each in figures))


class Clocks:
    """The wall's clock and the processor's, of one step: ``with clocks:``."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_error: object) -> None:
        wall, processor = self._began
        self.steps.append((time.perf_counter() - wall, time.process_time() - processor))


def measured(act: Callable[[Any], object], values: Sequence[Any]) -> Times:
    """Time one call for each value."""
    clocks = Clocks()
    for value in values:
        with clocks:
            act(value)
    return Times.of(clocks.steps)


def memory_mib(field: str) -> float:
    """Return a field of this process's memory: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return round(int(line.split()[1]) / 1024, 1)
    raise LookupError(field)


def bulk(root: Path, log: LogOnDisk, network: bytes) -> dict[str, float]:
    """Make the index at once."""
    before = memory_mib("VmRSS")
    started, cpu = time.perf_counter(), time.process_time()
    path = reindex(root, log, size=log.size, network_id=network)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    return {
        "entries": log.size,
        "seconds": round(seconds, 1),
        "processor seconds": round(used, 1),
        "entries/s": round(log.size / seconds),
        "entries a processor second": round(log.size / used),
        "memory growth MiB": round(memory_mib("VmHWM") - before, 1),
        "bytes an entry": round(path.stat().st_size / log.size),
    }


def follow(root: Path, log: LogOnDisk, network: bytes) -> dict[str, Any]:
    """Make the index up to the last blocks at once, then follow these in each way."""
    reindex(root, log, size=log.size - min(FOLLOWED, log.size // 2), network_id=network)
    with IndexWriter.current(root, network_id=network) as writer:
        ends = block_ends(log, writer.applied_size)
        third = len(ends) // 3
        before = memory_mib("VmRSS")
        found: dict[str, Any] = {"a transaction a block": one_by_one(writer, log, ends[:third])}
        # The processor's clock tells what the work takes, the wall's what this machine gave.
        rest = ends[third : 2 * third], ends[2 * third :]
        found["offered, processor"] = offered(writer, log, rest[0], time.process_time)
        found["offered, wall"] = offered(writer, log, rest[1], time.perf_counter)
        found["memory growth MiB"] = round(memory_mib("VmRSS") - before, 1)
        found["content"] = writer.dump_sha256()
        return found


def one_by_one(writer: IndexWriter, log: LogOnDisk, ends: Sequence[int]) -> dict[str, Any]:
    """Follow with a transaction for each block."""
    clocks = Clocks()
    first = writer.applied_size
    for end in ends:
        with clocks:
            writer.catch_up(log, size=end)
    seconds, used = (sum(each) for each in zip(*clocks.steps, strict=True))
    count = writer.applied_size - first
    return {
        "entries": count,
        "blocks": len(ends),
        "entries/s": round(count / seconds),
        "entries a processor second": round(count / used),
        "block ms": vars(Times.of(clocks.steps)),
    }


def offered(
    writer: IndexWriter, log: LogOnDisk, ends: Sequence[int], clock: Callable[[], float]
) -> dict[str, Any]:
    """Follow blocks that come at ``OFFERED_PER_S``; tell how long each waited to be found."""
    first, began = writer.applied_size, clock()
    lags: list[float] = []
    rounds = done = 0
    while done < len(ends):
        due = first + (clock() - began) * OFFERED_PER_S
        came = bisect.bisect_right(ends, due, lo=done)
        if came == done:
            continue  # on the processor's clock time passes only for who uses it
        writer.catch_up(log, size=ends[came - 1])
        now = clock() - began
        lags += [1000 * (now - (end - first) / OFFERED_PER_S) for end in ends[done:came]]
        done, rounds = came, rounds + 1
    lags.sort()
    return {
        "entries": ends[-1] - first,
        "entries/s": round((ends[-1] - first) / (clock() - began)),
        "blocks a transaction": round(len(ends) / rounds, 1),
        "lag p50 ms": round(statistics.median(lags), 1),
        "lag p99 ms": round(lags[int(len(lags) * 0.99)], 1),
        "lag worst ms": round(lags[-1], 1),
    }


def block_ends(log: LogOnDisk, start: int) -> list[int]:
    """Return the sizes after each block that begins after ``start``."""
    ends = []
    for at, leaf in enumerate(log.leaves(start, log.size), start):
        if leaf.startswith(b'{"body_root":'):
            header = json.loads(leaf)
            ends.append(at + 1 + int(header["n_leaves"]))
    return ends


class Asked:
    """Queries with values that stand in the log."""

    def __init__(self, index: Path, size: int) -> None:
        self._db = sqlite3.connect(index)
        self._random = random.Random(7)  # noqa: S311 - the same questions again
        self._size = size

    def values(self, statement: str, count: int) -> list[str]:
        """Return what a statement finds at random places."""
        found: list[str] = []
        while len(found) < count:
            row = self._db.execute(statement, (self._random.randrange(self._size),)).fetchone()
            if row is not None:
                found.append(row[0].hex() if isinstance(row[0], bytes) else str(row[0]))
        return found

    def popular(self, statement: str, count: int) -> list[str]:
        """Return the values that most entries have."""
        return [str(row[0]) for row in self._db.execute(statement, (count,))]


def queries(index: Path, size: int) -> dict[str, tuple[list[str], Order]]:
    """Return the questions of each kind, and the order of their answers."""
    ask = Asked(index, size)
    purls = ask.values("SELECT purl FROM unit WHERE leaf >= ? AND purl IS NOT NULL LIMIT 1", 2000)
    hashes = ask.values("SELECT value FROM tag WHERE leaf >= ? AND kind = 'blob' LIMIT 1", 2000)
    rare = ask.values("SELECT value FROM tag WHERE leaf >= ? AND kind = 'dep' LIMIT 1", 300)
    common = ask.popular(
        "SELECT value FROM tag WHERE kind = 'dep' GROUP BY value ORDER BY count(*) DESC LIMIT ?", 20
    )
    summaries = ask.values(
        "SELECT summary FROM description WHERE leaf >= ? AND summary <> '' LIMIT 1", 300
    )
    authors = ask.values(
        "SELECT author FROM description WHERE leaf >= ? AND author <> '' LIMIT 1", 100
    )
    words = [each.split()[0].lower() for each in summaries]
    pairs = [" ".join(each.lower().split()[1:3]) for each in summaries]
    dependencies = [f"dep:{each}" for each in rare + common * 5]
    return {
        "exact purl": (purls, "newest"),
        "exact hash": ([f"sha256:{each}" for each in hashes], "newest"),
        "all versions": ([each.partition("@")[0] for each in purls[:500]], "newest"),
        "reverse dependencies": (dependencies, "newest"),
        "forward dependencies": ([f"neededby:{each}" for each in purls[:200]], "newest"),
        "full text in log order": (words + pairs, "log"),
        "full text newest first": (words + pairs, "newest"),
        "ranked": (words[:40] + pairs[:40], "rank"),
        "author": ([f'author:"{each}"' for each in authors], "newest"),
        "hash prefix": ([f"sha256:{each[:12]}*" for each in hashes[:200]], "newest"),
        "purl pattern": ([f"{each[:14]}*" for each in purls[:100]], "newest"),
        "every package": (["pkg:pypi/*"] * 20, "newest"),
        "open": (["status:open"] * 20, "newest"),
        "accepted": (["status:accepted"] * 20, "newest"),
        "words of accepted": ([f"{each} status:accepted" for each in words[:100]], "newest"),
        "revoked": (["status:revoked"] * 20, "newest"),
        "only exclusion": (["-status:accepted"] * 20, "newest"),
        "long word beginning": ([f"{each[:3]}*" for each in words[:50]], "newest"),
        "one letter": ([f"{each}*" for each in "bdmst"], "newest"),
        "no common member": ([" ".join(words[at : at + 3]) for at in range(100)], "newest"),
        "alternatives": (
            [f"({a} OR dep:{b}) -{c}" for a, b, c in zip(words, rare, pairs, strict=True)],
            "newest",
        ),
    }  # fmt: skip


def ask_all(root: Path, index: Path, size: int) -> dict[str, Any]:
    """Ask everything; the first question of each kind also counts pages and hits."""
    reader = IndexReader(root)
    found: dict[str, Any] = {}
    for kind, (texts, order) in queries(index, size).items():
        hits: list[int] = []

        def ask(text: str, order: Order = order, hits: list[int] = hits) -> None:
            page, _ = reader.search(text, as_of=size, limit=50, order=order)
            hits.append(len(page.hits))

        times = measured(ask, texts)
        found[kind] = {"questions": len(texts), "mean hits": round(statistics.mean(hits), 1)}
        found[kind] |= {f"{name} ms": value for name, value in vars(times).items()}
        print(f"{kind:26} {found[kind]}", flush=True)
    reader.close()
    return found


def prove(root: Path, log: RealisticLog, size: int) -> dict[str, Any]:
    """Prove leaves at random places, once and again, and the header of their blocks with them.

    The first time, the tiles come from the disk unless the kernel happens to have them in memory.
    """
    verified = VerifiedLog(root / "log", log.trust)
    draw = random.Random(9)  # noqa: S311 - the same places again
    places = [draw.randrange(size) for _ in range(1000)]
    proofs = measured(verified.proof, places)
    leaves = measured(verified.leaf, places)
    again = measured(verified.proof, places)
    return {
        "proof": vars(proofs),
        "proof, asked again": vars(again),
        "leaf with its block": vars(leaves),
    }


def run(folder: Path, entries: int) -> dict[str, Any]:
    """Measure everything."""
    log = RealisticLog()
    root = folder / "node"
    root.mkdir(parents=True, exist_ok=True)
    on_disk = taken_up(root) or write_log(log, root / "log", entries)
    print(f"log of {on_disk.size} entries", flush=True)
    followed_root = folder / "followed"
    followed_root.mkdir(exist_ok=True)
    report: dict[str, Any] = {"bulk": bulk(root, on_disk, log.network_id)}
    print(report["bulk"], flush=True)
    pointer = read_pointer(root)
    assert pointer is not None
    with IndexWriter(root / pointer, network_id=log.network_id) as writer:
        content = writer.dump_sha256()
    os.sync()  # else the disk would still be writing what was just made while it is read
    report["queries"] = ask_all(root, root / pointer, on_disk.size)
    report["proofs"] = prove(root, log, on_disk.size)
    print(report["proofs"], flush=True)
    report["following"] = follow(followed_root, on_disk, log.network_id)
    print(report["following"], flush=True)
    report["same content"] = report["following"].pop("content") == content
    return report


def taken_up(root: Path) -> LogOnDisk | None:
    """Return the log that an earlier run left."""
    try:
        size = int((root / "log" / "checkpoint").read_text().splitlines()[1])
    except OSError:
        return None
    return LogOnDisk(root / "log", size)


def judged(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Hold the figures against their targets."""
    bulk_load, proof = report["bulk"], report["proofs"]["proof"]
    wall, own = (report["following"][f"offered, {clock}"] for clock in ("wall", "processor"))
    values = {
        "bulk entries/s": (bulk_load["entries/s"], bulk_load["entries a processor second"]),
        "following entries/s": (wall["entries/s"], own["entries/s"]),
        "lag at 4,000 entries/s, worst ms": (wall["lag worst ms"], own["lag worst ms"]),
        "proof p99 ms": (proof["p99"], proof["processor_p99"]),
    }
    for kind in ("exact purl", "exact hash", "reverse dependencies", "full text in log order"):
        times = report["queries"][kind]
        values[f"{kind} p99 ms"] = (times["p99 ms"], times["processor_p99 ms"])
    return {
        name: {
            "value": values[name][0],
            "processor": values[name][1],
            "target": f"{sign} {target}",
            "met": values[name][0] >= target if sign == ">=" else values[name][0] < target,
        }
        for name, (target, sign) in TARGETS.items()
    }


def main() -> int:
    """Measure, print, and keep the result; 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-search-") as temporary:
        report = run(arguments.folder or Path(temporary), arguments.entries)
    report["targets"] = judged(report)
    report["load"] = round(os.getloadavg()[0], 1)
    text = json.dumps(report, indent=1)
    print(json.dumps(report["targets"], indent=1))
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")
    met = report["same content"] and all(each["met"] for each in report["targets"].values())
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
