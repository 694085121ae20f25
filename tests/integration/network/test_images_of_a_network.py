"""Four nodes import an image, each from its own upstream: what k of them saw is what a tag is.

Two members share a registry, the others have one each, all real: so the upstreams can differ, as
mirrors of one registry do while a tag moves.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.images import Image, Recipe, two_platforms
from pyrsia_node.devnet.plan import parse_registry, with_registries
from pyrsia_node.devnet.stand_in import DebianRegistry, running_registry
from pyrsia_node.schema.config import Config
from tests.integration.network.evidence import leaves_on_disk, processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.story, pytest.mark.timeout(600)]

HOST: Final = "registry.example"
IMPORT_S: Final = 120.0
FOLLOW_S: Final = 180.0
ENDED: Final = {"accepted", "diverged", "failed", "expired", "refused"}


@dataclass
class Town:
    """The network and its upstreams."""

    cluster: Cluster
    shared: DebianRegistry
    third: DebianRegistry
    fourth: DebianRegistry

    def put(self, image: Image, repository: str, *registries: DebianRegistry) -> None:
        """Have a tag ``1`` be an image at these registries, at all by default."""
        for registry in registries or (self.shared, self.third, self.fourth):
            registry.push(image, repository, "1")

    def import_image(self, repository: str, label: str = "authorized-1") -> dict[str, Any]:
        """Have ``repository:1`` imported; return how that ended."""
        asked = {"ecosystem": "docker", "name": repository, "version": "1"}
        started = self.cluster.call(label, "build", asked)
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(
                self.cluster.call(label, "build_status", {"build_id": started["build_id"]})
            )
            return found["state"] in ENDED

        until(has_ended, f"the import of {repository}", IMPORT_S)
        return found

    def followed(self, label: str) -> list[dict[str, Any]]:
        """Return what a node follows."""
        found: Any = self.cluster.call(label, "follows", {})["follows"]
        return list(found)

    def leaves(self, kind: str, repository: str) -> list[dict[str, Any]]:
        """Return the published leaves of a kind about a repository, in the log's order."""
        found = [json.loads(leaf) for leaf in leaves_on_disk(self.cluster.members[0])]
        purl = f"pkg:docker/{HOST}/library/{repository}@1"
        return [
            each
            for each in found
            if each["t"] == kind and purl in (each.get("purl"), each.get("doc", {}).get("purl"))
        ]

    def items(self, request: str) -> dict[str, dict[str, Any]]:
        """Return what each member said of a request, by label."""
        labels = {node.peer_id: node.label for node in self.cluster.members}
        found = [json.loads(leaf) for leaf in leaves_on_disk(self.cluster.members[0])]
        return {
            labels[each["voter"]]: item
            for each in found
            if each["t"] == "attest_batch"
            for item in each["items"]
            if item["req"] == request
        }

    def roots(self, repository: str) -> list[str]:
        """Return the digests that the tag was, by the log."""
        return [
            "sha256:" + next(f["sha256"] for f in each["doc"]["files"] if f["name"][:5] == "root-")
            for each in self.leaves("accepted", repository)
        ]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        shared, third, fourth = (
            stack.enter_context(running_registry(folder / name)) for name in ("s", "t", "f")
        )
        mirrors = {"authorized-3": third, "authorized-4": fourth}

        def configure(config: Config) -> Config:
            registry = mirrors.get(config.node.label, shared)
            return with_registries(config, [parse_registry(f"{HOST}={registry.url}")])

        made = stack.enter_context(
            Cluster.create(folder / "net", authorized=4, regular=1, configure=configure)
        )
        made.start()
        made.wait_ready(timeout_s=120)
        made.wait_connected()
        yield Town(made, shared, third, fourth)
    assert processes_of(folder) == {}


def image(says: str) -> Image:
    """Return an image for two platforms."""
    return two_platforms(Recipe(says=says))


def test_image_of_two_platforms_is_what_four_nodes_saw(town: Town) -> None:
    town.put(image("hello"), "library/hello")
    ended = town.import_image("hello")
    assert ended["state"] == "accepted", ended
    [accepted] = town.leaves("accepted", "hello")
    wanted = image("hello")
    assert town.roots("hello") == [wanted.digest]
    assert len(accepted["attestors"]) >= accepted["k"] == 3
    assert {each["claim"] for each in accepted["doc"]["files"]} == {"mirrored"}
    digests = {f"sha256:{each['sha256']}" for each in accepted["doc"]["files"]}
    assert digests == {wanted.digest, *wanted.blobs, *(each.digest for each in wanted.children)}
    assert accepted["doc"]["metadata"]["keywords"] == ["linux/amd64", "linux/arm64"]
    said = town.items(accepted["req"])
    assert all(item["seen"] > 1_700_000_000_000 for item in said.values())


def test_regular_node_serves_what_the_log_says_with_every_upstream_off(town: Town) -> None:
    wanted = image("kept")
    town.put(wanted, "library/kept")
    assert town.import_image("kept")["state"] == "accepted"
    for registry in (town.shared, town.third, town.fourth):
        registry.stop()
    try:
        url = town.cluster.nodes["regular-1"].http_url + "/v2/library/kept"

        def is_served() -> bool:
            return httpx.get(f"{url}/manifests/1", timeout=30).status_code == 200

        until(is_served, "the regular node serves the tag", 30)
        found = httpx.get(f"{url}/manifests/1", timeout=30)
        assert (found.content, found.headers["docker-content-digest"]) == (
            wanted.root.data,
            wanted.digest,
        )
        for digest, data in wanted.blobs.items():
            assert httpx.get(f"{url}/blobs/{digest}", timeout=60).content == data
    finally:
        for registry in (town.shared, town.third, town.fourth):
            registry.start()


def test_one_upstream_that_has_another_digest_stops_nothing_and_is_on_record(town: Town) -> None:
    town.put(image("same"), "library/split", town.shared, town.third)
    town.put(image("other"), "library/split", town.fourth)
    assert town.import_image("split")["state"] == "accepted"
    [accepted] = town.leaves("accepted", "split")
    labels = {node.peer_id: node.label for node in town.cluster.members}
    assert {labels[each["id"]] for each in accepted["attestors"]} == {
        f"authorized-{n}" for n in (1, 2, 3)
    }
    until(
        lambda: "authorized-4" in town.items(accepted["req"]),
        "the fourth node has said what it saw",
    )
    told = town.items(accepted["req"])["authorized-4"]
    assert (told["outcome"], told["moved"]) == ("MOVED", image("other").digest)


def test_tag_that_two_upstreams_have_moved_fails_and_says_to_what(town: Town) -> None:
    old, new = image("old"), image("new")
    for registry in (town.third, town.fourth):
        registry.push(old, "library/moving", "1")
        registry.push(new, "library/moving", "1")
    town.put(old, "library/moving", town.shared)
    ended = town.import_image("moving")
    assert ended["state"] == "failed", ended
    [failed] = town.leaves("failed", "moving")
    assert len(failed["causes"]) == 2
    for cause in failed["causes"]:
        assert (cause["outcome"], cause["moved"]) == ("MOVED", new.digest)
        assert cause["seen"] > 1_700_000_000_000
    assert town.leaves("accepted", "moving") == []


def test_followed_tag_moves_in_the_log_by_itself_once_and_back(town: Town) -> None:
    first, second = image("first"), image("second")
    town.put(first, "library/followed")
    for label in ("authorized-1", "authorized-2"):
        asked = {"name": "followed", "version": "1", "every_s": 10}
        town.cluster.call(label, "follow", asked)
    until(lambda: town.roots("followed") == [first.digest], "the tag is imported", FOLLOW_S)
    town.put(second, "library/followed")
    steps = [first.digest, second.digest]
    until(lambda: town.roots("followed") == steps, "the tag has moved", FOLLOW_S)
    town.put(first, "library/followed")
    steps.append(first.digest)
    until(lambda: town.roots("followed") == steps, "the tag has moved back", FOLLOW_S)
    assert len(town.leaves("build_request", "followed")) == 3, "two followers, one request each"
    for label in ("authorized-1", "authorized-2"):
        [told] = town.followed(label)
        assert told["seen"] == told["logged"] == first.digest
        town.cluster.call(label, "unfollow", {"name": "followed", "version": "1"})


def test_regular_node_forwards_the_wish_with_its_platforms(town: Town) -> None:
    town.put(image("one platform"), "library/narrow")
    asked = {"ecosystem": "docker", "name": "narrow", "version": "1", "platforms": ["linux/arm64"]}
    started = town.cluster.call("regular-1", "build", asked)

    def state() -> object:
        params = {"build_id": started["build_id"]}
        return town.cluster.call("regular-1", "build_status", params)["state"]

    until(lambda: state() in ENDED, "the forwarded import", IMPORT_S)
    assert state() == "accepted"
    [accepted] = town.leaves("accepted", "narrow")
    assert accepted["doc"]["metadata"]["keywords"] == ["linux/arm64"]


def test_auditor_derives_the_same_verdicts(town: Town, tmp_path: Path) -> None:
    """Runs last in this module: the log has every kind of outcome about images by then."""
    node = town.cluster.members[0]
    command = [sys.executable, "-P", "-m", "pyrsia_node.cli", "audit", node.http_url]
    network = ["--network-id", town.cluster.plan.network]
    done = subprocess.run(
        [*command, *network], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
