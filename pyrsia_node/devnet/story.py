"""What the demonstrations share: a network, clients at one of its nodes, steps on a screen.

A story starts every node as ``pyrsia-node run``, asks as users do, with the ``pyrsia`` command and
real clients, and ends with the reason where it does not see what it promises.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import PlannedNode
from pyrsia_node.devnet.screen import NodeRow, Screen
from pyrsia_node.model.errors import PyrsiaError

ENDED: Final = frozenset({"accepted", "diverged", "failed", "expired", "refused"})
BUILD_TIMEOUT_S: Final = 120.0
CLIENT_TIMEOUT_S: Final = 60.0


class StoryError(Exception):
    """A step did not show what it promises; the text says why."""


class Story:
    """One run of a demonstration in ``folder``, with a regular node as the user's own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Use a cluster that is made but not started."""
        self.cluster = cluster
        self.folder = folder
        self.http = httpx.Client(timeout=10.0, trust_env=False)
        self.screen = Screen(self._snapshot)
        self.regular = cluster.regulars[0]
        self._builds: dict[str, dict[str, Any]] = {}
        self._settings = folder / "pyrsia.toml"

    def tell(self, steps: Sequence[Callable[[], None]], *, end: str) -> int:
        """Take the steps in order, then print ``end``; return the exit code."""
        with self.screen as screen:
            for step in steps:
                try:
                    step()
                except (StoryError, PyrsiaError, httpx.HTTPError, OSError) as error:
                    screen.failed(str(error))
                    return 1
            screen.note(f"\nAll shown in {screen.elapsed_s:.0f} s: {end}")
        return 0

    def start(self) -> None:
        """Start every node and wait until the network stands; the first step of every story."""
        cluster, screen = self.cluster, self.screen
        screen.begin(
            f"start {len(cluster.members)} authorized and {len(cluster.regulars)} regular nodes"
        )
        cluster.start()
        self.wait(self._all_are_ready, "not every node is ready", timeout_s=60)
        cluster.wait_connected()
        token = Path(self.regular.data) / "admin.token"
        port = httpx.URL(self.regular.http_url).port
        self._settings.write_text(f'port = {port}\ntoken_file = "{token}"\n', encoding="utf-8")
        self.pyrsia("config", "trust", cluster.plan.trust)
        status = cluster.status(cluster.members[0].label)
        screen.done(
            f"network {cluster.plan.network[:16]}…, {status['note']}",
            "each node: supervisor, core (votes), gateway (bytes); authorized: build worker too",
        )

    def _all_are_ready(self) -> bool:
        self.cluster.check_running(*self.cluster.nodes)
        return all(self.cluster.ready(label) is not None for label in self.cluster.nodes)

    def request(self, *package: str) -> str:
        """Ask the regular node for a build with the ``pyrsia`` command; return its id."""
        shown = self.pyrsia("build", *package, "--no-wait", "--format", "csv")
        build_id = shown.strip().splitlines()[-1].split(",")[0]
        self._builds[build_id] = {"purl": package[-1], "state": "queued"}
        return build_id

    def finish(self, build_id: str) -> dict[str, Any]:
        """Return how a build ended; raises StoryError if it did not in time."""

        def is_done() -> bool:
            try:
                answer = self.http.get(f"{self.regular.http_url}/api/v1/builds/{build_id}")
            except httpx.HTTPError:
                return False
            if answer.status_code == httpx.codes.OK:
                self._builds[build_id] = answer.json()
            return self._builds[build_id]["state"] in ENDED

        self.wait(is_done, f"build {build_id} has no outcome", timeout_s=BUILD_TIMEOUT_S)
        return self._builds.pop(build_id)

    def expect(self, status: dict[str, Any], state: str) -> None:
        """Return when a build ended as expected and its entry is at the regular node.

        Raises:
            StoryError: it ended otherwise.
        """
        if status["state"] != state:
            raise StoryError(f"{status['purl']} is {status['state']}: {status.get('detail', '')}")
        self.wait(
            lambda: self.published(self.regular) > int(status["leaf_index"]),
            f"{self.regular.label} does not have the entry",
            timeout_s=30,
        )

    def leaf(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome leaf of a build that has ended."""
        url = f"{self.regular.http_url}/api/v1/entries/{status['leaf_index']}"
        leaf: dict[str, Any] = self.http.get(url).raise_for_status().json()["leaf"]
        return leaf

    def entries(self, status: dict[str, Any]) -> list[dict[str, Any]]:
        """Return every leaf about the package of a build, in the order of the log."""
        answer = self.http.get(
            f"{self.regular.http_url}/api/v1/inspect-log", params={"purl": status["purl"]}
        )
        entries: list[dict[str, Any]] = answer.raise_for_status().json()["entries"]
        return [entry["leaf"] for entry in entries]

    def label(self, peer_id: str) -> str:
        """Return a node's label, or the id where no node of ours has it."""
        return next((n.label for n in self.cluster.plan.nodes if n.peer_id == peer_id), peer_id)

    def published(self, node: PlannedNode) -> int:
        """Return how many leaves a node shows to its clients."""
        size = self.cluster.status(node.label)["published_size"]
        assert isinstance(size, int)
        return size

    def artifacts(self, node: PlannedNode) -> int:
        """Return how many blobs a node holds."""
        status = self.http.get(f"{node.http_url}/api/v1/status").raise_for_status().json()
        return int(status["gateway"]["blobs"])

    def pyrsia(self, *arguments: str, expect: int = 0) -> str:
        """Run the ``pyrsia`` command against the regular node; return what it printed."""
        return self._pyrsia(self._settings, arguments, expect)

    def pyrsia_at(self, node: PlannedNode, *arguments: str) -> str:
        """Run the ``pyrsia`` command as the admin of a node, against it; return what it printed."""
        settings = self.folder / f"{node.label}.toml"
        port, token = httpx.URL(node.http_url).port, Path(node.data) / "admin.token"
        trust = self.cluster.plan.trust
        text = f'port = {port}\ntoken_file = "{token}"\ntrust = "{trust}"\n'
        settings.write_text(text, encoding="utf-8")
        return self._pyrsia(settings, arguments, 0)

    def _pyrsia(self, settings: Path, arguments: Sequence[str], expect: int) -> str:
        program = str(Path(sys.executable).with_name("pyrsia"))
        environment = {"PYRSIA_CONFIG": str(settings), "COLUMNS": "200"}
        return self.command([program, *arguments], environment=environment, expect=expect)

    def command(
        self,
        command: Sequence[str],
        *,
        environment: dict[str, str] | None = None,
        expect: int = 0,
    ) -> str:
        """Run a client and return what it printed; pip's own settings do not count here."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, **(environment or {})},
        )
        deadline = time.perf_counter() + CLIENT_TIMEOUT_S
        while process.poll() is None and time.perf_counter() < deadline:
            self.screen.refresh()
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        if process.poll() is None:
            process.kill()
        out, err = process.communicate()
        if process.returncode != expect:
            raise StoryError(
                f"{Path(command[0]).name} {' '.join(command[1:4])}… ended with"
                f" {process.returncode}: {(err or out).strip()[-600:]}"
            )
        return out if expect == 0 else err

    def wait(self, is_done: Callable[[], bool], problem: str, *, timeout_s: float) -> None:
        """Wait, with the screen alive; raises StoryError that names the problem."""
        if not self.screen.wait(is_done, timeout_s=timeout_s):
            raise StoryError(f"{problem} after {timeout_s:g} s")

    def _snapshot(self) -> tuple[list[NodeRow], list[NodeRow]]:
        nodes = [self._node_row(node) for node in self.cluster.plan.nodes]
        builds: list[NodeRow] = []
        for status in self._builds.values():
            builds.append(
                (
                    str(status["purl"]),
                    str(status["state"]),
                    str(status.get("stage", "")),
                    str(status.get("detail", ""))[:60],
                )
            )
            builds += [
                ("  " + each["label"], each["state"], each["stage"], each["detail"][:60])
                for each in status.get("progress", [])
            ]
        return nodes, builds

    def _node_row(self, node: PlannedNode) -> NodeRow:
        if not self.cluster.is_running(node.label):
            return (node.label, node.role, "down", "", "", "")
        try:
            status = self.cluster.status(node.label)
        except PyrsiaError:
            return (node.label, node.role, "starting", "", "", "")
        leads = "leads" if status["leader"] == node.peer_id else ""
        return (
            node.label,
            node.role,
            str(status["height"]),
            str(status["size"]),
            str(status["peers_count"]),
            leads,
        )
