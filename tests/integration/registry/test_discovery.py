"""Discovery by the distribution specification 1.1: end-1, end-8, end-12; catalog; extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from pyrsia_node.model.manifests import OCI_INDEX
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

SBOM = "application/vnd.example.sbom"
TAGS = ["1.0", "1.10", "1.9", "A", "Z", "_x", "a", "latest", "z"]
"""In the order of their bytes."""


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_ping_says_that_this_is_a_registry(tmp_path: Path, path: str) -> None:
    async def act(it: Client) -> None:
        answer = await it.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"

    at_registry(tmp_path, act)


async def _push_tags(it: Client) -> None:
    await it.push("a", EMPTY)
    for tag in reversed(TAGS):
        await it.put("a", tag, manifest())


def test_tags_are_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await _push_tags(it)
        answer = await it.http.get("/v2/a/tags/list")
        assert answer.json() == {"name": "a", "tags": TAGS}
        assert "link" not in answer.headers

    at_registry(tmp_path, act)


@pytest.mark.parametrize("size", [1, 2, 4, 9, 10])
def test_pages_of_tags_joined_by_their_links_are_all_tags(tmp_path: Path, size: int) -> None:
    async def act(it: Client) -> None:
        await _push_tags(it)
        url, found, pages = f"/v2/a/tags/list?n={size}", list[str](), 0
        while url:
            answer = await it.http.get(url)
            page = answer.json()["tags"]
            assert 0 < len(page) <= size
            found, pages = found + page, pages + 1
            link = answer.links.get("next", {}).get("url", "")
            url = urljoin(str(answer.request.url), link) if link else ""
        assert (found, pages) == (TAGS, -(-len(TAGS) // size))

    at_registry(tmp_path, act)


def test_last_begins_behind_a_tag_that_need_not_exist(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await _push_tags(it)
        for last, after in (("1.9", TAGS[3:]), ("1.95", TAGS[3:]), ("zz", [])):
            answer = await it.http.get("/v2/a/tags/list", params={"last": last})
            assert answer.json()["tags"] == after
        answer = await it.http.get("/v2/a/tags/list", params={"n": 2, "last": "A"})
        assert answer.json()["tags"] == ["Z", "_x"]

    at_registry(tmp_path, act)


def test_no_tags_are_an_empty_list_and_no_link(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await _push_tags(it)
        answer = await it.http.get("/v2/a/tags/list?n=0")
        assert (answer.json()["tags"], "link" in answer.headers) == ([], False)
        await it.push("b", EMPTY)
        data = manifest()
        await it.put("b", digest(data), data)
        assert (await it.http.get("/v2/b/tags/list")).json() == {"name": "b", "tags": []}

    at_registry(tmp_path, act)


def test_tags_of_an_unknown_repository_are_404(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        gone = await it.http.get("/v2/nobody/tags/list")
        assert (gone.status_code, codes(gone)) == (404, ["NAME_UNKNOWN"])

    at_registry(tmp_path, act)


@pytest.mark.parametrize("query", ["n=x", "n=-1", "n=1.5", f"n={'9' * 30}", "n=٣"])
def test_page_size_that_is_no_number_is_refused(tmp_path: Path, query: str) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        for path in ("/v2/a/tags/list", "/v2/_catalog"):
            assert (await it.http.get(f"{path}?{query}")).status_code == 400

    at_registry(tmp_path, act)


def test_catalog_lists_repositories_in_pages(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        names = ["a", "a/b", "b", "team/app", "z"]
        for name in reversed(names):
            await it.push_image(name, "1")
        assert (await it.http.get("/v2/_catalog")).json() == {"repositories": names}
        first = await it.http.get("/v2/_catalog?n=2")
        assert first.json() == {"repositories": names[:2]}
        second = await it.http.get(first.links["next"]["url"])
        assert second.json() == {"repositories": names[2:4]}
        third = await it.http.get(second.links["next"]["url"])
        assert (third.json(), "link" in third.headers) == ({"repositories": ["z"]}, False)

    at_registry(tmp_path, act)


def test_referrers_list_type_annotations_and_artifact_type(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        subject = await it.push_image("a", "1")
        of: dict[str, Any] = {
            "subject": descriptor(subject, "application/vnd.oci.image.manifest.v1+json")
        }
        typed = manifest(artifactType=SBOM, annotations={"created": "today"}, **of)
        untyped = manifest(**of)
        listed = index([], **of)
        for data in (typed, untyped, listed):
            put = await it.put("a", digest(data), data)
            assert put.status_code == 201
            assert put.headers["oci-subject"] == digest(subject)
        answer = await it.http.get(f"/v2/a/referrers/{digest(subject)}")
        assert answer.headers["content-type"] == OCI_INDEX
        body = answer.json()
        assert (body["schemaVersion"], body["mediaType"]) == (2, OCI_INDEX)
        found = {each["digest"]: each for each in body["manifests"]}
        assert found.keys() == {digest(typed), digest(untyped), digest(listed)}
        assert found[digest(typed)] == {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(typed),
            "size": len(typed),
            "artifactType": SBOM,
            "annotations": {"created": "today"},
        }
        # Without a type of its own a manifest has that of its config, an index has none.
        assert found[digest(untyped)]["artifactType"] == "application/vnd.oci.empty.v1+json"
        assert "artifactType" not in found[digest(listed)]
        filtered = await it.http.get(
            f"/v2/a/referrers/{digest(subject)}", params={"artifactType": SBOM}
        )
        assert filtered.headers["oci-filters-applied"] == "artifactType"
        assert [each["digest"] for each in filtered.json()["manifests"]] == [digest(typed)]

    at_registry(tmp_path, act)


def test_subject_may_come_later_or_never(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push("a", EMPTY)
        later = manifest(annotations={"I": "come later"})
        of: dict[str, Any] = {
            "subject": descriptor(later, "application/vnd.oci.image.manifest.v1+json")
        }
        data = manifest(artifactType=SBOM, **of)
        assert (await it.put("a", "sbom", data)).status_code == 201
        answer = await it.http.get(f"/v2/a/referrers/{digest(later)}")
        assert len(answer.json()["manifests"]) == 1

    at_registry(tmp_path, act)


def test_referrers_of_what_nothing_refers_to_are_an_empty_index(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        for name in ("a", "never-pushed"):
            answer = await it.http.get(f"/v2/{name}/referrers/{digest(b'?')}")
            assert (answer.status_code, answer.json()["manifests"]) == (200, [])
        bad = await it.http.get("/v2/a/referrers/sha256:xyz")
        assert (bad.status_code, codes(bad)) == (400, ["DIGEST_INVALID"])

    at_registry(tmp_path, act)


def test_deleted_referrer_is_not_listed(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        subject = await it.push_image("a", "1")
        of: dict[str, Any] = {
            "subject": descriptor(subject, "application/vnd.oci.image.manifest.v1+json")
        }
        data = manifest(artifactType=SBOM, **of)
        await it.put("a", digest(data), data)
        await it.http.delete(f"/v2/a/manifests/{digest(data)}")
        answer = await it.http.get(f"/v2/a/referrers/{digest(subject)}")
        assert answer.json()["manifests"] == []

    at_registry(tmp_path, act)


def test_fallback_tag_is_an_ordinary_tag(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        subject = await it.push_image("a", "1")
        tag = digest(subject).replace(":", "-")
        assert (await it.put("a", tag, index([subject]))).status_code == 201
        assert (await it.get("a", tag)).content == index([subject])
        assert tag in (await it.http.get("/v2/a/tags/list")).json()["tags"]

    at_registry(tmp_path, act)


def test_extensions_are_told(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for path in ("/v2/_oci/ext/discover", "/v2/a/_oci/ext/discover"):
            extensions = (await it.http.get(path)).json()["extensions"]
            assert [each["name"] for each in extensions] == ["_oci"]

    at_registry(tmp_path, act)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/a/tags/list", "GET, HEAD"),
        ("PATCH", "/v2/a/manifests/1", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("PUT", f"/v2/a/blobs/{digest(b'')}", "GET, HEAD, DELETE"),
    ],
)
def test_method_that_an_endpoint_lacks_is_405(
    tmp_path: Path, method: str, path: str, allowed: str
) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.request(method, path)
        assert (refused.status_code, codes(refused)) == (405, ["UNSUPPORTED"])
        assert refused.headers["allow"] == allowed

    at_registry(tmp_path, act)
