"""An upstream is asked only as far as policy goes, and believed only as far as its hashes go."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyrsia_node.artifacts.safe_http import SafeHttp, is_public
from pyrsia_node.artifacts.upstream import Upstream
from pyrsia_node.artifacts.upstream_values import UpstreamFile
from pyrsia_node.model.errors import (
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.store.blobs import FileBlobStore
from tests.fakes.fake_index import JSON, FakeIndex, json_page, serve_index

WHEEL = b"the upstream's wheel"
NAME = "six-1.17.0-py3-none-any.whl"
SHA256 = hashlib.sha256(WHEEL).hexdigest()


def listed(**changes: object) -> dict[str, object]:
    """Return a good line of a JSON page."""
    return {
        "filename": NAME,
        "url": f"/files/{NAME}",
        "hashes": {"sha256": SHA256},
        "size": len(WHEEL),
        "requires-python": ">=3.8",
        "yanked": False,
        "upload-time": "2024-12-04T17:35:28.0Z",
    } | changes


@dataclass
class Setting:
    index: FakeIndex
    upstream: Upstream
    store: FileBlobStore
    url: str
    folder: Path


@asynccontextmanager
async def setting(
    folder: Path, *, allow_private: bool = True, user: str = ""
) -> AsyncIterator[Setting]:
    index = FakeIndex()
    index.pages["/simple/six/"] = json_page(listed())
    index.files[f"/files/{NAME}"] = WHEEL
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    (folder / "partial").mkdir()
    async with serve_index(index) as address:
        url = address.replace("//", f"//{user}")
        http = SafeHttp(url + "/simple", allow_private=allow_private)
        upstream = Upstream(http, url + "/simple/", store, folder / "partial")
        try:
            yield Setting(index, upstream, store, url, folder)
        finally:
            await upstream.close()


def run(folder: Path, act: Callable[[Setting], object], **options: object) -> None:
    async def scenario() -> None:
        async with setting(folder, **options) as it:  # type: ignore[arg-type]  # tests' own options
            await act(it)  # type: ignore[misc]  # every scenario is a coroutine function

    asyncio.run(scenario())


def test_json_page_is_read_with_all_its_fields(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = json_page(
            listed(),
            listed(filename="six-1.16.0.tar.gz", yanked="broken", size=5),
            listed(filename="six-1.15.0.tar.gz", hashes={"md5": "0"}),
            listed(filename="../evil-1.0.tar.gz"),
        )
        project = await it.upstream.project("six")
        assert set(project.files) == {NAME, "six-1.16.0.tar.gz"}
        assert project.files[NAME] == UpstreamFile(
            name=NAME,
            version="1.17.0",
            url=f"{it.url}/files/{NAME}",
            sha256=SHA256,
            size=len(WHEEL),
            requires_python=">=3.8",
            yanked=None,
            upload_time="2024-12-04T17:35:28Z",
        )
        assert project.files["six-1.16.0.tar.gz"].yanked == "broken"

    run(tmp_path, act)


def test_html_page_is_read_too(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        body = (
            f'<html><body><a href="../../files/{NAME}#sha256={SHA256}" '
            f'data-requires-python="&gt;=3.8" data-yanked="">{NAME}</a></body></html>'
        )
        it.index.pages["/simple/six/"] = "text/html", body.encode()
        file = (await it.upstream.project("six")).files[NAME]
        assert (file.sha256, file.requires_python, file.yanked) == (SHA256, ">=3.8", "")
        assert file.url == f"{it.url}/files/{NAME}"

    run(tmp_path, act)


@pytest.mark.parametrize(
    "page",
    [
        (JSON, b"not json"),
        (JSON, b"[]"),
        (JSON, b'{"meta":{"api-version":"9.0"},"name":"six","files":[]}'),
        json_page(listed(), name="another"),
        json_page(listed(url="file:///etc/passwd")),
        (JSON, b"[" * 100_000),
    ],
)
def test_page_that_cannot_be_understood_is_an_outage(
    tmp_path: Path, page: tuple[str, bytes]
) -> None:
    async def act(it: Setting) -> None:
        it.index.pages["/simple/six/"] = page
        with pytest.raises(UnavailableError, match="page of six"):
            await it.upstream.project("six")

    run(tmp_path, act)


def test_pages_are_cached_and_revalidated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(it: Setting) -> None:
        it.index.etag = '"one"'
        first = await it.upstream.project("six")
        assert await it.upstream.project("six") is first
        assert len(it.index.asked) == 1
        monkeypatch.setattr("pyrsia_node.artifacts.upstream.FRESH_SECONDS", 0.0)
        it.upstream._pages["six"].fresh_until = 0.0
        assert await it.upstream.project("six") is first
        assert len(it.index.asked) == 2

    run(tmp_path, act)


def test_many_askers_cause_one_request(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        await asyncio.gather(*(it.upstream.project("six") for _ in range(10)))
        assert len(it.index.asked) == 1

    run(tmp_path, act)


def test_absence_is_remembered(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        for _ in range(3):
            with pytest.raises(NotFoundError, match="no project ghost"):
                await it.upstream.project("ghost")
        assert len(it.index.asked) == 1

    run(tmp_path, act)


def test_stale_page_serves_while_the_upstream_is_down(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        await it.upstream.project("six")
        it.upstream._pages["six"].fresh_until = 0.0
        it.index.status = 500
        project = await it.upstream.project("six")
        assert project.is_stale
        assert set(project.files) == {NAME}
        with pytest.raises(UnavailableError, match="500"):
            await it.upstream.project("idna")

    run(tmp_path, act)


def test_file_is_fetched_once_and_checked(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        file = (await it.upstream.project("six")).files[NAME]
        infos = await asyncio.gather(*(it.upstream.fetch(file) for _ in range(8)))
        assert {info.sha256 for info in infos} == {SHA256}
        assert len(it.index.asked) == 2
        assert Path(it.store.path(SHA256)).read_bytes() == WHEEL
        await it.upstream.fetch(file)
        assert len(it.index.asked) == 2

    run(tmp_path, act)


@pytest.mark.parametrize("sent", [b"other bytes entirely", WHEEL + b"more", b"", WHEEL[:-1]])
def test_other_bytes_than_the_page_says_are_refused_and_not_kept(
    tmp_path: Path, sent: bytes
) -> None:
    async def act(it: Setting) -> None:
        file = (await it.upstream.project("six")).files[NAME]
        it.index.files[f"/files/{NAME}"] = sent
        with pytest.raises(VerificationError):
            await it.upstream.fetch(file)
        assert it.store.digests() == []
        assert list((it.folder / "partial").iterdir()) == []

    run(tmp_path, act)


def test_private_addresses_are_refused_unless_allowed(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        with pytest.raises(UnavailableError, match=r"no public address.*allow_private"):
            await it.upstream.project("six")
        port = it.url.rsplit(":", 1)[1]
        by_name = SafeHttp(f"http://localhost:{port}", allow_private=False)
        with pytest.raises(UnavailableError, match="localhost has no public address"):
            await by_name.get(f"http://localhost:{port}/simple/six/", accept="*/*", bytes_max=9)
        await by_name.close()
        assert it.index.asked == []

    run(tmp_path, act, allow_private=False)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - an address to refuse
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("8.8.8.8", True),
        ("2600::1", True),
    ],
)
def test_public_is_what_the_internet_routes(address: str, *, public: bool) -> None:
    assert is_public(address) is public


def test_credentials_go_to_the_configured_host_alone(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        other = FakeIndex(pages={"/simple/six/": json_page(listed())})
        async with serve_index(other) as address:
            it.index.redirects["/simple/six/"] = f"{address}/simple/six/"
            project = await it.upstream.project("six")
        assert it.index.asked[0][1] is not None
        assert other.asked == [("/simple/six/", None)]
        # Relative addresses on the page are relative to where it came from.
        assert project.files[NAME].url == f"{address}/files/{NAME}"

    run(tmp_path, act, user="user:secret@")


@pytest.mark.parametrize(
    "target", ["/simple/six/", "file:///etc/passwd", "ftp://127.0.0.1/", "http://[", "", "gopher:x"]
)
def test_redirects_that_never_end_or_leave_http_are_refused(tmp_path: Path, target: str) -> None:
    async def act(it: Setting) -> None:
        it.index.redirects["/simple/six/"] = target
        with pytest.raises(UnavailableError):
            await it.upstream.project("six")
        assert len(it.index.asked) <= 7

    run(tmp_path, act)


def test_errors_never_show_the_password(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.index.status = 500
        with pytest.raises(UnavailableError) as caught:
            await it.upstream.project("six")
        assert "secret" not in str(caught.value)

    run(tmp_path, act, user="user:secret@")
