"""A development network as a library: start, look at, kill, restart and stop its nodes.

Every node is a ``pyrsia-node run`` of its own, exactly as in production. Blocking calls, for tests,
benchmarks and the demo; from an event loop call them in a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import trio

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.core.link_client import call_once
from pyrsia_node.devnet.plan import NetworkPlan, PlannedNode, make_network, read_plan
from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.store.parent import PARENT_FD_VARIABLE

Process = Literal["node", "core", "gateway", "worker"]
"""Which process of a node; "node" is the supervisor."""

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 45.0
_POLL_S: Final = 0.05
_CALL_TIMEOUT_S: Final = 10.0
_LAST_LINES: Final = 15
_COMMAND: Final = (sys.executable, "-P", "-m", "pyrsia_node.cli", "run", "--data")


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a node's supervisor runs: a command before its own, and what that needs.

    Attributes:
        prefix: a program that becomes the command after it in the same process, as nsenter does.
        environment: variables beside those of this process.
        descriptors: open files that ``prefix`` or the node inherits.
    """

    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()


HERE: Final = Setting()
"""In the namespaces and the time of this process."""


class Cluster:
    """The nodes of one network. Use as a context manager: leaving it stops them all."""

    def __init__(
        self, plan: NetworkPlan, *, setting_of: Callable[[str], Setting] = lambda _label: HERE
    ) -> None:
        """Manage the network in ``plan``; nothing is started yet.

        ``setting_of`` is asked by label at each start of a node.
        """
        self.plan = plan
        self._setting_of = setting_of
        self.nodes: Mapping[str, PlannedNode] = {node.label: node for node in plan.nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Nodes stop by themselves when the last writing end closes, so also when we are killed.
        self._alive_reading, self._alive_writing = os.pipe()

    @classmethod
    def create(cls, folder: Path, *, authorized: int = 4, regular: int = 2, **options: Any) -> Self:
        """Make a new network in ``folder``; options as for ``make_network``.

        Raises:
            InvalidInputError, UnavailableError: as ``make_network``.
        """
        return cls(make_network(folder, authorized=authorized, regular=regular, **options))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Take up the network that was made in ``folder``.

        Raises:
            NotFoundError, InvalidInputError: as ``read_plan``.
        """
        return cls(read_plan(folder))

    @property
    def members(self) -> Sequence[PlannedNode]:
        """The authorized nodes."""
        return [node for node in self.plan.nodes if node.role == "authorized"]

    @property
    def regulars(self) -> Sequence[PlannedNode]:
        """The other nodes."""
        return [node for node in self.plan.nodes if node.role == "regular"]

    # ------------------------------------------------------------ starting and stopping

    def start(self, *labels: str) -> None:
        """Start nodes, all by default; returns before they are ready."""
        for label in labels or self.nodes:
            node, setting = self.nodes[label], self._setting_of(label)
            assert label not in self._processes, f"{label} runs already"
            with Path(node.log_file).open("ab") as log:
                self._processes[label] = subprocess.Popen(
                    [*setting.prefix, *_COMMAND, node.data],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        **os.environ,
                        **setting.environment,
                        PARENT_FD_VARIABLE: str(self._alive_reading),
                    },
                    pass_fds=(self._alive_reading, *setting.descriptors),
                    start_new_session=True,
                )

    def wait_ready(self, *labels: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until nodes, all by default, answer on their links.

        Raises:
            UnavailableError: one ended or took longer; the text has its last lines.
        """
        for label in labels or self.nodes:
            self._wait(
                partial(self._is_ready, label),
                f"{label} is not ready",
                timeout_s,
                labels=(label,),
            )

    def wait_connected(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every running member sees all running members, and others see one.

        Raises:
            UnavailableError: it took longer.
        """
        running = [label for label in self.nodes if label in self._processes]
        for label in running:
            self._wait(
                partial(self._is_connected, label, running),
                f"{label} is not connected",
                timeout_s,
                labels=(label,),
            )

    def stop(self, *labels: str) -> None:
        """Stop nodes in order, all by default, side by side; a stuck one is killed."""
        stopping = [label for label in labels or self.nodes if label in self._processes]
        for label in stopping:
            self._processes[label].send_signal(signal.SIGTERM)
        deadline_s = time.perf_counter() + STOP_TIMEOUT_S
        for label in stopping:
            process = self._processes.pop(label)
            try:
                process.wait(max(0.1, deadline_s - time.perf_counter()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self, label: str, process: Process = "core") -> int:
        """Kill one process of a node with SIGKILL; return the id that it had.

        The node's supervisor starts it again, unless it was the supervisor: then the others of
        this node have ended when this returns.

        Raises:
            UnavailableError: the node is not ready, or does not run that process.
        """
        if process == "node":
            return self._kill_node(label)
        pids = self.pids(label)
        if process not in pids:
            raise UnavailableError(f"{label} runs no {process}")
        os.kill(pids[process], signal.SIGKILL)
        return pids[process]

    def kill_all(self) -> None:
        """Kill every process of every node at once, as a power cut does; return when all are gone.

        A process that a supervisor has only just started ends by itself, as its pipe closes.
        """
        pids = {label: self._pids_on_file(label) for label in self._processes}
        for process in self._processes.values():
            process.kill()
        for pid in [pid for found in pids.values() for pid in found]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for label in list(self._processes):
            self._processes.pop(label).wait()
            self._wait_gone(label, pids[label])

    def restart(self, label: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Stop a node if it runs, start it, and wait until it is ready."""
        self.stop(label)
        self.start(label)
        self.wait_ready(label, timeout_s=timeout_s)

    def close(self) -> None:
        """Stop everything."""
        self.stop()
        for descriptor in (self._alive_reading, self._alive_writing):
            os.close(descriptor)

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.close()

    # ------------------------------------------------------------ looking

    def ready(self, label: str) -> dict[str, Any] | None:
        """Return what the node's readiness file says, or None while it is not ready."""
        try:
            text = self.nodes[label].layout.ready.read_text(encoding="utf-8")
            document: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            return None
        process = self._processes.get(label)
        # The file of a killed supervisor stays behind.
        is_current = process is not None and document.get("pid") == process.pid
        return document if is_current else None

    def pids(self, label: str) -> dict[str, int]:
        """Return the process ids of a ready node, the supervisor's as "node".

        Raises:
            UnavailableError: it is not ready.
        """
        ready = self.ready(label)
        if ready is None:
            raise UnavailableError(f"{label} is not ready")
        return {"node": int(ready["pid"]), **ready["pids"]}

    def status(self, label: str) -> JsonObject:
        """Return the core's status.

        Raises:
            PyrsiaError: it does not answer.
        """
        return self.call(label, "status", {})

    def call(
        self,
        label: str,
        method: str,
        params: Mapping[str, object],
        *,
        link: Literal["core", "gateway"] = "core",
        timeout_s: float = _CALL_TIMEOUT_S,
    ) -> JsonObject:
        """Call a method of a node's control link.

        Raises:
            PyrsiaError: what the node answered, or that it did not.
        """
        layout = self.nodes[label].layout
        path = layout.core_socket if link == "core" else layout.gateway_socket

        async def call() -> JsonObject:
            return await call_once(path, method, params, timeout_s=timeout_s)

        return trio.run(call)

    def last_lines(self, label: str) -> str:
        """Return the end of a node's log file."""
        text = Path(self.nodes[label].log_file).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LAST_LINES:])

    def is_running(self, label: str) -> bool:
        """Tell whether the node's supervisor runs."""
        process = self._processes.get(label)
        return process is not None and process.poll() is None

    def has_ended(self, label: str) -> bool:
        """Tell whether the node's supervisor was started, not stopped, and is gone."""
        return label in self._processes and not self.is_running(label)

    def check_running(self, *labels: str) -> None:
        """Raise UnavailableError, with a node's last lines, if one of ``labels`` has ended."""
        for label in labels:
            if not self.is_running(label):
                raise UnavailableError(f"{label} ended:\n{self.last_lines(label)}")

    def _kill_node(self, label: str) -> int:
        process = self._processes.pop(label)
        pids = self._pids_on_file(label)
        process.kill()
        process.wait()
        self._wait_gone(label, pids)
        return process.pid

    def _pids_on_file(self, label: str) -> list[int]:
        """Return the ids of a supervisor's children, as it last wrote them; [] before it did."""
        document = self.nodes[label].layout.ready
        if not document.exists():
            return []
        return list(json.loads(document.read_text()).get("pids", {}).values())

    def _wait_gone(self, label: str, pids: Sequence[int]) -> None:
        self._wait(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids),
            f"processes of {label} outlive their supervisor",
            STOP_TIMEOUT_S,
        )

    def _is_ready(self, label: str) -> bool:
        return self.ready(label) is not None

    def _is_connected(self, label: str, running: Sequence[str]) -> bool:
        try:
            status = self.status(label)
        except PyrsiaError:
            return False
        node = self.nodes[label]
        members = {member.peer_id for member in self.members if member.label in running}
        shown = status.get("set", [])
        assert isinstance(shown, list)
        connected = {member["id"] for member in shown if member["connected"]} | {node.peer_id}
        if node.role == "authorized":
            return members <= connected
        # A node that is still joining has peers and no log yet.
        return bool(status.get("peers_count")) and bool(status.get("size"))

    def _wait(
        self,
        is_done: Callable[[], bool],
        problem: str,
        timeout_s: float,
        labels: Sequence[str] = (),
    ) -> None:
        deadline_s = time.perf_counter() + timeout_s
        while not is_done():
            self.check_running(*labels)
            if time.perf_counter() > deadline_s:
                lines = "".join(f"\n{self.last_lines(label)}" for label in labels)
                raise UnavailableError(f"{problem} after {timeout_s:g} s{lines}")
            time.sleep(_POLL_S)
