"""Where names of the log and names of an upstream meet: the log's word always wins."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyrsia_node.artifacts.catalog import Catalog, UpstreamPolicy
from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.resolver import Resolver
from pyrsia_node.artifacts.safe_http import SafeHttp
from pyrsia_node.artifacts.upstream import Upstream
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.transfer.client import HttpsPieceSource
from tests.fakes.data_peers import MemoryRouter
from tests.fakes.fake_index import FakeIndex, json_page, serve_index
from tests.fakes.published_log import PublishedLog, document, file_entry

WHEEL = "six-1.17.0-py3-none-any.whl"
OLD = "six-1.0.tar.gz"
LOGGED = file_entry(WHEEL, b"what the log says")
PURL = "pkg:pypi/six@1.17.0"


@dataclass
class Setting:
    catalog: Catalog
    log: PublishedLog
    index: FakeIndex
    store: FileBlobStore


def line(name: str, data: bytes, **changes: object) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {
        "filename": name,
        "url": f"/files/{name}",
        "hashes": {"sha256": digest},
        "size": len(data),
    } | changes


@asynccontextmanager
async def setting(folder: Path, policy: UpstreamPolicy | None) -> AsyncIterator[Setting]:
    """Run a catalog; without ``policy`` there is no upstream."""
    log = PublishedLog(folder / "node")
    index = FakeIndex()
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    source = HttpsPieceSource()
    fetcher = Fetcher(store, folder / "partial", MemoryRouter([]), source)
    reader = IndexReader(log.root)
    resolver = Resolver(VerifiedLog(log.root / "log", log.trust), reader, ecosystem="pypi")
    async with serve_index(index) as url:
        upstream = None
        if policy is not None:
            http = SafeHttp(url, allow_private=True)
            upstream = Upstream(http, f"{url}/simple", store, folder / "partial")
        try:
            catalog = Catalog(
                resolver, fetcher, store, upstream=upstream, policy=policy or UpstreamPolicy()
            )
            yield Setting(catalog, log, index, store)
        finally:
            if upstream is not None:
                await upstream.close()
            await fetcher.close()
            await source.close()
            reader.close()
            log.close()


def run(
    folder: Path, policy: UpstreamPolicy | None, act: Callable[[Setting], Awaitable[None]]
) -> None:
    async def scenario() -> None:
        async with setting(folder, policy) as it:
            await act(it)

    asyncio.run(scenario())


def test_denied_name_is_not_found_and_the_command_that_requests_it_is_named(
    tmp_path: Path,
) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = json_page(line(WHEEL, b"theirs"))
        with pytest.raises(NotFoundError, match="pyrsia build pypi six"):
            await it.catalog.project("six")
        assert it.index.asked == []

    run(tmp_path, None, act)


def test_page_merges_both_and_the_logged_hash_wins(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.log.accept(document(PURL, LOGGED))
        it.index.pages["/simple/six/"] = json_page(
            line(WHEEL, b"theirs", yanked="theirs are bad"), line(OLD, b"old")
        )
        project = await it.catalog.project("six")
        assert {name: file.vouched for name, file in project.files.items()} == {
            WHEEL: "log",
            OLD: "upstream",
        }
        assert project.files[WHEEL].sha256 == LOGGED.sha256
        # Their bytes were yanked, not ours.
        assert project.files[WHEEL].yanked is None
        assert project.versions == ["1.0", "1.17.0"]
        assert project.vouched == "upstream"

    run(tmp_path, UpstreamPolicy(), act)


def test_yanked_mark_of_the_same_bytes_is_shown(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.log.accept(document(PURL, LOGGED))
        it.index.pages["/simple/six/"] = json_page(
            line(WHEEL, b"what the log says", yanked="broken")
        )
        assert (await it.catalog.project("six")).files[WHEEL].yanked == "broken"

    run(tmp_path, UpstreamPolicy(), act)


def test_name_that_the_log_withholds_never_falls_through(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        theirs = hashlib.sha256(b"theirs").hexdigest()
        built = file_entry(WHEEL, b"our build", origin="built")
        against = (Contradiction(WHEEL, file_entry(WHEEL, b"theirs").sha256),)
        it.log.accept(document(PURL, built, contradicts=against))
        it.index.pages["/simple/six/"] = json_page(line(WHEEL, b"theirs"), line(OLD, b"old"))
        project = await it.catalog.project("six")
        assert list(project.files) == [OLD]
        with pytest.raises(NotFoundError, match="is not served: contradicting"):
            await it.catalog.file(built.sha256, WHEEL)
        with pytest.raises(NotFoundError):
            await it.catalog.file(theirs, WHEEL)

    run(tmp_path, UpstreamPolicy(), act)


@pytest.mark.parametrize("reserved", ["six", "si*", "*"])
def test_reserved_name_is_never_asked_of_the_upstream(tmp_path: Path, reserved: str) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = json_page(line(WHEEL, b"theirs"))
        with pytest.raises(NotFoundError):
            await it.catalog.project("six")
        assert it.index.asked == []

    run(tmp_path, UpstreamPolicy(reserved=(reserved,)), act)


def test_other_names_are_not_reserved() -> None:
    policy = UpstreamPolicy(reserved=("acme-*", "six"))
    assert policy.is_reserved("acme-tools")
    assert not policy.is_reserved("acme")
    assert not policy.is_reserved("sixer")


def test_strict_shuts_a_name_once_any_version_is_logged(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = json_page(line(OLD, b"old"))
        assert list((await it.catalog.project("six")).files) == [OLD]
        it.log.accept(document(PURL, LOGGED))
        assert list((await it.catalog.project("six")).files) == [WHEEL]

    run(tmp_path, UpstreamPolicy(strict=True), act)


def test_logged_files_are_offered_while_the_upstream_is_down(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.log.accept(document(PURL, LOGGED))
        it.index.status = 503
        project = await it.catalog.project("six")
        assert project.is_stale
        assert list(project.files) == [WHEEL]
        with pytest.raises(UnavailableError):
            await it.catalog.project("idna")

    run(tmp_path, UpstreamPolicy(), act)


def test_upstream_bytes_are_given_only_after_they_were_checked(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = json_page(line(OLD, b"old"))
        it.index.files[f"/files/{OLD}"] = b"old"
        file = await it.catalog.file(hashlib.sha256(b"old").hexdigest(), OLD)
        reader = await it.catalog.open(file)
        assert await reader.read(0, 10) == b"old"
        reader.close()
        assert file.vouched == "upstream"

    run(tmp_path, UpstreamPolicy(), act)
