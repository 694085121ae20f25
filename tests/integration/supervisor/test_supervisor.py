"""The supervisor with real children: respawn, order, refusals, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from pyrsia_node.cli.children import Ended, clean_line, start_child
from pyrsia_node.cli.supervisor import Supervisor
from tests.integration.supervisor.supervise import never_answer, plan, spec

REPOSITORY = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("supervise.py")


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_for(what: Callable[[], Any], timeout_s: float = 10) -> Any:
    """Poll until ``what`` returns something true: the only way to watch another process."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come true in {timeout_s} s")


class Node:
    """A supervise.py and what it wrote."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, folder, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def wait_until_all_serve(self) -> None:
        assert self.process.stdout is not None
        serving = 0
        while serving < 3:
            serving += "| serving" in self.process.stdout.readline()

    def ready(self) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads((self.folder / "ready.json").read_text())
        except FileNotFoundError:
            return None
        return document if len(document["pids"]) == 3 else None

    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = wait_for(self.ready)["pids"]
        return pids


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.process.kill()
    node.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_children_stop_in_order_and_the_node_ends_well(node: Node, number: signal.Signals) -> None:
    pids = node.pids()
    node.process.send_signal(number)
    output, _ = node.process.communicate(timeout=10)
    assert node.process.returncode == 0
    assert (node.folder / "order").read_text().split() == ["gateway", "worker", "core"]
    assert not any(is_alive(pid) for pid in pids.values())
    assert not (node.folder / "ready.json").exists()
    assert "core| serving, watched=True" in output
    assert "node| ready: http://127.0.0.1:1" in output


def test_second_signal_kills_at_once_what_the_first_did_not_stop(tmp_path: Path) -> None:
    node = Node(tmp_path, "deaf")
    pids = node.pids()
    try:
        node.process.send_signal(signal.SIGTERM)
        assert node.process.stdout is not None
        while "SIGTERM: stopping" not in node.process.stdout.readline():
            pass
        sent_s = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        output, _ = node.process.communicate(timeout=10)
        # Three deaf children in a row would have had five seconds each.
        assert time.monotonic() - sent_s < 4
        assert "SIGTERM again: killing the rest" in output
        assert not any(is_alive(pid) for pid in pids.values())
    finally:
        node.process.kill()
        node.process.communicate()


@pytest.mark.parametrize("name", ["core", "gateway", "worker"])
def test_killed_child_is_replaced_within_a_second_and_the_others_stay(
    node: Node, name: str
) -> None:
    before = node.pids()
    os.kill(before[name], signal.SIGKILL)
    killed_s = time.monotonic()

    def replaced() -> dict[str, int] | None:
        ready = node.ready()
        return ready["pids"] if ready is not None and ready["pids"][name] != before[name] else None

    after = wait_for(replaced)
    assert time.monotonic() - killed_s < 1.0
    assert {key: pid for key, pid in after.items() if key != name} == {
        key: pid for key, pid in before.items() if key != name
    }


def test_killed_supervisor_leaves_no_orphan(node: Node) -> None:
    pids = node.pids()
    node.wait_until_all_serve()
    node.process.kill()
    node.process.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in pids.values()))
    # They stopped in order by themselves, each in its own time.
    assert sorted((node.folder / "order").read_text().split()) == ["core", "gateway", "worker"]


def run(supervisor: Supervisor, timeout_s: float = 10) -> int:
    async def bounded() -> int:
        with trio.fail_after(timeout_s):
            return await supervisor.run()

    return trio.run(bounded)


class Lines:
    """Collects what a supervisor prints, and stops it when a line comes."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.stop_at = "no such line"
        self.supervisor: Supervisor | None = None

    def print(self, name: str, line: str) -> None:
        self.all.append(f"{name}| {line}")
        if self.stop_at in self.all[-1] and self.supervisor is not None:
            self.supervisor.stop()


def test_refusal_at_the_start_ends_the_run_with_its_reason_and_code(tmp_path: Path) -> None:
    lines = Lines()
    children = [
        spec("core", tmp_path, "refuse", "6", "height 7 is missing; run pyrsia-node fsck"),
        spec("gateway", tmp_path, "serve", str(tmp_path / "order"), "gateway"),
    ]
    starting = plan(tmp_path, *children, probe=never_answer)
    assert run(Supervisor(starting, lines.print)) == 6
    assert "node| core refuses to run: node.toml: height 7 is missing; run pyrsia-node fsck" in (
        lines.all
    )
    assert sum("refuses to run" in line for line in lines.all) == 1


def test_refusal_of_a_ready_node_leaves_the_others_running(tmp_path: Path) -> None:
    lines = Lines()
    order = str(tmp_path / "order")
    children = [
        spec("core", tmp_path, "refuse", "6", "height 7 is missing"),
        spec("gateway", tmp_path, "serve", order, "gateway"),
    ]
    supervisor = lines.supervisor = Supervisor(plan(tmp_path, *children), lines.print)
    lines.stop_at = "going on without core"
    assert run(supervisor) == 0
    assert Path(order).read_text().split() == ["gateway"]


def test_child_whose_disk_is_full_is_started_again_and_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    lines = Lines()
    full = tmp_path / "full"
    full.touch()

    def print_and_make_room(name: str, line: str) -> None:
        lines.print(name, line)
        if "starting it again" in line:
            full.unlink()

    children = [
        spec("core", tmp_path, "store", str(tmp_path / "db"), str(full)),
        spec("gateway", tmp_path, "serve", str(tmp_path / "order"), "gateway"),
    ]
    supervisor = lines.supervisor = Supervisor(plan(tmp_path, *children), print_and_make_room)
    lines.stop_at = "core| all is kept"
    assert run(supervisor) == 0
    assert sum("cannot be written" in line for line in lines.all) == 1
    (again,) = (line for line in lines.all if "starting it again" in line)
    assert again.startswith("node| core ")
    first, second = (at for at, line in enumerate(lines.all) if line.startswith("core| found"))
    assert lines.all[first] == "core| found 0"
    kept = sum(line.startswith("core| kept") for line in lines.all[first:second])
    assert 5 < kept <= int(lines.all[second].rpartition(" ")[2]) < 20


def test_node_goes_on_without_a_worker_that_refuses(tmp_path: Path) -> None:
    lines = Lines()
    order = str(tmp_path / "order")
    children = [
        spec("core", tmp_path, "serve", order, "core"),
        spec("gateway", tmp_path, "serve", order, "gateway"),
        spec("worker", tmp_path, "refuse", "2", "no bwrap here"),
    ]
    supervisor = lines.supervisor = Supervisor(plan(tmp_path, *children), lines.print)
    lines.stop_at = "going on without worker"
    assert run(supervisor) == 0
    assert Path(order).read_text().split() == ["gateway", "core"]


def test_node_that_never_starts_gives_up_with_the_last_words(tmp_path: Path) -> None:
    lines = Lines()
    children = [
        spec("core", tmp_path, "refuse", "5", "port 7888 is taken"),
        spec("gateway", tmp_path, "serve", str(tmp_path / "order"), "gateway"),
    ]
    starting = plan(tmp_path, *children, probe=never_answer)
    assert run(Supervisor(starting, lines.print), 30) == 5
    starts = [line for line in lines.all if "starting it again" in line]
    assert len(starts) == 5
    assert "node| core does not start: node.toml: port 7888 is taken" in lines.all


def test_child_that_ignores_everything_is_killed_in_time(tmp_path: Path) -> None:
    async def scenario() -> tuple[Ended, float]:
        child = start_child(spec("core", tmp_path, "deaf", stop_timeout_s=0.3))
        started = trio.Event()
        ends: list[Ended] = []

        async def listen() -> None:
            ends.append(await child.run(lambda _name, _line: started.set()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await started.wait()
            before_s = trio.current_time()
            await child.stop()
            took_s = trio.current_time() - before_s
        return ends[0], took_s

    ended, took_s = trio.run(scenario)
    assert ended.code == -signal.SIGKILL
    assert "killed by SIGKILL" in ended.describe()
    assert 0.3 <= took_s < 1.0


def test_grandchildren_end_with_their_child(tmp_path: Path) -> None:
    async def scenario() -> int:
        child = start_child(spec("core", tmp_path, "breed"))
        found: list[int] = []

        def note(_name: str, line: str) -> None:
            found.append(int(line.split()[1]))
            os.kill(child.pid, signal.SIGKILL)

        await child.run(note)
        return found[0]

    grandchild = trio.run(scenario)
    wait_for(lambda: not is_alive(grandchild))


def test_orphan_that_will_not_stop_ends_the_hard_way(tmp_path: Path) -> None:
    ends: list[Ended] = []

    async def scenario() -> None:
        child = start_child(spec("core", tmp_path, "stubborn", stop_timeout_s=30))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.stop)
            ends.append(await child.run(lambda _name, _line: None))

    trio.run(scenario)
    assert ends[0].code == 7


def test_hostile_output_is_bounded_and_cannot_drive_the_terminal(tmp_path: Path) -> None:
    printed = b"\x1b]0;owned\x07\xff\r\n" + b"x" * 10_000 + b"\nend\n"
    lines: list[str] = []

    async def scenario() -> None:
        child = start_child(spec("core", tmp_path, "print", printed.hex()))

        async def note_end() -> None:
            await child.stop()

        async with trio.open_nursery() as nursery:

            def note(_name: str, line: str) -> None:
                lines.append(line)
                if line == "end":
                    nursery.start_soon(note_end)

            await child.run(note)

    trio.run(scenario)
    assert lines[0] == "\\x1b]0;owned\\x07\ufffd"
    assert set("".join(lines[1:-1])) == {"x"}
    assert max(map(len, lines)) <= 4000
    assert lines[-1] == "end"


def test_clean_line_keeps_what_people_write() -> None:
    assert clean_line("größe\tok ✓\r".encode()) == "größe\tok ✓"
