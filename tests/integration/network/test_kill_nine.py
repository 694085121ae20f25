"""Nothing acknowledged is lost, and nobody needs help, when processes die at random moments."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import pytest

from pyrsia_node.devnet.cluster import Cluster, Process
from pyrsia_node.devnet.plan import PlannedNode
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.transactions import SignedTransaction, decode_transaction
from tests.integration.network.evidence import (
    assert_prefixes,
    leaves_on_disk,
    process_of,
    processes_of,
)
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until

COMMIT_S = 60.0
RETURN_S = 60.0
BACK_S, ANSWER_S = 1.0, 3.0
"""A killed core: when its successor exists, and when that answers."""


@dataclass
class Acknowledged:
    """Where a member said that transactions stand in the log."""

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, transaction: str, leaf: int, height: int) -> None:
        with self.lock:
            self.places[transaction] = (leaf, height)

    def count(self) -> int:
        with self.lock:
            return len(self.places)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.create(tmp_path / "net", authorized=4, regular=0) as made:
        made.start()
        made.wait_ready()
        made.wait_connected()
        yield made
    assert processes_of(tmp_path) == {}


def submit(
    cluster: Cluster, label: str, transaction: SignedTransaction, known: Acknowledged
) -> None:
    """Have a member take a transaction and say where it stands, however often its core dies."""
    is_taken = False

    def is_committed() -> bool:
        nonlocal is_taken
        try:
            found = cluster.call(label, "transaction", {"id": transaction.id}, timeout_s=5)
            if found["committed"]:
                known.add(transaction.id, int(str(found["leaf"])), int(str(found["height"])))
                return True
            if not is_taken:
                encoded = transaction.encoded.decode()
                cluster.call(label, "submit", {"transaction": encoded}, timeout_s=5)
                is_taken = True
        except PyrsiaError:
            pass  # The core is being restarted; a transaction that it took stays taken.
        return False

    until(is_committed, f"{label} commits {transaction.id}", COMMIT_S)


class Killer(threading.Thread):
    """Kills a random process of a random member, a random moment after random commits.

    It counts commits, not seconds: however busy the machine is, work goes on between the kills,
    and often the next victim dies before the last one is back.
    """

    def __init__(self, cluster: Cluster, rng: Random, known: Acknowledged) -> None:
        super().__init__(name="killer")
        self._cluster = cluster
        self._rng = rng
        self._known = known
        self._must_stop = threading.Event()
        self.kills: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._must_stop.is_set():
                wanted = self._known.count() + self._rng.randint(1, 5)
                while self._known.count() < wanted and not self._must_stop.wait(0.02):
                    pass
                if not self._must_stop.wait(self._rng.uniform(0.0, 0.3)):
                    self._kill_one()
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits for us
            self.error = error

    def stop(self) -> None:
        self._must_stop.set()
        self.join(RETURN_S)
        if self.error is not None:
            raise self.error

    def _kill_one(self) -> None:
        label = self._rng.choice(list(self._cluster.nodes))
        kinds: list[Process] = ["core", "core", "gateway", "worker", "node"]
        kind = self._rng.choice(kinds)
        node = self._cluster.nodes[label]
        if kind == "node":
            self._cluster.kill(label, "node")
            until(lambda: not processes_of(node.data), f"{label} leaves no orphan")
            self._cluster.start(label)
        else:
            # Asked of /proc, so that a process that is only just starting is hit as well.
            module = "buildpipelines.worker" if kind == "worker" else f"pyrsia_node.{kind}"
            pid = process_of(node, module)
            if pid is None:
                return
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                return
        self.kills.append(f"{label}/{kind}")


def run_transactions(cluster: Cluster, count: int, seed: int) -> tuple[Acknowledged, list[str]]:
    """Commit transactions, each member its share, while a killer is about."""
    rng = Random(seed)
    signing = Signing(cluster, rng)
    known = Acknowledged()
    labels = list(cluster.nodes)
    shares = {
        label: [signing.request(label, f"p{label[-1]}x{n}") for n in range(count // len(labels))]
        for label in labels
    }
    killer = Killer(cluster, rng, known)
    killer.start()

    def work(label: str) -> None:
        for transaction in shares[label]:
            submit(cluster, label, transaction, known)

    try:
        with ThreadPoolExecutor(len(labels)) as pool:
            list(pool.map(work, labels))
    finally:
        killer.stop()
    return known, killer.kills


def check_network(cluster: Cluster, known: Acknowledged) -> None:
    """Check that every member comes to the same log, that holds all that was acknowledged."""
    cluster.wait_ready(timeout_s=RETURN_S)
    last = max(leaf for leaf, _ in known.places.values())

    def is_level() -> bool:
        try:
            found = [cluster.status(label) for label in cluster.nodes]
        except PyrsiaError:
            return False
        sizes = {int(str(each[key])) for each in found for key in ("size", "published_size")}
        return len(sizes) == 1 and min(sizes) > last

    until(is_level, "all members have published the same size", RETURN_S)
    for label in cluster.nodes:
        for transaction, (leaf, height) in known.places.items():
            found = cluster.call(label, "transaction", {"id": transaction})
            assert found == {"committed": True, "leaf": leaf, "height": height}
    cluster.stop()
    logs = {node.label: leaves_on_disk(node) for node in cluster.members}
    assert_prefixes(logs)
    network_id = bytes.fromhex(cluster.plan.network)
    for leaves in logs.values():
        for transaction, (leaf, _) in known.places.items():
            assert decode_transaction(leaves[leaf], network_id=network_id).id == transaction


def survive(cluster: Cluster, count: int) -> None:
    seed = int(os.environ.get("PYRSIA_SEED", secrets.randbits(32)))
    sys.stdout.write(f"PYRSIA_SEED={seed}\n")
    started_s = time.perf_counter()
    known, kills = run_transactions(cluster, count, seed)
    seconds = time.perf_counter() - started_s
    told = f"{count} transactions in {seconds:.1f} s, {len(kills)} kills: {' '.join(kills)}\n"
    sys.stdout.write(told)
    assert len(known.places) == count
    assert kills
    check_network(cluster, known)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_acknowledged_transaction_is_lost_while_processes_are_killed(cluster: Cluster) -> None:
    survive(cluster, 40)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_two_hundred_transactions_survive_kills_of_any_process(cluster: Cluster) -> None:
    survive(cluster, 200)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_core_is_back_within_a_second_and_the_gateway_serves_on(cluster: Cluster) -> None:
    """The best of three counts, less what the core waited for a processor: the rest is ours."""
    node = cluster.nodes["authorized-2"]
    submit(
        cluster,
        node.label,
        Signing(cluster, Random(1)).request(node.label, "first"),
        Acknowledged(),
    )
    until(lambda: int(str(cluster.status(node.label)["published_size"])) > 0, "a checkpoint")
    times = []
    for _ in range(3):
        cluster.wait_ready(node.label)
        times.append(_time_a_kill(cluster, node.label))
        if times[-1][0] <= BACK_S and times[-1][1] <= ANSWER_S:
            return
    pytest.fail(f"seconds until back and until it answers: {times}")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_network_commits_while_its_leader_is_dead_and_the_leader_catches_up(
    cluster: Cluster,
) -> None:
    signing, known = Signing(cluster, Random(2)), Acknowledged()
    leader = str(cluster.status("authorized-1")["leader_label"])
    cluster.kill(leader, "node")
    assert processes_of(cluster.nodes[leader].data) == {}
    for label in (each for each in cluster.nodes if each != leader):
        submit(cluster, label, signing.request(label, f"without-{label[-1]}"), known)
    cluster.start(leader)
    check_network(cluster, known)


def waited_for_processor_s(node: PlannedNode) -> float:
    """Return how long a node's core was ready to run and other processes had the processors."""
    pid = process_of(node, "pyrsia_node.core")
    _, waiting_ns, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(waiting_ns) / 1e9


def _time_a_kill(cluster: Cluster, label: str) -> tuple[float, float]:
    """Kill a core; return when its successor exists and when it answers, in seconds."""
    node = cluster.nodes[label]
    gateway = cluster.pids(label)["gateway"]
    died_s = time.perf_counter()
    killed = cluster.kill(label, "core")
    back_s = 0.0

    def answers() -> bool:
        nonlocal back_s
        if not back_s and process_of(node, "pyrsia_node.core") not in {None, killed}:
            back_s = time.perf_counter() - died_s
        for path in ("/pypi/simple/", "/api/v1/status", "/log/checkpoint"):
            assert httpx.get(node.http_url + path, timeout=5).status_code == 200
        try:
            cluster.status(label)
        except PyrsiaError:
            return False
        return bool(back_s)

    until(answers, f"the core of {label} answers again", RETURN_S)
    answered_s = time.perf_counter() - died_s - waited_for_processor_s(node)
    cluster.wait_ready(label)
    assert cluster.pids(label)["gateway"] == gateway
    return back_s, answered_s
