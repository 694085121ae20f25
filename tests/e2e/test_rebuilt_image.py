"""An image is rebuilt from its context by an authorized node's worker, logged and pulled.

The published image is Debian's buildah's; everything between the command and the pull is real.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import parse_registry, with_registries
from pyrsia_node.devnet.stand_in import DebianRegistry, running_registry
from pyrsia_node.schema.config import Config
from tests.e2e.test_two_nodes import TwoNodes
from tests.fakes.images import Recipe, busybox_image
from tests.hostile.image_builds import Builder, File, Files, context_tar, push_context
from tests.integration.network.evidence import processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(400)]

SERVED_S = 100.0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    folder = tmp_path_factory.mktemp("rebuilt")
    with running_registry(folder / "upstream") as upstream:
        registry = parse_registry(f"{upstream.host}={upstream.url}")

        def configure(config: Config) -> Config:
            return with_registries(config, [registry])

        with Cluster.create(
            folder / "net", authorized=1, regular=1, configure=configure
        ) as cluster:
            for label in ("authorized-1", "regular-1"):
                cluster.start(label)
                cluster.wait_ready(label)
            cluster.wait_connected()
            yield TwoNodes(cluster, upstream, folder)
    assert processes_of(folder) == {}


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "builder")
    yield builder
    builder.remove()


def context(upstream: DebianRegistry, message: str) -> Files:
    base = upstream.push(busybox_image(Recipe(says="base")), "bases/busybox")
    text = (
        f"FROM {upstream.host}/bases/busybox@{base}\nCOPY note /opt/note\n"
        f"RUN echo {message} > /opt/message\nUSER 7\n"
    )
    return {"Dockerfile": File(text.encode()), "note": File(b"noted\n")}


def test_image_is_rebuilt_logged_as_rebuilt_and_the_published_bytes_are_served(
    two: TwoNodes, builder: Builder
) -> None:
    files = context(two.upstream, "hello")
    digest = builder.publish(files, two.upstream, "apps/hello:1", "--format", "oci")
    where = push_context(two.upstream, "apps/hello-context", context_tar(files))
    image = f"{two.upstream.host}/apps/hello@{digest}"
    done = two.pyrsia("regular-1", "build", "docker", "--image", image, "--context", where)
    assert "accepted" in done.ok().out
    [entry] = two.entries(image, "accepted")
    leaf = json.dumps(entry)
    assert '"rebuilt"' in leaf
    assert '"mirrored"' in leaf, "layers of the base were not built"
    url = two.cluster.nodes["regular-1"].http_url
    address = f"{url}/v2/f/{two.upstream.host}/apps/hello/manifests/{digest}"
    until(lambda: httpx.get(address, timeout=30).status_code == 200, "the manifest", SERVED_S)
    found = httpx.get(address, timeout=30)
    assert f"sha256:{hashlib.sha256(found.content).hexdigest()}" == digest
    for layer in found.json()["layers"]:
        blob = f"{url}/v2/f/{two.upstream.host}/apps/hello/blobs/{layer['digest']}"
        assert len(httpx.get(blob, timeout=60).raise_for_status().content) == layer["size"]


def test_image_whose_context_is_another_is_logged_as_a_contradiction_and_not_served(
    two: TwoNodes, builder: Builder
) -> None:
    digest = builder.publish(
        context(two.upstream, "one"), two.upstream, "apps/other:1", "--format", "oci"
    )
    packed = context_tar(context(two.upstream, "two"))
    where = push_context(two.upstream, "apps/other-context", packed)
    image = f"{two.upstream.host}/apps/other@{digest}"
    two.pyrsia("regular-1", "build", "docker", "--image", image, "--context", where).ok()
    [entry] = two.entries(image, "accepted")
    assert digest.removeprefix("sha256:") in json.dumps(entry["leaf"]["doc"]["contradicts"])
    url = two.cluster.nodes["regular-1"].http_url
    address = f"{url}/v2/f/{two.upstream.host}/apps/other/manifests/{digest}"
    assert httpx.get(address, timeout=30).status_code in {403, 404}
