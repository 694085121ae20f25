"""How soon a new node serves in a network with a long log, and how soon it has all of it.

The source is a real node (core, gateway and their supervisor) with a chain of a million entries in
its database (``benchmarks.macro.linked_log``: real headers, certificates, roots and twenty sets of
members; what is executed nowhere is made up), tiles, index and checkpoint. The newcomer is a real
node that knows the genesis and the source's address. Over loopback, on the same cores. Measured
from the start of its process:

* the first verified artifact: page and file of a package are served, and a withdrawn one is not;
* the history: its core holds the chain;
* the index: it answers an exact search over the whole log.

    python -m benchmarks.macro.bench_catchup [--blocks 60000] [--folder DIR] [--out FILE.json]

With ``--folder`` the source is kept and used again. A block has about 17 entries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.macro.joining_watch import JoiningWatch
from benchmarks.macro.linked_log import LinkedLog, Planted
from benchmarks.macro.processes import ProcessorTime, busy_s, descendants, memory_of
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import PLAN_FILE
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.ports import KeyValueStore
from tests.fakes.prepared_network import NEWCOMER, SOURCE, prepare
from tests.fakes.published_log import file_entry
from tests.strategies.identities import Identity

CONTENT = b"the bytes of a wheel" * 50_000
TARGETS = {"first artifact s": 30.0, "index s": 150.0}
PATIENCE_S = 3_600.0
MIB = 1024 * 1024
FILE = "planted-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GONE = "gone-1.0-py3-none-any.whl"


def make(folder: Path, blocks: int) -> Cluster:
    """Make the source and a newcomer below ``folder``."""

    def fill(store: KeyValueStore, members: tuple[Identity, ...], log: Path) -> Genesis:
        linked = LinkedLog(members=members, keeps_keys=[members[-1].id])
        planted = file_entry(FILE, CONTENT).to_json()
        gone = file_entry(GONE, b"gone").to_json()
        packages = [Planted("planted", planted), Planted("gone", gone, is_withdrawn=True)]
        linked.write(store, blocks=blocks, planted=packages)
        linked.publish(log, time_s=int(time.time()))
        return linked.genesis

    cluster = prepare(folder, fill, {FILE: CONTENT})
    shutil.copytree(folder / NEWCOMER, folder / "fresh")
    (folder / PLAN_FILE).write_text(cluster.plan.to_json())
    return cluster


def taken_up(folder: Path) -> Cluster:
    """Return what an earlier run made, with a newcomer as it was."""
    shutil.rmtree(folder / NEWCOMER)
    (folder / f"{NEWCOMER}.log").unlink(missing_ok=True)
    shutil.copytree(folder / "fresh", folder / NEWCOMER)
    return Cluster.load(folder)


class Stopwatch:
    """Times since the start of the newcomer, with what its processes had used by then."""

    def __init__(
        self, cluster: Cluster, client: httpx.Client, watch: JoiningWatch, started: float
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._watch = watch
        self._started = started
        self.told: dict[str, Any] = {}

    def wait(
        self, what: str, path: str = "", *, line: str = "", pause_s: float = 0.1
    ) -> httpx.Response | None:
        """Wait until the newcomer answers ``path`` with 200, or logs ``line``; note when.

        It looks every ``pause_s``: each look takes processor time from those who are measured.
        """
        url = self._cluster.nodes[NEWCOMER].http_url + path
        answer: httpx.Response | None = None
        while True:
            if line:
                if line in Path(self._cluster.nodes[NEWCOMER].log_file).read_text():
                    break
            elif (answer := asked(self._client, url)) is not None and answer.status_code == 200:
                break
            if self.seconds > PATIENCE_S or not self._cluster.is_running(NEWCOMER):
                raise RuntimeError(self._cluster.last_lines(NEWCOMER))
            self._watch.look()
            time.sleep(pause_s)
        processes = descendants(self._watch.newcomer)
        self.told[what] = {
            "s": round(self.seconds, 1),
            "processor s": self._watch.processor_s(),
            "waited for a processor s": round(ProcessorTime.of(processes).waited_s, 1),
            "memory MiB": round(sum(memory_of(pid).pss for pid in processes) / MIB),
        }
        print(what, self.told[what], flush=True)
        return answer

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self._started


def asked(client: httpx.Client, url: str) -> httpx.Response | None:
    """Return what a node answers, or None while nobody listens."""
    try:
        return client.get(url)
    except httpx.TransportError:
        return None


def join(cluster: Cluster, client: httpx.Client) -> dict[str, Any]:
    """Let the newcomer join; return what was measured."""
    cluster.start(SOURCE)
    cluster.wait_ready(SOURCE, timeout_s=PATIENCE_S)
    before, newcomer = busy_s(), cluster.nodes[NEWCOMER]
    started = time.perf_counter()
    cluster.start(NEWCOMER)
    while cluster.ready(NEWCOMER) is None:  # its supervisor says so before it has joined
        time.sleep(0.05)
    new, source = (cluster.pids(each)["node"] for each in (NEWCOMER, SOURCE))
    costs = JoiningWatch(new, source, Path(newcomer.data) / "log")
    watch = Stopwatch(cluster, client, costs, started)
    page = watch.wait("first page", "/pypi/simple/planted/")
    assert page is not None
    assert SHA256 in page.text
    file = watch.wait("first artifact", f"/pypi/files/{SHA256}/{FILE}")
    assert file is not None
    assert file.content == CONTENT
    gone = hashlib.sha256(b"gone").hexdigest()
    url = f"{newcomer.http_url}/pypi/files/{gone}/{GONE}"
    while (refused := asked(client, url)) is None or refused.status_code == 503:  # a busy peer
        time.sleep(0.1)
    assert "withdrawn by the network" in refused.text
    watch.wait("history", line="the history is here up to", pause_s=0.5)
    watch.wait("index", "/pypi/simple/", pause_s=0.5)
    height, size = (cluster.status(NEWCOMER)[name] for name in ("height", "size"))
    assert height == cluster.status(SOURCE)["height"]
    others = busy_s() - before - sum(costs.processor_s()[name] for name in ("sum", "source"))
    told = {"entries": size, "blocks": height, **watch.told, "memory": costs.memory()}
    return {**told, "processor s of all else on the machine": round(others, 1)}


def run(folder: Path, blocks: int) -> dict[str, Any]:
    """Measure."""
    started = time.perf_counter()
    cluster = taken_up(folder) if (folder / PLAN_FILE).exists() else make(folder, blocks)
    print(f"the source is made after {time.perf_counter() - started:.0f} s", flush=True)
    with cluster, httpx.Client(timeout=60) as client:
        told = {"benchmark": "macro.catchup", **join(cluster, client)}
    told["load"] = round(os.getloadavg()[0], 1)
    return told


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_catchup")
    parser.add_argument("--blocks", type=int, default=60_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-catchup-") as temporary:
        told = run(arguments.folder or Path(temporary) / "net", arguments.blocks)
    print(json.dumps(told, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    met = [told[name.removesuffix(" s")]["s"] < most for name, most in TARGETS.items()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
