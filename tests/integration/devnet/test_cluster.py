"""Whole nodes as processes of their own: started, killed in every way, started again.

The killing that Jepsen would do stands here process by process: nothing is orphaned, what died is
back in a second, and what did not die goes on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from pyrsia_node.devnet.cluster import Cluster, Process
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two members and a regular node; each test leaves them running."""
    folder = tmp_path_factory.mktemp("devnet") / "nodes"
    with Cluster.create(folder, authorized=2, regular=1) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.wait_connected()
        yield cluster


def wait_for(is_done: Callable[[], object], timeout_s: float) -> float:
    """Poll until ``is_done``; return how many seconds that took."""
    start_s = time.monotonic()
    while not is_done():
        assert time.monotonic() - start_s < timeout_s
        time.sleep(0.01)
    return time.monotonic() - start_s


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in descendants(int(child)))]


def test_every_node_knows_its_network_and_its_members(cluster: Cluster) -> None:
    for node in cluster.plan.nodes:
        status = cluster.status(node.label)
        assert status["network"] == cluster.plan.network
        assert status["label"] == node.label
        assert status["n"] == 2
        with urlopen(f"{node.http_url}/status") as answer:  # noqa: S310 - our own loopback node
            assert json.load(answer)["peer_id"] == node.peer_id


def test_readiness_file_tells_where_the_node_is_and_what_it_runs(cluster: Cluster) -> None:
    member, regular = cluster.members[0], cluster.regulars[0]
    ready = cluster.ready(member.label)
    assert ready is not None
    assert ready["http_url"] == member.http_url
    assert ready["data_url"] == member.data_url
    assert ready["peer_id"] == member.peer_id
    assert cluster.pids(member.label).keys() == {"node", "core", "gateway", "worker"}
    assert cluster.pids(regular.label).keys() == {"node", "core", "gateway"}


@pytest.mark.parametrize("process", ["core", "gateway", "worker"])
def test_killed_process_is_back_within_a_second_and_answers_soon(
    cluster: Cluster, process: Process
) -> None:
    label = cluster.members[1].label
    before = cluster.pids(label)
    cluster.kill(label, process)

    def is_replaced() -> bool:
        # The supervisor's children by name, without waiting until they answer.
        running = children_by_name(before["node"])
        return process in running and running[process] != before[process]

    back_s = wait_for(is_replaced, 10)
    assert back_s < 1.0
    answers_s = back_s + wait_for(lambda: cluster.ready(label), 30)
    # Three seconds is the promise on an idle machine; tests share theirs with other tests.
    assert answers_s < 20.0
    after = cluster.pids(label)
    assert {name for name in before if before[name] != after[name]} == {process}


def children_by_name(supervisor: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        try:
            command = Path(f"/proc/{text}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        for name in ("core", "gateway"):
            if f"pyrsia_node.{name}".encode() in command:
                found[name] = int(text)
        if b"buildpipelines.worker" in command:
            found["worker"] = int(text)
    return found


def test_gateway_answers_while_the_core_is_away(cluster: Cluster) -> None:
    node = cluster.members[1]
    pids = cluster.pids(node.label)
    os.kill(pids["core"], signal.SIGSTOP)
    try:
        with urlopen(f"{node.http_url}/api/v1/openapi.json") as answer:  # noqa: S310
            assert answer.status == 200
    finally:
        os.kill(pids["core"], signal.SIGCONT)


def test_killed_supervisor_takes_its_processes_along_and_the_node_starts_again(
    cluster: Cluster,
) -> None:
    label = cluster.members[0].label
    everything = descendants(cluster.pids(label)["node"])
    assert len(everything) >= 5  # supervisor, core, gateway, and the worker behind its mounts
    cluster.kill(label, "node")
    wait_for(lambda: all(is_gone(pid) for pid in everything), 15)
    cluster.start(label)
    cluster.wait_ready(label)
    cluster.wait_connected()


def test_second_run_of_a_running_node_names_the_first(cluster: Cluster) -> None:
    node = cluster.members[0]
    done = subprocess.run(
        [sys.executable, "-m", "pyrsia_node.cli", "run", "--data", node.data],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert f"in use by process {cluster.pids(node.label)['node']}" in done.stderr
    assert cluster.ready(node.label) is not None


def test_doctor_finds_nothing_to_mend_on_a_running_node(cluster: Cluster) -> None:
    node = cluster.members[0]
    command = [sys.executable, "-m", "pyrsia_node.cli", "doctor", "--data", node.data]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, check=False)
    findings = json.loads(done.stdout)
    assert done.returncode == 0, findings
    ports = [each["found"] for each in findings if each["check"] == "ports"]
    assert len(ports) == 3
    assert all(found.endswith("in use by this node") for found in ports)
    clocks = [each["found"] for each in findings if each["check"] == "clock"]
    assert any("against the median of" in found for found in clocks)


def test_stopped_node_leaves_no_socket_and_ends_well(cluster: Cluster) -> None:
    label = cluster.regulars[0].label
    everything = descendants(cluster.pids(label)["node"])
    cluster.stop(label)
    assert all(is_gone(pid) for pid in everything)
    layout = cluster.nodes[label].layout
    assert {path.name for path in layout.run.iterdir()} == {"lock", "derive.lock"}
    assert "Traceback" not in cluster.last_lines(label)
    cluster.start(label)
    cluster.wait_ready(label)


def test_network_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    folder = tmp_path / "nodes"
    command = [sys.executable, "-m", "pyrsia_node.cli", "devnet", "--authorized", "1"]
    with subprocess.Popen(
        [*command, "--regular", "0", "--dir", str(folder), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as devnet:
        assert devnet.stdout is not None
        assert devnet.stdout.readline() == "{\n"  # printed once every node is ready
        plan = json.loads((folder / "devnet.json").read_text())
        ready = json.loads((Path(plan["nodes"][0]["data"]) / "run/ready.json").read_text())
        everything = descendants(ready["pid"])
        devnet.kill()
        devnet.wait()
        wait_for(lambda: all(is_gone(pid) for pid in everything), 30)
        assert devnet.stderr is not None


def test_network_that_was_made_can_be_taken_up_again(cluster: Cluster) -> None:
    folder = Path(cluster.plan.genesis).parent
    again = Cluster.load(folder)
    assert again.plan == cluster.plan
    again.close()


def test_impossible_networks_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 1 authorized"):
        Cluster.create(tmp_path / "a", authorized=0, regular=1)
    with pytest.raises(NotFoundError, match=r"devnet\.json is missing"):
        Cluster.load(tmp_path)
    (tmp_path / "devnet.json").write_text('{"nodes": [{"label": 1}]}')
    with pytest.raises(InvalidInputError, match="is damaged"):
        Cluster.load(tmp_path)
    with pytest.raises(InvalidInputError, match="is not empty"):
        Cluster.create(tmp_path, authorized=1, regular=0)


def test_node_that_cannot_start_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with Cluster.create(tmp_path / "nodes", authorized=1, regular=0) as cluster:
        node = cluster.members[0]
        node.layout.node_key.chmod(0o644)
        cluster.start()
        with pytest.raises(UnavailableError, match=r"ended:\n.*can be read by others"):
            cluster.wait_ready()
