"""One network for the end-to-end tests: four authorized nodes, one regular, six in the log.

The regular node's upstream is a closed port: what it serves can only come from its peers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.ports import free_ports
from pyrsia_node.schema.config import Config
from tests.integration.network.waiting import until

SIX: Final = "1.17.0"
BUILD_TIMEOUT_S: Final = 240.0
CLIENT_TIMEOUT_S: Final = 90.0
REPOSITORY: Final = Path(__file__).parents[2]
_NOTHING: Final[Mapping[str, str]] = {}
_BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    def ok(self) -> Finished:
        """Return itself; fail with what the command printed unless it ended with 0."""
        assert self.code == 0, f"ended with {self.code}\n{self.out}\n{self.err}"
        return self

    def json(self) -> Any:
        """Return what it printed, as JSON."""
        return json.loads(self.ok().out)


@dataclass(frozen=True)
class Walking:
    """The running network, and a home for clients that belongs to nobody else."""

    cluster: Cluster
    home: Path

    @property
    def url(self) -> str:
        """The regular node."""
        return self.cluster.nodes["regular-1"].http_url

    @property
    def index(self) -> str:
        """What clients are pointed at."""
        return f"{self.url}/pypi/simple/"

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Ask the regular node."""
        return httpx.get(self.url + path, headers=headers, timeout=30)

    def page(self, project: str = "six") -> dict[str, Any]:
        """Return a project's page."""
        answer = self.get(f"/pypi/simple/{project}/", accept="application/vnd.pypi.simple.v1+json")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wheel(self) -> dict[str, Any]:
        """Return the page's entry of six's wheel."""
        files = [each for each in self.page()["files"] if each["filename"].endswith(".whl")]
        assert len(files) == 1
        entry: dict[str, Any] = files[0]
        return entry

    def run(
        self,
        words: Sequence[object],
        *,
        folder: Path | None = None,
        timeout_s: float = CLIENT_TIMEOUT_S,
        environment: Mapping[str, str] = _NOTHING,
    ) -> Finished:
        """Run a client with nothing of this user's configuration."""
        done = subprocess.run(
            [*map(str, words)],
            cwd=folder or self.home,
            env={**self._environment(), **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYRSIA_CONFIG": str(self.home / "pyrsia.toml"),
            "COLUMNS": "200",
        }

    def pyrsia(self, *words: str, **environment: str) -> Finished:
        """Run the command."""
        command = [_BIN / "pyrsia", *words]
        return self.run(command, timeout_s=BUILD_TIMEOUT_S, environment=environment)

    def pip(self, *words: object) -> Finished:
        """Run pip, pointed at the regular node."""
        index = ["--no-cache-dir", "--index-url", self.index]
        command, *rest = words
        return self.run([sys.executable, "-m", "pip", command, *index, *rest])

    def new_environment(self, folder: Path) -> Path:
        """Make a fresh virtual environment and return its interpreter."""
        self.run([sys.executable, "-m", "venv", "--without-pip", folder]).ok()
        return folder / "bin" / "python"

    def empty_cache(self) -> None:
        """Let the regular node start again without any artifact, and forget what peers were."""
        node = self.cluster.nodes["regular-1"]
        self.cluster.stop(node.label)
        for folder in (node.layout.blobs, node.layout.partial):
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
        self.cluster.start(node.label)
        self.cluster.wait_ready(node.label)
        self.cluster.wait_connected()

    def restart_gateway(self) -> None:
        """Kill the regular node's gateway and wait for its successor."""
        cluster, label = self.cluster, "regular-1"
        killed = cluster.kill(label, "gateway")

        def is_back() -> bool:
            return cluster.ready(label) is not None and cluster.pids(label)["gateway"] != killed

        until(is_back, "the gateway is back", CLIENT_TIMEOUT_S)

    def transfers(self) -> list[dict[str, Any]]:
        """Return the regular node's downloads from peers since it started."""
        found: list[dict[str, Any]] = self.get("/api/v1/transfers").json()["transfers"]
        return found


def make_walking(folder: Path) -> Walking:
    """Make the network; it is not started yet."""
    closed = free_ports(1)[0]

    def configure(config: Config) -> Config:
        if config.node.role == "authorized":
            return config
        upstream = f"http://127.0.0.1:{closed}/simple/"
        return replace(config, pypi=replace(config.pypi, upstream=upstream, allow_private=True))

    home = folder / "home"
    home.mkdir()
    cluster = Cluster.create(folder / "net", authorized=4, regular=1, configure=configure)
    return Walking(cluster, home)


def start_walking(walking: Walking) -> Any:
    """Start the network, point the command at the regular node, and have six built."""
    cluster, node = walking.cluster, walking.cluster.nodes["regular-1"]
    cluster.start()
    cluster.wait_ready(timeout_s=120)
    cluster.wait_connected()
    port = node.http_url.rpartition(":")[2]
    token = node.layout.root / "admin.token"
    walking.pyrsia("config", "edit", "--port", port, "--token-file", str(token)).ok()
    walking.pyrsia("config", "trust", cluster.plan.trust).ok()
    return walking.pyrsia("build", "pypi", f"six=={SIX}", "--format", "json").json()
