"""Manifests by the distribution specification 1.1: end-3, end-7, end-9."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from pyrsia_node.model.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    EMPTY_CONFIG,
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
    index,
    manifest,
)

SIX_TYPES = (
    OCI_INDEX,
    DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
    OCI_MANIFEST,
    DOCKER_LIST,
)


def test_manifest_is_served_byte_for_byte_by_tag_and_by_digest(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a/b", "1.0")
        for reference in ("1.0", digest(data)):
            got = await it.get("a/b", reference)
            assert (got.status_code, got.content) == (200, data)
            head = await it.http.head(f"/v2/a/b/manifests/{reference}")
            assert (head.status_code, head.content) == (200, b"")
            for answer in (got, head):
                assert answer.headers["content-type"] == OCI_MANIFEST
                assert answer.headers["content-length"] == str(len(data))
                assert answer.headers["docker-content-digest"] == digest(data)
                assert answer.headers["etag"] == f'"{digest(data)}"'
                assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
                assert answer.headers["x-pyrsia-verified"] == "local"

    at_registry(tmp_path, act)


def test_put_says_where_the_manifest_is(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        data = manifest()
        put = await it.put("a", "latest", data)
        assert put.status_code == 201
        assert put.headers["location"] == f"/v2/a/manifests/{digest(data)}"
        assert put.headers["docker-content-digest"] == digest(data)
        assert (await it.http.get(put.headers["location"])).content == data

    at_registry(tmp_path, act)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_by_digest_names_many_tags(tmp_path: Path, algorithm: str) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        data = manifest()
        name = digest(data, algorithm)
        tags = [f"v{number}" for number in range(12)]
        put = await it.http.put(
            f"/v2/a/manifests/{name}",
            params={"tag": tags},
            content=data,
            headers={"content-type": OCI_MANIFEST},
        )
        assert put.status_code == 201
        assert put.headers["oci-tag"].split(", ") == tags
        for tag in tags:
            got = await it.get("a", tag)
            assert (got.content, got.headers["docker-content-digest"]) == (data, name)

    at_registry(tmp_path, act)


def test_six_accept_lines_in_any_order_mean_all_six(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a", "1")
        for first in range(len(SIX_TYPES)):
            turned = SIX_TYPES[first:] + SIX_TYPES[:first]
            request = httpx.Request(
                "GET",
                f"{it.site.url}/v2/a/manifests/1",
                headers=[("host", "localhost"), *(("accept", media) for media in turned)],
            )
            got = await it.http.send(request)
            assert (got.status_code, got.content) == (200, data)

    at_registry(tmp_path, act)


def test_client_without_accept_gets_what_there_is(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a", "1")
        request = httpx.Request("GET", f"{it.site.url}/v2/a/manifests/1")
        assert "accept" not in request.headers
        got = await it.http.send(request)
        assert (got.status_code, got.content) == (200, data)

    at_registry(tmp_path, act)


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", OCI_MANIFEST])
def test_accept_that_takes_the_type_is_answered(tmp_path: Path, accept: str) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        assert (await it.get("a", "1", accept=accept)).status_code == 200

    at_registry(tmp_path, act)


@pytest.mark.parametrize("accept", [DOCKER_LIST, "text/html", f"{OCI_MANIFEST};q=0"])
def test_accept_that_does_not_take_the_type_is_404(tmp_path: Path, accept: str) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        refused = await it.get("a", "1", accept=accept)
        assert (refused.status_code, codes(refused)) == (404, ["MANIFEST_UNKNOWN"])
        assert OCI_MANIFEST in refused.text

    at_registry(tmp_path, act)


def test_known_manifest_is_304(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        first = await it.push_image("a", "1")
        etag = f'"{digest(first)}"'
        unchanged = await it.get("a", "1", **{"if-none-match": etag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        second = await it.push_image("a", "1", b"another layer")
        moved = await it.get("a", "1", **{"if-none-match": etag})
        assert (moved.status_code, moved.content) == (200, second)

    at_registry(tmp_path, act)


@pytest.mark.parametrize("reference", ["nothing", digest(b"nothing"), digest(b"", "sha512")])
def test_unknown_manifest_is_404(tmp_path: Path, reference: str) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        for method in ("GET", "HEAD", "DELETE"):
            gone = await it.http.request(method, f"/v2/a/manifests/{reference}")
            assert gone.status_code == 404
            if method != "HEAD":
                assert codes(gone) == ["MANIFEST_UNKNOWN"]

    at_registry(tmp_path, act)


def test_manifest_with_missing_blobs_names_each(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        layers = [b"one", b"two", b"three"]
        await it.push("a", layers[1])
        before = it.stored_files()
        refused = await it.put("a", "1", manifest(layers))
        assert refused.status_code == 400
        assert codes(refused) == ["MANIFEST_BLOB_UNKNOWN"] * 3
        missing = [error["detail"]["digest"] for error in refused.json()["errors"]]
        assert missing == [digest(EMPTY), digest(b"one"), digest(b"three")]
        assert (await it.get("a", "1")).status_code == 404
        assert it.stored_files() == before

    at_registry(tmp_path, act)


def test_blob_of_another_repository_does_not_count(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        refused = await it.put("b", "1", manifest([b"layer"]))
        assert codes(refused) == ["MANIFEST_BLOB_UNKNOWN"] * 2

    at_registry(tmp_path, act)


def test_layers_that_their_vendor_alone_distributes_may_be_absent(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        foreign = descriptor(
            b"of a vendor", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        )
        data = manifest(layers=[], extra=1).replace(
            b'"layers": []', b'"layers": [' + json.dumps(foreign).encode() + b"]"
        )
        assert (await it.put("a", "1", data)).status_code == 201

    at_registry(tmp_path, act)


def test_index_needs_its_manifests(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        child = await it.push_image("a", "amd64")
        absent = manifest([b"not here"])
        refused = await it.put("a", "all", index([child, absent]))
        assert codes(refused) == ["MANIFEST_BLOB_UNKNOWN"]
        assert refused.json()["errors"][0]["detail"] == {"digest": digest(absent)}
        whole = index([child])
        assert (await it.put("a", "all", whole)).status_code == 201
        got = await it.get("a", "all")
        assert (got.content, got.headers["content-type"]) == (whole, OCI_INDEX)
        nested = index([])
        assert (await it.put("a", "nested", nested)).status_code == 201

    at_registry(tmp_path, act)


def test_docker_forms_are_kept_as_they_are(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        config = descriptor(EMPTY, "application/vnd.docker.container.image.v1+json")
        data = manifest(mediaType=DOCKER_MANIFEST, config=config)
        assert (await it.put("a", "1", data)).status_code == 201
        listed = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": DOCKER_LIST,
                "manifests": [descriptor(data, DOCKER_MANIFEST)],
            }
        ).encode()
        assert (await it.put("a", "list", listed)).status_code == 201
        got = await it.get("a", "list")
        assert (got.content, got.headers["content-type"]) == (listed, DOCKER_LIST)

    at_registry(tmp_path, act)


def test_parameters_of_the_content_type_are_ignored(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        put = await it.put("a", "1", manifest(), f"{OCI_MANIFEST}; charset=utf-8")
        assert put.status_code == 201
        assert (await it.get("a", "1")).headers["content-type"] == OCI_MANIFEST

    at_registry(tmp_path, act)


def test_manifest_of_four_mebibytes_is_taken(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        data = manifest(annotations={"filling": ""})
        data = data.replace(
            b'"filling": ""', b'"filling": "%s"' % (b"x" * (MANIFEST_BYTES_MAX - len(data)))
        )
        assert len(data) == MANIFEST_BYTES_MAX
        assert (await it.put("a", "1", data)).status_code == 201
        assert (await it.get("a", "1")).content == data

    at_registry(tmp_path, act)


def test_deleted_tag_leaves_the_manifest(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a", "1")
        assert (await it.http.delete("/v2/a/manifests/1")).status_code == 202
        assert (await it.get("a", "1")).status_code == 404
        assert (await it.get("a", digest(data))).content == data

    at_registry(tmp_path, act)


def test_deleted_manifest_takes_its_tags_with_it(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a", "1")
        await it.put("a", "2", data)
        other = await it.push_image("a", "3", b"other")
        assert (await it.http.delete(f"/v2/a/manifests/{digest(data)}")).status_code == 202
        for reference in ("1", "2", digest(data)):
            assert (await it.get("a", reference)).status_code == 404
        assert (await it.get("a", "3")).content == other

    at_registry(tmp_path, act)


def test_manifest_of_an_index_is_not_deleted(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        child = await it.push_image("a", "1")
        await it.put("a", "all", index([child]))
        refused = await it.http.delete(f"/v2/a/manifests/{digest(child)}")
        assert (refused.status_code, codes(refused)) == (405, ["DENIED"])
        assert (await it.get("a", digest(child))).status_code == 200

    at_registry(tmp_path, act)


def test_tag_is_read_anew_after_each_push(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for number in range(5):
            data = await it.push_image("a", "latest", b"layer %d" % number)
            assert (await it.get("a", "latest")).content == data

    at_registry(tmp_path, act)


def test_data_field_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        config = descriptor(EMPTY, EMPTY_CONFIG, data="e30=")
        data = manifest(config=config, custom={"deep": [1, 2, {"x": None}]})
        assert (await it.put("a", "1", data)).status_code == 201
        assert (await it.get("a", "1")).content == data

    at_registry(tmp_path, act)
