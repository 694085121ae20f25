"""Two nodes: one authorized, one regular that asks for what is missing; ``min_authorized`` is 1.

The story of a user and an administrator, in the order in which it happens to them: an image that
nobody has, an authority that comes, the log before and after, and a pull that asks by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.images import Recipe, busybox_image
from pyrsia_node.devnet.plan import parse_registry, with_registries
from pyrsia_node.devnet.stand_in import DebianRegistry, running_registry
from pyrsia_node.schema.config import Config
from tests.e2e.walking import Finished
from tests.integration.network.evidence import processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.story, pytest.mark.timeout(300)]

HOST: Final = "registry.example"
PULLED_S: Final = 100.0
COMMAND_S: Final = 240.0
PYRSIA: Final = Path(sys.executable).parent / "pyrsia"


@dataclass
class TwoNodes:
    """The network, its upstream, and a home for the command."""

    cluster: Cluster
    upstream: DebianRegistry
    home: Path

    @property
    def registry(self) -> str:
        """Return where the regular node serves images of the default registry."""
        return f"{self.cluster.nodes['regular-1'].http_url}/v2/library"

    def pyrsia(self, label: str, *words: str) -> Finished:
        """Run the command at a node."""
        node = self.cluster.nodes[label]
        port = node.http_url.rpartition(":")[2]
        settings = self.home / f"{label}.toml"
        settings.write_text(
            f'port = {port}\ntrust = "{self.cluster.plan.trust}"\n'
            f'token_file = "{node.layout.root / "admin.token"}"\n'
        )
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "COLUMNS": "200"}
        done = subprocess.run(
            [PYRSIA, *words],
            env={**environment, "PYRSIA_CONFIG": str(settings)},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def entries(self, image: str, kind: str) -> list[dict[str, Any]]:
        """Return what the log says about an image, as the regular node shows it."""
        words = ("inspect-log", "docker", "--image", image, "--format", "json")
        found = self.pyrsia("regular-1", *words).json()["entries"]
        return [each for each in found if each["type"] == kind]

    def manifest(self, name: str, tag: str) -> httpx.Response:
        """Ask the regular node for a tag, as a client without any ``Accept`` does."""
        return httpx.get(f"{self.registry}/{name}/manifests/{tag}", timeout=30)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    folder = tmp_path_factory.mktemp("two")
    with running_registry(folder / "upstream") as upstream:
        registry = parse_registry(f"{HOST}={upstream.url}")

        def configure(config: Config) -> Config:
            made = with_registries(config, [registry])
            is_asking = config.node.role == "regular"
            return replace(made, docker=replace(made.docker, request_on_miss=is_asking))

        with Cluster.create(
            folder / "net", authorized=1, regular=1, configure=configure
        ) as cluster:
            upstream.push(busybox_image(Recipe(says="3.16")), "library/alpine", "3.16")
            upstream.push(busybox_image(Recipe(says="3.17")), "library/alpine", "3.17")
            yield TwoNodes(cluster, upstream, folder)
    assert processes_of(folder) == {}


def test_wish_without_any_authority_does_not_succeed(two: TwoNodes) -> None:
    two.cluster.start("regular-1")
    two.cluster.wait_ready("regular-1")
    done = two.pyrsia("regular-1", "build", "docker", "--image", "alpine:3.16")
    assert done.code == 5
    assert "no authorized node is connected" in done.err


def test_image_is_built_once_an_authority_is_there_and_becomes_retrievable(two: TwoNodes) -> None:
    two.cluster.start("authorized-1")
    two.cluster.wait_ready("authorized-1")
    two.cluster.wait_connected()
    assert two.entries("alpine:3.16", "accepted") == []
    done = two.pyrsia("regular-1", "build", "docker", "--image", "alpine:3.16", "--no-wait")
    build_id = done.ok().out.split("b-")[1].split()[0]
    status = two.pyrsia("regular-1", "build", "status", "--id", f"b-{build_id}", "--wait")
    assert "accepted" in status.ok().out
    [entry] = two.entries("alpine:3.16", "accepted")
    until(lambda: two.manifest("alpine", "3.16").status_code == 200, "the manifest", PULLED_S)
    found = two.manifest("alpine", "3.16")
    wanted = busybox_image(Recipe(says="3.16"))
    assert found.content == wanted.root.data
    assert found.headers["docker-content-digest"] == wanted.digest
    assert wanted.digest.removeprefix("sha256:") in str(entry["leaf"])


def test_image_that_its_registry_does_not_have_is_refused_with_the_reason(two: TwoNodes) -> None:
    done = two.pyrsia("regular-1", "build", "docker", "--image", "no-such-image:1")
    assert done.code == 1
    assert "refused" in done.out
    assert two.entries("no-such-image:1", "build_request") == []


def test_status_of_an_unknown_build_names_it(two: TwoNodes) -> None:
    done = two.pyrsia("regular-1", "build", "status", "--id", "b-00000000deadbeef")
    assert done.code == 4
    for words in ("b-00000000deadbeef", "not found", "Failed to fetch"):
        assert words in done.err


def test_node_that_is_authorized_cannot_be_authorized_again(two: TwoNodes) -> None:
    peer = two.cluster.nodes["authorized-1"].peer_id
    done = two.pyrsia("authorized-1", "authorize", "--peer", peer)
    assert done.code == 2
    assert "already" in done.err


def test_pull_of_an_unknown_tag_is_unknown_at_once_and_asks_by_itself(two: TwoNodes) -> None:
    missing = two.manifest("alpine", "3.17")
    assert missing.status_code == 404
    [error] = missing.json()["errors"]
    assert error["code"] == "MANIFEST_UNKNOWN"
    assert "asked to import" in error["message"]
    until(lambda: two.manifest("alpine", "3.17").status_code == 200, "the pull", PULLED_S)
    assert two.manifest("alpine", "3.17").content == busybox_image(Recipe(says="3.17")).root.data
    assert len(two.entries("alpine:3.17", "accepted")) == 1
    assert len(two.entries("alpine:3.17", "build_request")) == 1, "many pulls, one request"
