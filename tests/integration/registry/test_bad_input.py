"""Bad input: the specification's status, code and body; nothing stored, nothing leaked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.model.manifests import (
    DOCKER_MANIFEST,
    MANIFEST_BYTES_MAX,
    OCI_INDEX,
    OCI_MANIFEST,
)
from tests.fakes.registry_client import (
    EMPTY,
    Client,
    at_registry,
    codes,
    descriptor,
    digest,
    manifest,
)

DATA = b"some bytes of a layer"


async def _is_empty(it: Client) -> None:
    """Check that nothing was stored: no file, no repository."""
    assert it.stored_files() == 0
    assert (await it.http.get("/v2/_catalog")).json() == {"repositories": []}


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_mismatch_is_refused_on_every_way_to_push(tmp_path: Path, algorithm: str) -> None:
    async def act(it: Client) -> None:
        wrong = {"digest": digest(b"other bytes", algorithm)}
        single = await it.http.post("/v2/a/blobs/uploads/", params=wrong, content=DATA)
        put = await it.http.put(await it.begin("a"), params=wrong, content=DATA)
        location = await it.begin("a")
        await it.http.patch(location, content=DATA)
        chunked = await it.http.put(location, params=wrong)
        for refused in (single, put, chunked):
            assert (refused.status_code, codes(refused)) == (400, ["DIGEST_INVALID"])
        gone = await it.http.get(location)
        assert codes(gone) == ["BLOB_UPLOAD_UNKNOWN"]
        await _is_empty(it)

    at_registry(tmp_path, act)


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:xyz", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + "A" * 64,
     "sha256:" + "0" * 63, "sha512:" + "0" * 64, "sha256", "../../etc/passwd",
     "sha256:" + "\N{ARABIC-INDIC DIGIT ZERO}" * 64],
)  # fmt: skip
def test_malformed_digest_is_refused(tmp_path: Path, text: str) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        for method, url in (
            ("POST", f"/v2/a/blobs/uploads/?digest={text}"),
            ("POST", f"/v2/a/blobs/uploads/?mount={text}"),
            ("PUT", f"{location}?digest={text}"),
        ):
            refused = await it.http.request(method, url, content=DATA)
            assert (refused.status_code, codes(refused)) == (400, ["DIGEST_INVALID"]), url

    at_registry(tmp_path, act)


def test_closing_put_without_a_digest_is_refused_and_the_upload_stays(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        refused = await it.http.put(location, content=DATA)
        assert (refused.status_code, codes(refused)) == (400, ["DIGEST_INVALID"])
        assert (await it.http.get(location)).headers["range"] == "0-0"

    at_registry(tmp_path, act)


def test_unknown_digest_algorithm_is_refused(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.post("/v2/a/blobs/uploads/?digest-algorithm=md5")
        assert (refused.status_code, codes(refused)) == (400, ["DIGEST_INVALID"])

    at_registry(tmp_path, act)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_size_that_contradicts_the_range_is_refused(tmp_path: Path, size: int) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        refused = await it.http.patch(
            location, content=DATA, headers={"content-range": f"0-{size - 1}"}
        )
        assert (refused.status_code, codes(refused)) == (400, ["SIZE_INVALID"])
        assert (await it.http.get(location)).headers["range"] == "0-0"

    at_registry(tmp_path, act)


@pytest.mark.parametrize("text", ["0", "5-2", "a-b", "bytes 0-20/21", "-5", "0-", f"0-{'9' * 30}"])
def test_malformed_range_of_a_chunk_is_416(tmp_path: Path, text: str) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        refused = await it.http.patch(location, content=DATA, headers={"content-range": text})
        assert (refused.status_code, codes(refused)) == (416, ["BLOB_UPLOAD_INVALID"])

    at_registry(tmp_path, act)


@pytest.mark.parametrize(
    ("wish", "status"),
    [("bytes=5-2", 416), ("bytes=21-", 416), ("bytes=100-200", 416), ("bytes=-0", 416),
     ("bytes=x-y", 200), ("lines=1-2", 200), ("bytes=0-1,3-4", 200), ("bytes=2-4", 206)],
)  # fmt: skip
def test_bad_range_of_a_pull_never_brings_wrong_bytes(
    tmp_path: Path, wish: str, status: int
) -> None:
    async def act(it: Client) -> None:
        name = await it.push("a", DATA)
        got = await it.blob("a", name, range=wish)
        assert got.status_code == status
        if status == 200:
            assert got.content == DATA
        if status == 206:
            assert got.content == DATA[2:5]

    at_registry(tmp_path, act)


@pytest.mark.parametrize("upload", ["x", "A" * 22, "..%2f..%2fetc", "%00", "A" * 500, "-", "é"])
def test_unknown_upload_is_404(tmp_path: Path, upload: str) -> None:
    async def act(it: Client) -> None:
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            gone = await it.http.request(
                method, f"/v2/a/blobs/uploads/{upload}?digest={digest(DATA)}", content=DATA
            )
            assert gone.status_code == 404
        await _is_empty(it)

    at_registry(tmp_path, act)


@pytest.mark.parametrize(
    "name",
    ["A", "a//b", "a/", "-a", "a..b", "a b", "a%2fb", "a___b", "%2e%2e", "a/..%2f..", "é",
     "a" * 256, "/".join(["part"] * 60), "a%00b", "_a", "a:b"],
)  # fmt: skip
def test_name_that_is_not_legal_is_refused_everywhere(tmp_path: Path, name: str) -> None:
    async def act(it: Client) -> None:
        for method, rest in (
            ("POST", "blobs/uploads/"),
            ("PUT", "manifests/latest"),
            ("GET", "manifests/latest"),
            ("GET", f"blobs/{digest(DATA)}"),
            ("GET", "tags/list"),
            ("GET", "_oci/tag-history/latest"),
        ):
            refused = await it.http.request(method, f"/v2/{name}/{rest}")
            assert (refused.status_code, codes(refused)) in (
                (400, ["NAME_INVALID"]),
                (404, ["NAME_INVALID"]),
            )
        await _is_empty(it)

    at_registry(tmp_path, act)


@pytest.mark.parametrize("ns", ["UPPER", "a b", "host:0", "host:99999", "../x", "-", "h" * 300])
def test_registry_that_is_none_is_refused(tmp_path: Path, ns: str) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.get("/v2/a/manifests/1", params={"ns": ns})
        assert (refused.status_code, codes(refused)) == (400, ["NAME_INVALID"])

    at_registry(tmp_path, act)


async def _raw(it: Client, head: str, body: bytes = b"") -> bytes:
    """Send bytes as they are, and return all that comes until the server closes."""
    host = urlsplit(it.site.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n" + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "path",
    ["/v2/../../etc/passwd", "/v2/a/blobs/../../../etc/passwd", "/v2/%2e%2e/%2e%2e/manifests/1",
     "/v2/a/manifests/..%2f..%2fx", "/v2/a/blobs/uploads/../../x",
     "/v2//manifests/1", "/v2/a/manifests/%ff", "/v2/a\\b/manifests/1", "/v2/a/manifests/1%0d%0a"],
)  # fmt: skip
def test_path_tricks_find_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "x").write_text("a secret file")

    async def act(it: Client) -> None:
        for method in ("GET", "PUT", "POST"):
            answer = await _raw(
                it, f"{method} {path} HTTP/1.1\nhost: localhost\nconnection: close\n"
            )
            status = int(answer.split(b" ")[1])
            assert 400 <= status < 500, answer
            assert b"secret" not in answer
        await _is_empty(it)

    at_registry(tmp_path, act)


GOOD = json.loads(manifest())
BROKEN = {
    "no JSON": b"hello",
    "empty": b"",
    "no object": b"[]",
    "schema 1": json.dumps({**GOOD, "schemaVersion": 1}).encode(),
    "no config": json.dumps({**GOOD, "config": None}).encode(),
    "layers no list": json.dumps({**GOOD, "layers": {}}).encode(),
    "bad digest": manifest(layers=[], extra=1).replace(digest(EMPTY).encode(), b"sha256:x"),
    "negative size": manifest(layers=[], extra=1).replace(b'"size": 2', b'"size": -2'),
    "nested too deep": b'{"schemaVersion":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "annotations no texts": json.dumps({**GOOD, "annotations": {"a": 1}}).encode(),
    "manifest and index at once": json.dumps({**GOOD, "manifests": []}).encode(),
    "half a character": json.dumps({**GOOD, "annotations": {"a": "\ud800"}}).encode(),
    "half a character in a type": manifest(config=descriptor(EMPTY, "\ud800")),
}


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_broken_manifest_is_refused(tmp_path: Path, what: str) -> None:
    data = BROKEN[what]

    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        before = it.stored_files()
        for reference in ("1", digest(data)):
            refused = await it.put("a", reference, data, OCI_MANIFEST)
            assert (refused.status_code, codes(refused)) == (400, ["MANIFEST_INVALID"])
        assert it.stored_files() == before
        assert (await it.get("a", "1")).status_code == 404

    at_registry(tmp_path, act)


@pytest.mark.parametrize("media", [OCI_INDEX, "text/html"])
def test_type_that_the_manifest_is_not_of_is_refused(tmp_path: Path, media: str) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        refused = await it.put("a", "1", manifest(), media)
        assert (refused.status_code, codes(refused)) == (400, ["MANIFEST_INVALID"])

    at_registry(tmp_path, act)


def test_tagged_manifest_does_not_become_of_another_type(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        without = {key: value for key, value in GOOD.items() if key != "mediaType"}
        data = json.dumps(without).encode()
        assert (await it.put("a", "1", data, OCI_MANIFEST)).status_code == 201
        for reference in ("2", digest(data)):
            refused = await it.put("a", reference, data, DOCKER_MANIFEST)
            assert (refused.status_code, codes(refused)) == (400, ["MANIFEST_INVALID"])
        assert (await it.get("a", "1")).headers["content-type"] == OCI_MANIFEST

    at_registry(tmp_path, act)


def test_manifest_that_lacks_thousands_of_parts_names_a_hundred(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        refused = await it.put("a", "1", manifest([b"%d" % number for number in range(2000)]))
        assert (refused.status_code, codes(refused)) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 100)

    at_registry(tmp_path, act)


def test_manifest_under_a_wrong_digest_is_refused(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        refused = await it.put("a", digest(b"other"), manifest())
        assert (refused.status_code, codes(refused)) == (400, ["DIGEST_INVALID"])

    at_registry(tmp_path, act)


@pytest.mark.parametrize("tag", [".x", "-x", "a" * 129, "a b", "a%2fb", "é"])
def test_tag_that_is_not_legal_is_refused(tmp_path: Path, tag: str) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        refused = await it.put("a", tag, manifest())
        assert refused.status_code in {400, 404}
        refused = await it.http.put(
            f"/v2/a/manifests/{digest(manifest())}",
            params={"tag": [tag]},
            content=manifest(),
            headers={"content-type": OCI_MANIFEST},
        )
        assert (refused.status_code, codes(refused)) == (400, ["MANIFEST_INVALID"])
        assert (await it.get("a", tag)).status_code == 404

    at_registry(tmp_path, act)


def test_manifest_of_a_hundred_megabytes_is_413_and_costs_no_memory(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        before = it.stored_files()

        async def body() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 1_000_000

        contents: tuple[bytes | AsyncIterator[bytes], ...] = (
            b"x" * (MANIFEST_BYTES_MAX + 1),
            body(),
        )
        for content in contents:
            refused = await it.http.put(
                "/v2/a/manifests/1",
                content=content,
                headers={"content-type": OCI_MANIFEST},
            )
            assert (refused.status_code, codes(refused)) == (413, ["SIZE_INVALID"])
        assert it.stored_files() == before

    at_registry(tmp_path, act)


def test_announced_length_beyond_the_limit_is_refused_before_any_byte(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        answer = await _raw(
            it,
            "PUT /v2/a/manifests/1 HTTP/1.1\nhost: localhost\nconnection: close\n"
            f"content-length: {100_000_000}\ncontent-type: {OCI_MANIFEST}\n",
        )
        assert answer.startswith(b"HTTP/1.1 413 ")

    at_registry(tmp_path, act)


def test_too_many_tags_at_once_are_refused(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        data = manifest()
        for count, status in ((65, 400), (101, 414)):
            refused = await it.http.put(
                f"/v2/a/manifests/{digest(data)}",
                params={"tag": [f"t{number}" for number in range(count)]},
                content=data,
                headers={"content-type": OCI_MANIFEST},
            )
            assert refused.status_code == status

    at_registry(tmp_path, act)


def test_client_that_leaves_in_the_middle_can_go_on_from_what_it_was_told(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8000

    async def act(it: Client) -> None:
        location = await it.begin("a")
        host = urlsplit(it.site.url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        head = (
            f"PATCH {location} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data[:1_000_000])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        offset = await _settled_offset(it, location)
        assert 0 < offset <= 1_000_000
        done = await it.http.put(
            location,
            params={"digest": digest(data)},
            content=data[offset:],
            headers={"content-range": f"{offset}-{len(data) - 1}"},
        )
        assert done.status_code == 201
        assert (await it.blob("a", digest(data))).content == data

    at_registry(tmp_path, act)


async def _settled_offset(it: Client, location: str) -> int:
    """Return how much of an upload is durable, once the server has seen that the client left."""
    while True:
        asked = await it.http.get(location)
        last = int(asked.headers["range"].removeprefix("0-"))
        if last:
            return last + 1
        await asyncio.sleep(0.01)


def test_single_post_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        host = urlsplit(it.site.url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        head = (
            f"POST /v2/a/blobs/uploads/?digest={digest(DATA)} HTTP/1.1\r\nhost: localhost\r\n"
            "content-length: 5000000\r\n\r\n"
        )
        writer.write(head.encode() + b"x" * 1_000_000)
        await writer.drain()
        while it.stored_files() == 0:
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        while it.stored_files():
            await asyncio.sleep(0.01)
        await _is_empty(it)

    at_registry(tmp_path, act)


def test_client_that_sends_too_slowly_is_cut_and_its_upload_stays(tmp_path: Path) -> None:
    limits = HttpLimits(body_rate_min_bytes_per_s=1000, body_check_seconds=0.2)

    async def act(it: Client) -> None:
        location = await it.begin("a")
        answer = await _raw(
            it,
            f"PATCH {location} HTTP/1.1\nhost: localhost\ncontent-length: 1000\n",
            b"only a few bytes",
        )
        assert answer == b""
        assert (await _settled_offset(it, location)) == len(b"only a few bytes")

    at_registry(tmp_path, act, limits=limits)


def test_tls_hello_on_the_plain_port_gets_a_line_of_http(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        host = urlsplit(it.site.url)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512))
        answer = await asyncio.wait_for(reader.read(), 10)
        # Engines that try https first go on in plain HTTP only if they read this.
        assert answer.startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()

    at_registry(tmp_path, act)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7888", "localhost.evil.example"])
def test_name_that_is_not_ours_is_not_answered(tmp_path: Path, host: str) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.get("/v2/_catalog", headers={"host": host})
        assert refused.status_code == 403
        assert "Host" in refused.text

    at_registry(tmp_path, act)


def test_page_of_another_site_reads_nothing(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.get("/v2/_catalog", headers={"origin": "https://evil.example"})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers

    at_registry(tmp_path, act)


def test_refused_body_does_not_spoil_the_next_request(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        # Both on one connection: what is left of the first body is no second request.
        smuggled = b"GET /v2/_catalog HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000
        refused = await it.http.put("/v2/A/manifests/1", content=smuggled)
        assert codes(refused) == ["NAME_INVALID"]
        answer = await it.http.get("/v2/")
        assert answer.json() == {}

    at_registry(tmp_path, act)


def test_error_bodies_name_what_was_wrong_and_no_path_of_ours(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refusals: list[httpx.Response] = [
            await it.http.get("/v2/a/manifests/nothing"),
            await it.http.get(f"/v2/a/blobs/{digest(DATA)}"),
            await it.http.put("/v2/a/blobs/uploads/x"),
            await it.http.put(await it.begin("a"), params={"digest": digest(b"")}, content=DATA),
            await it.put("a", "1", manifest([b"missing"])),
        ]
        for refused in refusals:
            assert str(tmp_path) not in refused.text
            assert "Traceback" not in refused.text

    at_registry(tmp_path, act)
