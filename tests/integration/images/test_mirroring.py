"""Importing images from a real registry: everything fetched, checked, shared, and seen."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pyrsia_node.artifacts.images.intakes import Intakes
from pyrsia_node.artifacts.images.mirror import ImageMirror, MirrorParts
from pyrsia_node.artifacts.images.upstreams import Upstreams
from pyrsia_node.gateway.clock import SystemClock
from pyrsia_node.gateway.mirror_jobs import MirrorJobs
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.schema.mirroring import Look, MirrorStatus
from pyrsia_node.schema.upstreams import RegistryUpstream
from pyrsia_node.store.blobs import FileBlobStore
from tests.fakes.faulty_front import faulty_front
from tests.fakes.images import Document, Image, Recipe, busybox_image, two_platforms
from tests.fakes.registries import (
    DebianRegistry,
    debian_registry,
    push,
    registry_with_tokens,
    token_server,
)

IMAGE = "example.test/team/app"


@dataclass
class Site:
    jobs: MirrorJobs
    store: FileBlobStore

    async def look(self, tag: str, image: str = IMAGE) -> Look:
        return Look.parse(await self.jobs.table()["look"]({"image": image, "tag": tag}))

    async def mirror(self, digest: str, **params: object) -> MirrorStatus:
        """Run a job to its end."""
        table = self.jobs.table()
        await table["mirror"]({"job": "j1", "image": IMAGE, "digest": digest, **params})
        while True:
            status = MirrorStatus.parse(await table["mirror_job"]({"job": "j1"}))
            if status.state != "running":
                return status
            await asyncio.sleep(0.01)

    async def forget(self) -> None:
        await self.jobs.table()["mirror_forget"]({"job": "j1"})


@asynccontextmanager
async def site(
    folder: Path, url: str, *, is_importable: bool = True, bytes_max: int = 1 << 30
) -> AsyncIterator[Site]:
    """Run what a gateway runs, with one upstream."""
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    entry = RegistryUpstream("example.test", url, allow_private=True, importable=is_importable)
    upstreams = Upstreams((entry,), None)
    intakes = Intakes(store, folder / "partial", left_bytes_max=1 << 30)
    parts = MirrorParts(upstreams, intakes, store, folder / "partial", SystemClock())
    mirror = ImageMirror(parts, bytes_max=bytes_max)
    jobs = MirrorJobs(mirror, default_host="docker.io")
    try:
        yield Site(jobs, store)
    finally:
        await jobs.close()
        await intakes.close()
        await upstreams.close()


def run(
    folder: Path,
    url: str,
    act: Callable[[Site], Awaitable[None]],
    *,
    is_importable: bool = True,
    bytes_max: int = 1 << 30,
) -> None:
    async def scenario() -> None:
        async with site(folder, url, is_importable=is_importable, bytes_max=bytes_max) as it:
            await act(it)

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def names(image: Image) -> set[str]:
    return {image.digest, *(child.digest for child in image.children), *image.blobs}


@pytest.mark.parametrize("style", ["oci", "docker"])
def test_whole_index_is_fetched_checked_and_shared(
    tmp_path: Path, registry: DebianRegistry, style: str
) -> None:
    image = two_platforms(Recipe(says=style, style="oci" if style == "oci" else "docker"))
    registry.push(image, "team/app", style)

    async def act(it: Site) -> None:
        looked = await it.look(style)
        assert (looked.digest, looked.media) == (image.digest, image.root.media)
        status = await it.mirror(looked.digest, tag=style)
        assert status.state == "done", status.failure
        assert status.result is not None
        files = {file.digest: file for file in status.result.files}
        assert files.keys() == names(image)
        assert files[image.digest].role == "root"
        assert sorted(f.role for f in files.values()).count("manifest") == 2
        for digest, file in files.items():
            assert it.store.is_shared(file.sha256)
            data = Path(it.store.path(file.sha256)).read_bytes()
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
            info = it.store.stat(file.sha256)
            assert info is not None
            assert (info.size, info.pieces) == (file.size, file.pieces)
        assert status.result.facts.keywords == ["linux/amd64", "linux/arm64"]
        assert status.done_bytes == status.total_bytes == image.size
        assert looked.seen_ms <= status.result.seen_ms

    run(tmp_path, registry.url, act)


def test_one_platform_alone_is_fetched(tmp_path: Path, registry: DebianRegistry) -> None:
    image = two_platforms(Recipe(says="one platform"))
    registry.push(image, "team/app", "one")

    async def act(it: Site) -> None:
        status = await it.mirror(image.digest, platforms=["linux/arm64"])
        assert status.result is not None, status.failure
        manifests = [f for f in status.result.files if f.role == "manifest"]
        assert [f.platform for f in manifests] == ["linux/arm64"]
        assert status.result.facts.keywords == ["linux/arm64"]
        await it.forget()
        status = await it.mirror(image.digest, platforms=["linux/s390x"])
        assert status.failure is not None
        assert (status.failure.outcome, "s390x" in status.failure.detail) == ("REFUSED", True)

    run(tmp_path, registry.url, act)


def test_facts_come_from_the_labels_and_the_platform_from_the_config(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    labels = {
        "org.opencontainers.image.description": "Says hello",
        "org.opencontainers.image.authors": "A. Uthor <a.uthor@example.test>",
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.source": "https://example.test/source",
        "org.opencontainers.image.base.name": "debian:12",
    }
    image = busybox_image(Recipe(labels=labels))
    registry.push(image, "team/app", "labels")

    async def act(it: Site) -> None:
        status = await it.mirror(image.digest)
        assert status.result is not None, status.failure
        facts = status.result.facts
        assert facts.summary == "Says hello"
        assert facts.author == "A. Uthor"
        assert facts.licence == "MIT"
        assert facts.repository == "https://example.test/source"
        assert facts.base == ["pkg:docker/docker.io/library/debian@12"]
        assert facts.keywords == ["linux/amd64"]

    run(tmp_path, registry.url, act)


def test_tag_that_moved_meanwhile_is_told_with_what_it_is(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    old, new = busybox_image(Recipe(says="old")), busybox_image(Recipe(says="new"))
    registry.push(old, "team/app", "moving")
    registry.push(new, "team/app", "moving")

    async def act(it: Site) -> None:
        status = await it.mirror(old.digest, tag="moving")
        assert status.failure is not None
        assert (status.failure.outcome, status.failure.moved) == ("MOVED", new.digest)
        assert status.failure.seen_ms is not None

    run(tmp_path, registry.url, act)


def test_unknown_tag_registry_and_digest_are_named(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Site) -> None:
        with pytest.raises(NotFoundError, match="manifests/absent"):
            await it.look("absent")
        with pytest.raises(NotFoundError, match=r"docker\.upstreams"):
            await it.look("1", "elsewhere.test/team/app")
        status = await it.mirror("sha256:" + "0" * 64)
        assert status.failure is not None
        assert status.failure.outcome == "SOURCE_UNAVAILABLE"

    run(tmp_path, registry.url, act)


def test_upstream_that_is_away_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.artifacts.images.registry_client.PAUSE_SECONDS", 0.001)

    async def act(it: Site) -> None:
        with pytest.raises(UnavailableError):
            await it.look("1")

    run(tmp_path, "http://127.0.0.1:9", act)


def test_image_that_only_credentials_may_see_is_not_published(tmp_path: Path) -> None:
    image = busybox_image(Recipe(says="secret"))
    with (
        token_server(is_public=False) as tokens,
        registry_with_tokens(tmp_path / "registry", tokens) as registry,
    ):

        async def act(it: Site) -> None:
            with pytest.raises(NotFoundError):
                await it.look("1")
            status = await it.mirror(image.digest)
            assert status.failure is not None
            assert status.failure.outcome == "SOURCE_UNAVAILABLE"

        run(tmp_path, registry.url, act)


def test_job_is_idempotent_and_forgotten_on_request(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    image = busybox_image(Recipe(says="twice"))
    registry.push(image, "team/app", "twice")

    async def act(it: Site) -> None:
        first = await it.mirror(image.digest)
        assert await it.mirror(image.digest) == first
        with pytest.raises(InvalidInputError, match="another image"):
            await it.mirror("sha256:" + "0" * 64)
        await it.forget()
        with pytest.raises(NotFoundError, match="started anew"):
            await it.jobs.table()["mirror_job"]({"job": "j1"})

    run(tmp_path, registry.url, act)


def test_blobs_of_a_job_stay_in_a_full_cache_until_it_is_forgotten(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    image = busybox_image(Recipe(says="leased"))
    registry.push(image, "team/app", "leased")

    async def act(it: Site) -> None:
        status = await it.mirror(image.digest)
        assert status.result is not None
        it.store._cached_bytes_max = 0
        it.store.evict()
        assert all(it.store.has(file.sha256) for file in status.result.files)
        await it.forget()
        it.store.evict()
        assert not it.store.has(image.digest.removeprefix("sha256:"))

    run(tmp_path, registry.url, act)


def test_local_blob_becomes_public_only_if_the_upstream_gives_it(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    secret = b"what somebody pushed here" * 100
    digest = hashlib.sha256(secret).hexdigest()
    document = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{digest}",
                "size": len(secret),
            },
            "layers": [],
        }
    ).encode()

    async def act(it: Site) -> None:
        path = tmp_path / "secret"
        path.write_bytes(secret)
        it.store.adopt(str(path), digest, local=True)
        status = await it.mirror(f"sha256:{hashlib.sha256(document).hexdigest()}")
        assert status.failure is not None
        assert not it.store.is_shared(digest)

    # Debian's registry takes no manifest without its blobs: they are there once, then deleted.
    _serve_manifest(registry, document, secret)
    run(tmp_path, registry.url, act)


def _serve_manifest(registry: DebianRegistry, document: bytes, blob: bytes) -> None:
    """Have the registry serve a manifest whose blob it no more has."""
    media = "application/vnd.oci.image.manifest.v1+json"
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    push(Image(Document(media, document), {digest: blob}), registry.url, "team/app", "secret")
    deleted = httpx.delete(f"{registry.url}/v2/team/app/blobs/{digest}")
    assert deleted.status_code == 202


def test_registry_inside_a_private_network_is_not_published_unless_its_entry_says_so(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    image = busybox_image(Recipe(says="internal"))
    registry.push(image, "team/app", "internal")

    async def act(it: Site) -> None:
        with pytest.raises(NotFoundError, match="importable = true"):
            await it.look("internal")
        status = await it.mirror(image.digest)
        assert status.failure is not None
        assert "importable = true" in status.failure.detail
        assert it.store.usage().blobs == 0

    with faulty_front(registry.url) as front:
        run(tmp_path, front.url, act, is_importable=False)
        assert front.asked == []


def test_image_of_more_bytes_than_the_limit_is_refused_before_its_blobs(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    image = busybox_image(Recipe(says="large"))
    registry.push(image, "team/app", "large")
    bytes_max = image.size // 2

    async def act(it: Site) -> None:
        status = await it.mirror(image.digest)
        assert status.failure is not None
        assert status.failure.outcome == "REFUSED"
        assert f"{bytes_max} bytes" in status.failure.detail
        assert it.store.usage().bytes < bytes_max

    run(tmp_path, registry.url, act, bytes_max=bytes_max)


def _serve_documents(
    registry: DebianRegistry, root: Document, *children: Document, blobs: dict[str, bytes]
) -> str:
    image = Image(root, blobs, children)
    push(image, registry.url, "team/app", "made")
    return image.digest


def _manifest(config: bytes, *layers: tuple[bytes, str], platform: str = "") -> Document:
    def descriptor(data: bytes, media: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return {"mediaType": media, "digest": digest, "size": len(data)}

    media = "application/vnd.oci.image.manifest.v1+json"
    document = {
        "schemaVersion": 2,
        "mediaType": media,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(data, kind) for data, kind in layers],
    }
    return Document(media, json.dumps(document).encode(), platform)


def _index(*children: Document) -> Document:
    media = "application/vnd.oci.image.index.v1+json"
    manifests = []
    for child in children:
        size = len(child.data)
        entry: dict[str, object] = {"mediaType": child.media, "digest": child.digest, "size": size}
        if child.platform:
            system, _, architecture = child.platform.partition("/")
            entry["platform"] = {"os": system, "architecture": architecture}
        manifests.append(entry)
    document = {"schemaVersion": 2, "mediaType": media, "manifests": manifests}
    return Document(media, json.dumps(document).encode())


LAYER = "application/vnd.oci.image.layer.v1.tar"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def test_nested_indexes_and_attestations_come_along_and_foreign_layers_do_not(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    config, other, layer, foreign = b'{"os":"linux"}', b'{"os":"x"}', b"layer", b"their own"
    program = _manifest(config, (layer, LAYER), (foreign, FOREIGN), platform="linux/amd64")
    attested = _manifest(other, (b"attestation", LAYER), platform="unknown/unknown")
    inner = _index(program, attested)
    root = _index(inner)
    contents = (config, other, layer, foreign, b"attestation")
    blobs = {f"sha256:{hashlib.sha256(each).hexdigest()}": each for each in contents}
    digest = _serve_documents(registry, root, program, attested, inner, blobs=blobs)
    foreign_digest = f"sha256:{hashlib.sha256(foreign).hexdigest()}"

    async def act(it: Site) -> None:
        status = await it.mirror(digest)
        assert status.result is not None, status.failure
        files = {file.digest: file.role for file in status.result.files}
        expected = {root.digest, inner.digest, program.digest, attested.digest, *blobs}
        assert files.keys() == expected - {foreign_digest}
        assert status.result.facts.keywords == ["linux/amd64"]
        await it.forget()
        status = await it.mirror(digest, platforms=["linux/amd64"])
        assert status.result is not None, status.failure
        assert attested.digest not in {file.digest for file in status.result.files}

    run(tmp_path, registry.url, act)


def test_blob_of_another_size_than_its_manifest_says_is_refused(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    config, layer = b"{}", b"layer of eight"
    right = _manifest(config, (layer, LAYER))
    wrong = Document(right.media, right.data.replace(b'"size": 14', b'"size": 15'))
    assert wrong.data != right.data
    contents = (config, layer)
    blobs = {f"sha256:{hashlib.sha256(each).hexdigest()}": each for each in contents}
    digest = _serve_documents(registry, wrong, blobs=blobs)

    async def act(it: Site) -> None:
        status = await it.mirror(digest)
        assert status.failure is not None
        assert (status.failure.outcome, status.failure.cause) == (
            "SOURCE_UNAVAILABLE",
            "wrong bytes",
        )

    run(tmp_path, registry.url, act)
