"""Uploads by the distribution specification 1.1, "Pushing blobs": end-4, 5, 6, 11, 13, 14."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.registry_client import Client, at_registry, codes, digest

DATA = bytes(range(256)) * 40
CHUNK = 4096
OCTETS = {"content-type": "application/octet-stream"}


def test_post_then_put_stores_a_blob(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        begun = await it.http.post("/v2/team/app/blobs/uploads/")
        assert begun.status_code == 202
        location = begun.headers["location"]
        assert re.fullmatch(r"/v2/team/app/blobs/uploads/[A-Za-z0-9_-]{22}", location)
        assert begun.headers["range"] == "0-0"
        done = await it.http.put(
            location, params={"digest": digest(DATA)}, content=DATA, headers=OCTETS
        )
        assert done.status_code == 201
        assert done.headers["docker-content-digest"] == digest(DATA)
        assert done.headers["location"] == f"/v2/team/app/blobs/{digest(DATA)}"
        assert (await it.http.get(done.headers["location"])).content == DATA
        gone = await it.http.get(location)
        assert (gone.status_code, codes(gone)) == (404, ["BLOB_UPLOAD_UNKNOWN"])

    at_registry(tmp_path, act)


def test_single_post_stores_a_blob(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        done = await it.http.post(
            "/v2/a/blobs/uploads/", params={"digest": digest(DATA)}, content=DATA
        )
        assert done.status_code == 201
        assert (await it.http.get(done.headers["location"])).content == DATA

    at_registry(tmp_path, act)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", DATA], ids=["empty", "bytes"])
def test_both_algorithms_name_blobs_of_any_size(
    tmp_path: Path, algorithm: str, data: bytes
) -> None:
    async def act(it: Client) -> None:
        name = await it.push("a", data, algorithm)
        got = await it.blob("a", name)
        assert (got.content, got.headers["docker-content-digest"]) == (data, name)
        begun = await it.http.post("/v2/b/blobs/uploads/", params={"digest-algorithm": algorithm})
        done = await it.http.put(begun.headers["location"], params={"digest": name}, content=data)
        assert done.status_code == 201

    at_registry(tmp_path, act)


def test_chunks_come_in_order_and_each_is_acknowledged(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        for start in range(0, len(DATA), CHUNK):
            chunk = DATA[start : start + CHUNK]
            end = start + len(chunk) - 1
            taken = await it.http.patch(
                location, content=chunk, headers={"content-range": f"{start}-{end}"}
            )
            assert taken.status_code == 202
            assert taken.headers["range"] == f"0-{end}"
            location = taken.headers["location"]
            asked = await it.http.get(location)
            assert (asked.status_code, asked.headers["range"]) == (204, f"0-{end}")
        done = await it.http.put(location, params={"digest": digest(DATA)})
        assert done.status_code == 201
        assert (await it.blob("a", digest(DATA))).content == DATA

    at_registry(tmp_path, act)


def test_last_chunk_may_come_with_the_closing_put(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        await it.http.patch(
            location, content=DATA[:CHUNK], headers={"content-range": f"0-{CHUNK - 1}"}
        )
        done = await it.http.put(
            location,
            params={"digest": digest(DATA)},
            content=DATA[CHUNK:],
            headers={"content-range": f"{CHUNK}-{len(DATA) - 1}"},
        )
        assert done.status_code == 201
        assert (await it.blob("a", digest(DATA))).content == DATA

    at_registry(tmp_path, act)


def test_patch_is_streamed_without_a_length(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")

        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(DATA), 1000):
                yield DATA[start : start + 1000]

        taken = await it.http.patch(location, content=body())
        assert taken.request.headers["transfer-encoding"] == "chunked"
        assert (taken.status_code, taken.headers["range"]) == (202, f"0-{len(DATA) - 1}")
        done = await it.http.put(location, params={"digest": digest(DATA)})
        assert done.status_code == 201

    at_registry(tmp_path, act)


@pytest.mark.parametrize("start", [CHUNK - 1, CHUNK + 1, 0])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_out_of_order_is_416_and_changes_nothing(
    tmp_path: Path, start: int, method: str
) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        await it.http.patch(
            location, content=DATA[:CHUNK], headers={"content-range": f"0-{CHUNK - 1}"}
        )
        refused = await it.http.request(
            method,
            location,
            params={"digest": digest(DATA)} if method == "PUT" else {},
            content=b"x" * 10,
            headers={"content-range": f"{start}-{start + 9}"},
        )
        assert (refused.status_code, codes(refused)) == (416, ["BLOB_UPLOAD_INVALID"])
        assert refused.headers["range"] == f"0-{CHUNK - 1}"
        asked = await it.http.get(location)
        assert (asked.status_code, asked.headers["range"]) == (204, f"0-{CHUNK - 1}")

    at_registry(tmp_path, act)


def test_upload_can_be_cancelled(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        await it.http.patch(location, content=DATA)
        assert (await it.http.delete(location)).status_code == 204
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            gone = await it.http.request(method, location, params={"digest": digest(DATA)})
            assert (gone.status_code, codes(gone)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        assert it.stored_files() == 0

    at_registry(tmp_path, act)


def test_upload_belongs_to_its_repository(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        other = location.replace("/v2/a/", "/v2/b/")
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            refused = await it.http.request(method, other, params={"digest": digest(b"")})
            assert (refused.status_code, codes(refused)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        assert (await it.http.get(location)).status_code == 204

    at_registry(tmp_path, act)


def test_blob_is_mounted_from_a_named_repository(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        name = await it.push("a", DATA)
        mounted = await it.http.post("/v2/b/blobs/uploads/", params={"mount": name, "from": "a"})
        assert mounted.status_code == 201
        assert mounted.headers["location"] == f"/v2/b/blobs/{name}"
        assert (await it.blob("b", name)).content == DATA

    at_registry(tmp_path, act)


def test_blob_is_mounted_from_anywhere(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        name = await it.push("a", DATA)
        mounted = await it.http.post("/v2/b/blobs/uploads/", params={"mount": name})
        assert mounted.status_code == 201
        assert (await it.http.head(mounted.headers["location"])).status_code == 200

    at_registry(tmp_path, act)


def test_mount_of_what_is_not_there_begins_an_upload(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", b"something else")
        for query in ({"from": "a"}, {"from": "nowhere"}, {}):
            begun = await it.http.post(
                "/v2/b/blobs/uploads/", params={"mount": digest(DATA), **query}
            )
            assert begun.status_code == 202
            assert (await it.http.get(begun.headers["location"])).status_code == 204

    at_registry(tmp_path, act)


def test_public_blob_of_the_cache_is_mounted(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        # An image that is based on one of the log: the base's layers need not be pushed.
        name = digest(DATA)
        source = tmp_path / "cached"
        source.write_bytes(DATA)
        it.site.parts.store.adopt(str(source), name.removeprefix("sha256:"))
        mounted = await it.http.post(
            "/v2/mine/blobs/uploads/", params={"mount": name, "from": "library/alpine"}
        )
        assert mounted.status_code == 201
        assert (await it.blob("mine", name)).content == DATA

    at_registry(tmp_path, act)


def test_deleted_blob_is_gone_from_its_repository_alone(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        name = await it.push("a", DATA)
        await it.push("b", DATA)
        assert (await it.http.delete(f"/v2/a/blobs/{name}")).status_code == 202
        gone = await it.blob("a", name)
        assert (gone.status_code, codes(gone)) == (404, ["BLOB_UNKNOWN"])
        again = await it.http.delete(f"/v2/a/blobs/{name}")
        assert (again.status_code, codes(again)) == (404, ["BLOB_UNKNOWN"])
        assert (await it.blob("b", name)).content == DATA

    at_registry(tmp_path, act)


def test_blob_that_a_manifest_needs_is_not_deleted(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1", DATA)
        refused = await it.http.delete(f"/v2/a/blobs/{digest(DATA)}")
        assert (refused.status_code, codes(refused)) == (405, ["DENIED"])
        assert (await it.blob("a", digest(DATA))).content == DATA

    at_registry(tmp_path, act)


def test_upload_survives_a_restart(tmp_path: Path) -> None:
    kept: list[str] = []

    async def before(it: Client) -> None:
        kept.append(await it.begin("a"))
        await it.http.patch(kept[0], content=DATA[:CHUNK])

    async def after(it: Client) -> None:
        asked = await it.http.get(kept[0])
        assert (asked.status_code, asked.headers["range"]) == (204, f"0-{CHUNK - 1}")
        await it.http.patch(kept[0], content=DATA[CHUNK:])
        done = await it.http.put(kept[0], params={"digest": digest(DATA)})
        assert done.status_code == 201
        assert (await it.blob("a", digest(DATA))).content == DATA

    at_registry(tmp_path, before)
    at_registry(tmp_path, after)


def test_large_blob_is_pushed_in_pieces_and_pulled(tmp_path: Path) -> None:
    data = DATA * 900

    async def act(it: Client) -> None:
        name = await it.push("a", data)
        assert (await it.blob("a", name)).content == data

    at_registry(tmp_path, act)
