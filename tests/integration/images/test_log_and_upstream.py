"""Where names of the log and names of an upstream meet: the log's word wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyrsia_node.artifacts import download
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.images import registry_client
from pyrsia_node.artifacts.images.images import Images
from pyrsia_node.artifacts.images.log_side import LoggedImages
from pyrsia_node.artifacts.statements import RefusedError
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.model.statements import Revoke
from pyrsia_node.transfer.client import HttpsPieceSource
from tests.fakes.data_peers import MemoryRouter
from tests.fakes.images import Recipe, busybox_image
from tests.fakes.logged_images import DOCKER_PARAMS, image_document, image_file
from tests.fakes.proxy_site import NAME, ProxySite, proxy_site, read_all
from tests.fakes.published_log import PublishedLog
from tests.fakes.registries import DebianRegistry, debian_registry

OLD, NEW = busybox_image(Recipe(says="logged")), busybox_image(Recipe(says="newer upstream"))
LAYER = max(OLD.blobs, key=lambda digest: len(OLD.blobs[digest]))
NEW_LAYER = next(digest for digest in NEW.blobs if digest not in OLD.blobs)


@dataclass
class Node:
    images: Images
    log: PublishedLog
    site: ProxySite


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("pyrsia_node.artifacts.inquiry.ASK_AGAIN_SECONDS", (0.001,))
    monkeypatch.setattr(download, "ASK_AGAIN_SECONDS", (0.001,))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        found.push(OLD, "team/app", "old")
        found.push(NEW, "team/app", "1", "2")
        yield found


@asynccontextmanager
async def node(folder: Path, url: str, *, strict: bool = False) -> AsyncIterator[Node]:
    log = PublishedLog(folder / "log", params=DOCKER_PARAMS)
    reader = IndexReader(log.root)
    pieces = HttpsPieceSource()
    async with proxy_site(folder, url) as site:
        fetcher = Fetcher(site.store, folder / "partial", MemoryRouter([]), pieces)
        proved = VerifiedLog(log.root / "log", log.trust)
        images = Images(LoggedImages(proved, reader), fetcher, site.store, strict=strict)
        images.pull_through(site.proxy)
        try:
            yield Node(images, log, site)
        finally:
            await fetcher.close()
            await pieces.close()
    reader.close()
    log.close()


def run(
    folder: Path,
    url: str,
    act: Callable[[Node], Coroutine[None, None, None]],
    *,
    strict: bool = False,
) -> None:
    async def scenario() -> None:
        async with node(folder, url, strict=strict) as it:
            await act(it)

    asyncio.run(scenario())


def accept_old(it: Node, tag: str) -> int:
    """Put the old image into the log, under a tag that is another one upstream by now."""
    files = [image_file("layer", data) for data in OLD.blobs.values()]
    return it.log.accept(image_document(NAME, tag, OLD.root.data, files=files))


def test_tag_of_the_log_wins_and_its_other_tags_come_from_upstream(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Node) -> None:
        accept_old(it, "1")
        found = await it.images.manifest(NAME, "1")
        assert (found.data, found.vouched) == (OLD.root.data, "log")
        found = await it.images.manifest(NAME, "2")
        assert (found.data, found.vouched) == (NEW.root.data, "upstream")
        assert await it.images.tags(NAME) == ["1", "2", "old"]
        assert await it.images.knows(NAME)
        blob = await it.images.stat(NAME, OciDigest.parse(NEW_LAYER))
        assert blob.vouched == "upstream"
        with pytest.raises(NotFoundError):
            await it.images.manifest(NAME, "2", upstream=False)

    run(tmp_path, registry.url, act)


def test_strict_shuts_the_whole_repository_off_once_a_tag_is_logged(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Node) -> None:
        assert (await it.images.manifest(NAME, "2")).vouched == "upstream"
        accept_old(it, "1")
        with pytest.raises(NotFoundError, match="pyrsia build docker --image"):
            await it.images.manifest(NAME, "2")
        with pytest.raises(NotFoundError):
            await it.images.open(NAME, OciDigest.parse(NEW_LAYER))
        with pytest.raises(NotFoundError):
            await it.images.stat(NAME, OciDigest.parse(NEW_LAYER))
        assert await it.images.tags(NAME) == ["1"]

    run(tmp_path, registry.url, act, strict=True)


def test_bytes_of_the_log_that_no_peer_has_come_from_the_upstream_by_digest(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Node) -> None:
        accept_old(it, "1")
        assert (await it.images.manifest(NAME, "1")).vouched == "log"
        reader = await it.images.open(NAME, OciDigest.parse(LAYER))
        assert await read_all(reader) == OLD.blobs[LAYER]
        reader.close()

    run(tmp_path, registry.url, act)


def test_what_the_network_revoked_is_refused_whoever_offers_it(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Node) -> None:
        member = it.log.local.members[0].id
        for number, digest in enumerate((NEW_LAYER, NEW.digest)):
            sha256 = parse_sha256(digest.removeprefix("sha256:"))
            purl, nonce = NAME.purl("2"), f"{number:032x}"
            it.log.state(Revoke(member, purl, sha256, "mines coins", nonce))
        with pytest.raises(RefusedError, match="mines coins"):
            await it.images.open(NAME, OciDigest.parse(NEW_LAYER))
        with pytest.raises(RefusedError, match="mines coins"):
            await it.images.manifest(NAME, "2")

    run(tmp_path, registry.url, act)


def test_upstream_that_is_away_makes_unknown_names_unavailable_and_lists_shorter(
    tmp_path: Path,
) -> None:
    async def act(it: Node) -> None:
        accept_old(it, "1")
        other = ImageName(NAME.host, "team/other")
        with pytest.raises(UnavailableError):
            await it.images.manifest(other, "1")
        with pytest.raises(UnavailableError):
            await it.images.knows(other)
        assert await it.images.knows(NAME)
        assert await it.images.tags(NAME) == ["1"]
        assert await it.images.tags(other) is None

    run(tmp_path, "http://127.0.0.1:9", act)


def test_name_whose_registry_may_not_be_asked_is_unknown(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    async def act(it: Node) -> None:
        other = ImageName("other.test", "team/app")
        assert not await it.images.knows(other)
        with pytest.raises(NotFoundError):
            await it.images.manifest(other, "1")

    run(tmp_path, registry.url, act)
