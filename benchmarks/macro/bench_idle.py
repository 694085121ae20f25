"""What a node costs when nobody asks anything of it, and how soon it serves after its start.

A network of four authorized nodes and a regular one, connected, is left alone until its memory
stands still. Memory is counted over all processes of a node: resident, and proportional (pages
that several processes share are divided among them, so the sum is what the node really takes).
Start: from `pyrsia-node run` until the index page is answered with 200, the rest of the network up.

    python -m benchmarks.macro.bench_idle [--starts 5] [--idle-seconds 15] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import trio

from benchmarks.macro.bench_consensus import one_commit
from benchmarks.macro.processes import ProcessorTime, descendants, memory_of
from pyrsia_node.devnet.cluster import Cluster

TARGET_MIB = 250.0
TARGET_START_S = 5.0
START_TIMEOUT_S = 60.0
POLL_S = 0.01
MIB = 1024 * 1024
NODES = ("authorized-1", "regular-1")


def memory(cluster: Cluster, label: str) -> dict[str, Any]:
    """Return a node's memory in MiB, by process and in all."""
    rows: list[dict[str, Any]] = []
    for pid, name in descendants(cluster.pids(label)["node"]).items():
        used = memory_of(pid)
        rows.append({"process": name, "rss": _mib(used.rss), "pss": _mib(used.pss)})
    total = {key: round(sum(row[key] for row in rows), 1) for key in ("rss", "pss")}
    return {"processes": rows, **total}


def _mib(count: int) -> float:
    return round(count / MIB, 1)


def idle_processor(cluster: Cluster, label: str, seconds: float) -> float:
    """Return the share of one processor that an idle node takes, in percent."""
    pids = list(descendants(cluster.pids(label)["node"]))
    before = ProcessorTime.of(pids)
    time.sleep(seconds)
    return round(100 * (ProcessorTime.of(pids) - before).used_s / seconds, 2)


def start(cluster: Cluster, label: str) -> dict[str, float]:
    """Start a stopped node; return the seconds until it serves, and what it waited in them."""
    started_s = time.perf_counter()
    cluster.start(label)
    _wait_until_serving(cluster, label)
    served_s = time.perf_counter() - started_s
    cluster.wait_ready(label)
    ready_s = time.perf_counter() - started_s
    gateway = [cluster.pids(label)["gateway"], cluster.pids(label)["node"]]
    return {
        "served_s": round(served_s, 3),
        "ready_s": round(ready_s, 3),
        "waited_for_processor_s": round(ProcessorTime.of(gateway).waited_s, 3),
    }


def _wait_until_serving(cluster: Cluster, label: str) -> None:
    url = f"{cluster.nodes[label].http_url}/pypi/simple/"
    deadline_s = time.perf_counter() + START_TIMEOUT_S
    while not _serves(url):
        assert time.perf_counter() < deadline_s, cluster.last_lines(label)
        time.sleep(POLL_S)


def _serves(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def run(folder: Path, starts: int, idle_s: float) -> dict[str, Any]:
    """Measure both kinds of node."""
    told: dict[str, Any] = {"benchmark": "macro.idle", "nodes": {}}
    with Cluster.create(folder / "net", authorized=4, regular=1) as cluster:
        cluster.start()
        cluster.wait_ready(timeout_s=120)
        cluster.wait_connected()
        trio.run(one_commit, cluster)
        for label in NODES:
            _wait_until_serving(cluster, label)
        time.sleep(idle_s)
        for label in NODES:
            found = memory(cluster, label)
            found["processor_percent"] = idle_processor(cluster, label, idle_s)
            found["starts"] = []
            told["nodes"][label] = found
        for label in NODES:
            for _ in range(starts):
                cluster.stop(label)
                told["nodes"][label]["starts"].append(start(cluster, label))
            served = [each["served_s"] for each in told["nodes"][label]["starts"]]
            told["nodes"][label]["start_s"] = round(statistics.median(served), 3)
    return told


def show(told: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'idle':34}{'PSS MiB':>9}{'RSS MiB':>9}")
    for label, node in told["nodes"].items():
        for row in node["processes"]:
            print(f"  {row['process']:32}{row['pss']:9.1f}{row['rss']:9.1f}")
        print(f"{label:34}{node['pss']:9.1f}{node['rss']:9.1f}")
        print(f"  first request served after {node['start_s']:.2f} s (median)")
        print(f"  {node['processor_percent']:.1f} % of a processor")


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_idle")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as folder:
        told = run(Path(folder), arguments.starts, arguments.idle_seconds)
    show(told)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    reached = all(
        node["pss"] < TARGET_MIB and node["start_s"] < TARGET_START_S
        for node in told["nodes"].values()
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
