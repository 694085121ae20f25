"""The demonstration: a whole network does its main job on real packages, live.

Nothing here is staged: every node is a ``pyrsia-node run``, every build a real rebuild in a
sandbox, the clients are pip and the ``pyrsia`` command. Each step says what it saw, or why the
demonstration ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import PlannedNode
from pyrsia_node.devnet.screen import NodeRow, Screen
from pyrsia_node.model.errors import PyrsiaError

FIRST: Final = ("six==1.17.0", "idna==3.10")
AFTER_KILL: Final = "iniconfig==2.1.0"
ONE_TAMPERS: Final = "toml==0.10.2"
TWO_TAMPER: Final = "mccabe==0.7.0"

ENDED: Final = frozenset({"accepted", "diverged", "failed", "expired", "refused"})
BUILD_TIMEOUT_S: Final = 120.0
CLIENT_TIMEOUT_S: Final = 60.0


class DemoError(Exception):
    """The demonstration did not show what it promises; the text says why."""


class Demo:
    """One run of the demonstration in ``folder``."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        """Use a cluster that is made but not started."""
        self._cluster = cluster
        self._folder = folder
        self._http = httpx.Client(timeout=10.0, trust_env=False)
        self._builds: dict[str, dict[str, Any]] = {}
        self._screen = Screen(self._snapshot)
        self._regular = cluster.regulars[0]
        self._settings = folder / "pyrsia.toml"

    def run(self) -> int:
        """Show everything; return the exit code."""
        steps = (
            self._start,
            self._rebuild,
            self._install,
            self._verify,
            self._kill_the_leader,
            self._one_tampers,
            self._two_tamper,
        )
        with self._screen as screen:
            for step in steps:
                try:
                    step()
                except (DemoError, PyrsiaError, httpx.HTTPError, OSError) as error:
                    screen.failed(str(error))
                    return 1
            screen.note(
                f"\nAll shown in {screen.elapsed_s:.0f} s: four nodes rebuilt from source, a"
                " quorum agreed, pip installed what the log vouches for, and lies were found out."
            )
        return 0

    # ------------------------------------------------------------ the steps

    def _start(self) -> None:
        cluster, screen = self._cluster, self._screen
        screen.begin(
            f"start {len(cluster.members)} authorized and {len(cluster.regulars)} regular nodes"
        )
        cluster.start()
        self._wait(self._all_are_ready, "not every node is ready", timeout_s=60)
        cluster.wait_connected()
        token = Path(self._regular.data) / "admin.token"
        port = httpx.URL(self._regular.http_url).port
        self._settings.write_text(f'port = {port}\ntoken_file = "{token}"\n', encoding="utf-8")
        self._pyrsia("config", "trust", cluster.plan.trust)
        status = cluster.status(cluster.members[0].label)
        screen.done(
            f"network {cluster.plan.network[:16]}…, {status['note']}",
            "each node: supervisor, core (votes), gateway (bytes); authorized: build worker too",
        )

    def _all_are_ready(self) -> bool:
        self._cluster.check_running(*self._cluster.nodes)
        return all(self._cluster.ready(label) is not None for label in self._cluster.nodes)

    def _rebuild(self) -> None:
        self._screen.begin(f"rebuild {' and '.join(FIRST)} from source on four nodes")
        started = [self._request(package) for package in FIRST]
        facts = []
        for package, build_id in zip(FIRST, started, strict=True):
            status = self._finish(build_id)
            self._expect(status, "accepted")
            leaf = self._leaf(status)
            attestors = leaf["attestors"]
            facts.append(
                f"{package}: {len(attestors)} equal results (k={leaf['k']}), level L{leaf['level']}"
                f", log entry {status['leaf_index']}"
            )
        self._screen.done(*facts)

    def _install(self) -> None:
        node = self._regular
        self._screen.begin(f"pip installs from {node.label} into a fresh environment")
        before = self._artifacts(node)
        place = self._folder / "venv"
        venv.create(place, with_pip=True)
        python = str(place / "bin/python")
        index = f"{node.http_url}/pypi/simple/"
        self._command(
            [
                *(python, "-m", "pip", "--isolated", "install", "--no-cache-dir", "--no-input"),
                *("--disable-pip-version-check", "--index-url", index, *FIRST),
            ]
        )
        shown = self._command(
            [python, "-c", "import six, idna; print(six.__version__, idna.__version__)"]
        )
        after = self._artifacts(node)
        if before != 0 or after < len(FIRST):
            raise DemoError(f"{node.label} held {before} artifacts before and {after} after")
        self._screen.done(
            f"import six, idna: {shown.strip()}",
            f"{node.label} held no artifact before and {after} now; its policy for everything"
            " else is deny, so all bytes came from peers",
        )

    def _verify(self) -> None:
        self._screen.begin("verify a file offline, with nothing but its proof and the trust file")
        page = self._http.get(
            f"{self._regular.http_url}/pypi/simple/six/",
            headers={"accept": "application/vnd.pypi.simple.v1+json"},
        ).raise_for_status()
        wheel = next(f for f in page.json()["files"] if f["filename"].endswith(".whl"))
        url = str(httpx.URL(f"{self._regular.http_url}/pypi/simple/six/").join(wheel["url"]))
        file = self._folder / wheel["filename"]
        bundle = self._folder / f"{wheel['filename']}.tlog-proof"
        file.write_bytes(self._http.get(url).raise_for_status().content)
        bundle.write_bytes(self._http.get(f"{url}.tlog-proof").raise_for_status().content)
        trust = self._cluster.plan.trust
        arguments = ("verify", str(file), "--bundle", str(bundle), "--trust", trust)
        self._pyrsia(*arguments)
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
        refused = self._pyrsia(*arguments, expect=3)
        self._screen.done(
            f"{wheel['filename']}: proof of {bundle.stat().st_size} bytes holds",
            f"one changed byte: {refused.strip().splitlines()[-1]}",
        )

    def _kill_the_leader(self) -> None:
        cluster = self._cluster
        leader = self._leader()
        self._screen.begin(f"kill {leader} with SIGKILL while it leads; the next build commits")
        cluster.kill(leader, "node")
        build_id = self._request(AFTER_KILL)
        status = self._finish(build_id)
        self._expect(status, "accepted")
        attested = len(self._leaf(status)["attestors"])
        cluster.start(leader)
        self._wait(lambda: self._has_caught_up(leader), f"{leader} did not catch up", timeout_s=45)
        self._screen.done(
            f"{AFTER_KILL}: accepted by the {attested} nodes that were left",
            f"{leader} came back and caught up to height {self._height(leader)}",
        )

    def _one_tampers(self) -> None:
        liar = self._cluster.members[0].label
        self._screen.begin(f"{liar} tampers with its build")
        self._tamper(liar, "one")
        status = self._finish(self._request(ONE_TAMPERS))
        self._expect(status, "accepted")
        self._wait(
            lambda: self._has_answered(status, liar), f"{liar}'s answer never came", timeout_s=60
        )
        seen = self._difference(status, liar)
        self._screen.done(
            f"{ONE_TAMPERS}: still accepted by the other three", f"the log says: {seen}"
        )

    def _two_tamper(self) -> None:
        liars = [member.label for member in self._cluster.members[:2]]
        self._screen.begin(f"{' and '.join(liars)} tamper with their builds")
        for number, liar in enumerate(liars):
            self._tamper(liar, f"two-{number}")
        status = self._finish(self._request(TWO_TAMPER))
        self._expect(status, "diverged")
        classes = self._leaf(status)["classes"]
        groups = [" + ".join(self._label(each) for each in one["ids"]) for one in classes]
        page = self._http.get(f"{self._regular.http_url}/pypi/simple/mccabe/")
        if page.status_code != 404:
            raise DemoError(f"{TWO_TAMPER} is served although nobody agreed on it")
        for liar in liars:
            self._tamper(liar, "")
        self._screen.done(
            f"{TWO_TAMPER}: DIVERGED, nothing is served",
            "who got what: " + " | ".join(groups),
        )

    # ------------------------------------------------------------ asking the network

    def _request(self, package: str) -> str:
        """Ask the regular node for a build with the ``pyrsia`` command; return its id."""
        shown = self._pyrsia("build", "pypi", package, "--no-wait", "--format", "csv")
        build_id = shown.strip().splitlines()[-1].split(",")[0]
        self._builds[build_id] = {"purl": package, "state": "queued"}
        return build_id

    def _finish(self, build_id: str) -> dict[str, Any]:
        def is_done() -> bool:
            try:
                answer = self._http.get(f"{self._regular.http_url}/api/v1/builds/{build_id}")
            except httpx.HTTPError:
                return False
            if answer.status_code == httpx.codes.OK:
                self._builds[build_id] = answer.json()
            return self._builds[build_id]["state"] in ENDED

        self._wait(is_done, f"build {build_id} has no outcome", timeout_s=BUILD_TIMEOUT_S)
        return self._builds.pop(build_id)

    def _expect(self, status: dict[str, Any], state: str) -> None:
        if status["state"] != state:
            raise DemoError(f"{status['purl']} is {status['state']}: {status.get('detail', '')}")
        self._wait(
            lambda: self._published(self._regular) > int(status["leaf_index"]),
            f"{self._regular.label} does not have the entry",
            timeout_s=30,
        )

    def _leaf(self, status: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._regular.http_url}/api/v1/entries/{status['leaf_index']}"
        leaf: dict[str, Any] = self._http.get(url).raise_for_status().json()["leaf"]
        return leaf

    def _entries(self, status: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self._http.get(
            f"{self._regular.http_url}/api/v1/inspect-log", params={"purl": status["purl"]}
        )
        entries: list[dict[str, Any]] = answer.raise_for_status().json()["entries"]
        return [entry["leaf"] for entry in entries]

    def _has_answered(self, status: dict[str, Any], label: str) -> bool:
        return bool(self._difference(status, label))

    def _difference(self, status: dict[str, Any], label: str) -> str:
        """Return what the log says about ``label``'s different build, "" while it is silent."""
        me = self._cluster.nodes[label].peer_id
        for leaf in self._entries(status):
            if leaf["t"] == "accepted" and any(each["id"] == me for each in leaf["differ"]):
                return f"{label} differs (in the accepted entry)"
            if leaf["t"] == "late_divergence" and leaf["id"] == me:
                return f"{label} differs (its late answer has an entry of its own)"
        return ""

    def _label(self, peer_id: str) -> str:
        return next((n.label for n in self._cluster.plan.nodes if n.peer_id == peer_id), peer_id)

    def _tamper(self, label: str, value: str) -> None:
        self._cluster.call(label, "set_fault", {"fault": "tamper", "value": value})

    def _leader(self) -> str:
        label = self._cluster.status(self._cluster.members[0].label)["leader_label"]
        assert isinstance(label, str)
        return label

    def _height(self, label: str) -> int:
        try:
            height = self._cluster.status(label)["height"]
        except PyrsiaError:
            return -1
        assert isinstance(height, int)
        return height

    def _published(self, node: PlannedNode) -> int:
        size = self._cluster.status(node.label)["published_size"]
        assert isinstance(size, int)
        return size

    def _has_caught_up(self, label: str) -> bool:
        others = [self._height(m.label) for m in self._cluster.members if m.label != label]
        return 0 <= max(others) <= self._height(label)

    def _artifacts(self, node: PlannedNode) -> int:
        status = self._http.get(f"{node.http_url}/api/v1/status").raise_for_status().json()
        return int(status["gateway"]["blobs"])

    # ------------------------------------------------------------ clients and the screen

    def _pyrsia(self, *arguments: str, expect: int = 0) -> str:
        program = str(Path(sys.executable).with_name("pyrsia"))
        environment = {"PYRSIA_CONFIG": str(self._settings), "COLUMNS": "200"}
        return self._command([program, *arguments], environment=environment, expect=expect)

    def _command(
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
            self._screen.refresh()
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        if process.poll() is None:
            process.kill()
        out, err = process.communicate()
        if process.returncode != expect:
            raise DemoError(
                f"{Path(command[0]).name} {' '.join(command[1:4])}… ended with"
                f" {process.returncode}: {(err or out).strip()[-600:]}"
            )
        return out if expect == 0 else err

    def _wait(self, is_done: Callable[[], bool], problem: str, *, timeout_s: float) -> None:
        if not self._screen.wait(is_done, timeout_s=timeout_s):
            raise DemoError(f"{problem} after {timeout_s:g} s")

    def _snapshot(self) -> tuple[list[NodeRow], list[NodeRow]]:
        nodes = [self._node_row(node) for node in self._cluster.plan.nodes]
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
        if not self._cluster.is_running(node.label):
            return (node.label, node.role, "down", "", "", "")
        try:
            status = self._cluster.status(node.label)
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
