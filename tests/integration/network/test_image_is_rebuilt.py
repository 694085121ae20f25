"""From ``build docker --context`` to the log: a real worker rebuilds what buildah published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.images import Recipe, busybox_image
from pyrsia_node.devnet.plan import parse_registry, with_registries
from pyrsia_node.devnet.stand_in import DebianRegistry, running_registry
from pyrsia_node.schema.config import Config
from tests.hostile.image_builds import Builder, File, context_tar, push_context
from tests.integration.network.evidence import leaves_on_disk, processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

BUILD_S = 180.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with running_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def cluster(tmp_path: Path, registry: DebianRegistry) -> Iterator[Cluster]:
    def configure(config: Config) -> Config:
        return with_registries(config, [parse_registry(f"{registry.host}={registry.url}")])

    with Cluster.create(tmp_path / "net", authorized=1, regular=0, configure=configure) as made:
        made.start()
        made.wait_ready(timeout_s=120)
        yield made
    assert processes_of(tmp_path / "net") == {}


def test_image_is_rebuilt_logged_by_its_digest_and_served_as_published(
    cluster: Cluster, registry: DebianRegistry, tmp_path: Path
) -> None:
    base = registry.push(busybox_image(Recipe(says="base")), "bases/busybox", "1")
    text = f"FROM {registry.host}/bases/busybox@{base}\nCOPY tool /opt/tool\n"
    files = {"Dockerfile": File(text.encode()), "tool": File(b"#!/bin/sh\n", mode=0o755)}
    builder = Builder(tmp_path / "builder")
    try:
        digest = builder.publish(files, registry, "tools/tool:1", "--format", "oci")
    finally:
        builder.remove()
    context = push_context(registry, "tools/tool-context", context_tar(files))
    asked = {"ecosystem": "docker", "name": f"{registry.host}/tools/tool", "version": "1"}
    started = cluster.call("authorized-1", "build", {**asked, "rebuild": {"context": context}})
    told: dict[str, Any] = {}

    def has_ended() -> bool:
        told.update(cluster.call("authorized-1", "build_status", {"build_id": started["build_id"]}))
        return told["state"] in {"accepted", "diverged", "failed", "expired", "refused"}

    until(has_ended, "the rebuild", BUILD_S)
    assert told["state"] == "accepted", told
    [accepted] = (
        each
        for each in map(json.loads, leaves_on_disk(cluster.members[0]))
        if each["t"] == "accepted"
    )
    assert accepted["doc"]["purl"] == f"pkg:docker/{registry.host}/tools/tool@{digest}"
    claims = {each["name"].partition("-")[0]: each["claim"] for each in accepted["doc"]["files"]}
    assert claims["root"] == claims["config"] == "rebuilt"
    [root] = (each for each in accepted["doc"]["files"] if each["name"].startswith("root-"))
    assert f"sha256:{root['sha256']}" == digest
    assert accepted["doc"]["contradicts"] == []
