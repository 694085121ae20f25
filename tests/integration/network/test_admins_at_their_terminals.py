"""Admins let a node in, set a parameter, exchange keys, take a node out: by commands alone."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.motions import Members
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FIRST, SECOND = "authorized-1", "authorized-2"
INVALID = 2
WAIT_S = 60.0
BIN = Path(sys.executable).parent


@dataclass
class Terminals:
    """A command line for each node of ``cluster``."""

    cluster: Cluster
    home: Path

    def run(self, label: str, *words: str, code: int = 0) -> str:
        """Run ``pyrsia`` against a node; return what it printed, errors where it must fail."""
        node = self.cluster.nodes[label]
        settings = self.home / f"{label}.toml"
        port, token = node.http_url.rpartition(":")[2], node.layout.root / "admin.token"
        settings.write_text(f'port = {port}\ntoken_file = "{token}"\n')
        return self._run([str(BIN / "pyrsia"), *words], settings, code)

    def node(self, label: str, *words: str) -> str:
        """Run ``pyrsia-node`` on a node's data directory."""
        data = self.cluster.nodes[label].data
        return self._run([str(BIN / "pyrsia-node"), *words, "--data", data], Path(os.devnull), 0)

    def _run(self, command: list[str], settings: Path, code: int) -> str:
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8"}
        done = subprocess.run(
            command,
            env={**kept, "PYRSIA_CONFIG": str(settings), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    def nodes(self, label: str) -> Members:
        """Return what ``pyrsia nodes`` would show; starting it each time would cost too much."""
        return Members.parse(self.cluster.call(label, "members", {}))

    def peer_id(self, label: str) -> str:
        """Return a node's peer id, "" while its core is away."""
        try:
            return str(self.cluster.status(label)["peer_id"])
        except PyrsiaError:
            return ""

    def approve(self, label: str, title: str) -> None:
        """Approve the only motion, which must be the one of this title."""

        def is_known() -> bool:
            return [each.title[: len(title)] for each in self.nodes(label).motions] == [title]

        until(is_known, f"{label} knows: {title}", WAIT_S)
        (motion,) = self.nodes(label).motions
        assert motion.missing == [label]
        assert title in self.run(label, "approve", motion.subject[:8], "--yes")


def without_builds(config: Config) -> Config:
    return replace(config, build=replace(config.build, enabled=False))


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Terminals]:
    made = Cluster.create(
        tmp_path / "net", authorized=2, regular=0, founders=1, configure=without_builds
    )
    with made as cluster:
        cluster.start()
        cluster.wait_ready()
        yield Terminals(cluster, tmp_path)


def test_a_node_is_admitted_rotated_and_removed_by_commands_alone(at: Terminals) -> None:
    newcomer = at.cluster.nodes[SECOND]
    for command in ("nodes", "status"):
        assert "f=0: one node down halts the log" in at.run(FIRST, command)
    assert "only authorized nodes" in at.run(SECOND, "set-param", "burst", "9", code=5)
    refused = at.run(FIRST, "remove", "--peer", "west", code=INVALID)
    assert "west is no authorized node; there are authorized-1" in refused

    until(
        lambda: at.cluster.status(FIRST)["peers_count"] != 0, "the candidate is connected", WAIT_S
    )
    shown = at.run(FIRST, "authorize", "--peer", newcomer.peer_id)
    assert shown.startswith(f"add {SECOND} ({newcomer.peer_id})")
    until(lambda: at.cluster.status(SECOND)["n"] == 2, "the newcomer knows", WAIT_S)
    rows = list(csv.DictReader(io.StringIO(at.run(SECOND, "nodes", "--format", "csv"))))
    assert [(row["label"], row["standing"]) for row in sorted(rows, key=lambda r: r["label"])] == [
        (FIRST, "authorized"),
        (SECOND, "authorized"),
    ]

    assert "approved by 1 of 2; not yet by authorized-2" in at.run(FIRST, "set-param", "burst", "9")
    at.approve(SECOND, "set burst = 9")
    until(lambda: at.nodes(FIRST).params["burst"] == 9, "the parameter is set", WAIT_S)

    assert "pyrsia-node rotate-key" in at.run(SECOND, "rotate-key", code=INVALID)
    made = at.node(SECOND, "rotate-key")
    renewed = made.partition("next peer id  ")[2].split()[0]
    at.run(SECOND, "rotate-key")
    at.approve(FIRST, f"new keys for {SECOND}")

    def is_renewed() -> bool:
        return at.cluster.ready(SECOND) is not None and at.peer_id(SECOND) == renewed

    until(is_renewed, "the node goes on with its new keys", WAIT_S)
    until(lambda: all(m.connected for m in at.nodes(FIRST).members), "both meet", WAIT_S)

    at.run(SECOND, "remove", "--peer", SECOND)
    at.approve(FIRST, f"remove {SECOND}")
    until(lambda: at.nodes(FIRST).n == 1, "the node is out", WAIT_S)
    at.run(FIRST, "set-param", "burst", "10")
    until(lambda: at.nodes(SECOND).params["burst"] == 10, "it still follows", WAIT_S)
