"""Whose a name is: the log's, this node's own, an upstream's; and no push shadows anybody's.

docs/design/registry.md, "Names".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.artifacts.images.found import FoundManifest
from pyrsia_node.model.manifests import OCI_MANIFEST
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports.registry import Namespace
from pyrsia_node.schema.config import Config
from tests.fakes.registry_client import EMPTY, Client, at_registry, codes, digest, manifest
from tests.fakes.registry_site import NetworkStandIn

LOGGED = manifest([b"of the log"])
ABROAD = manifest([b"of an upstream"])


def _found(data: bytes, *, of_log: bool) -> FoundManifest:
    vouched = "log" if of_log else "upstream"
    return FoundManifest(data, OCI_MANIFEST, OciDigest.parse(digest(data)), vouched)  # type: ignore[arg-type]


def _network(**changes: object) -> NetworkStandIn:
    network = NetworkStandIn(
        logged={
            "docker.io/library/alpine:3.20": _found(LOGGED, of_log=True),
            "quay.example/team/app:1": _found(LOGGED, of_log=True),
        },
        upstream={
            "docker.io/library/alpine:edge": _found(ABROAD, of_log=False),
            "docker.io/library/debian:12": _found(ABROAD, of_log=False),
        },
    )
    return replace(network, **changes)  # type: ignore[arg-type]


def _with(**changes: object) -> Callable[[Config], Config]:
    return lambda config: replace(config, registry=replace(config.registry, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "reference", "vouched"),
    [
        ("alpine", "3.20", "log"),
        ("library/alpine", "3.20", "log"),
        ("f/docker.io/library/alpine", "3.20", "log"),
        ("f/quay.example/team/app", "1", "log"),
        ("alpine", "edge", "upstream"),
        ("debian", "12", "upstream"),
    ],
)
def test_bare_names_are_the_default_registry(
    tmp_path: Path, path: str, reference: str, vouched: str
) -> None:
    async def act(it: Client) -> None:
        got = await it.get(path, reference)
        assert got.status_code == 200
        assert got.headers["x-pyrsia-verified"] == vouched

    at_registry(tmp_path, act, network=_network())


def test_ns_names_the_registry_and_is_said_back(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for repository, registry in (("library/alpine", "docker.io"), ("team/app", "quay.example")):
            tag = "1" if registry == "quay.example" else "3.20"
            got = await it.http.get(f"/v2/{repository}/manifests/{tag}", params={"ns": registry})
            assert (got.status_code, got.headers["oci-namespace"]) == (200, registry)
        gone = await it.http.get("/v2/library/alpine/manifests/3.20?ns=other.example")
        assert gone.status_code == 404

    at_registry(tmp_path, act, network=_network())


@pytest.mark.parametrize("path", ["alpine", "library/alpine", "debian", "f/quay.example/new"])
def test_push_to_a_name_that_others_have_is_denied(tmp_path: Path, path: str) -> None:
    async def act(it: Client) -> None:
        attempts = [
            ("POST", f"/v2/{path}/blobs/uploads/"),
            ("POST", f"/v2/{path}/blobs/uploads/?digest={digest(b'')}"),
            ("POST", f"/v2/{path}/blobs/uploads/?mount={digest(b'')}"),
            ("PUT", f"/v2/{path}/manifests/3.20"),
            ("DELETE", f"/v2/{path}/manifests/3.20"),
            ("DELETE", f"/v2/{path}/blobs/{digest(b'')}"),
        ]
        for method, url in attempts:
            refused = await it.http.request(method, url)
            assert (refused.status_code, codes(refused)) == (403, ["DENIED"]), url
        assert it.stored_files() == 0

    at_registry(tmp_path, act, network=_network())


def test_own_repository_is_never_asked_for_upstream(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("debian2", "1")
        it.site.network.upstream["docker.io/library/debian2:2"] = _found(ABROAD, of_log=False)
        assert (await it.get("debian2", "1")).headers["x-pyrsia-verified"] == "local"
        gone = await it.get("debian2", "2")
        assert (gone.status_code, codes(gone)) == (404, ["MANIFEST_UNKNOWN"])

    at_registry(tmp_path, act, network=_network())


def test_repository_that_exists_is_pushed_to_while_the_upstream_is_down(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("mine", "1")
        it.site.network.is_down = True
        await it.push_image("mine", "2", b"second")

    at_registry(tmp_path, act, network=_network())


def test_new_repository_waits_while_nobody_can_tell_whose_it_is(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.post("/v2/mine/blobs/uploads/")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "registry.local_prefixes" in refused.text

    at_registry(tmp_path, act, network=_network(is_down=True))


def test_local_prefix_is_this_nodes_own_whatever_others_say(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("library/alpine", "3.20", b"mine")
        assert (await it.get("library/alpine", "3.20")).content == data
        gone = await it.get("library/debian", "12")
        assert (gone.status_code, codes(gone)) == (404, ["MANIFEST_UNKNOWN"])
        # Only at a boundary: "library" says nothing of "library2", nor of another registry.
        assert (await it.get("f/docker.io/library/alpine", "3.20")).content == LOGGED

    at_registry(
        tmp_path, act, network=_network(is_down=True), change=_with(local_prefixes=("library",))
    )


def test_log_wins_over_what_was_pushed_before(tmp_path: Path) -> None:
    async def before(it: Client) -> None:
        await it.push_image("alpine", "3.20", b"mine")
        await it.push_image("alpine", "own-tag", b"mine")

    async def after(it: Client) -> None:
        got = await it.get("alpine", "3.20")
        assert (got.content, got.headers["x-pyrsia-verified"]) == (LOGGED, "log")
        kept = await it.get("alpine", "own-tag")
        assert (kept.status_code, kept.headers["x-pyrsia-verified"]) == (200, "local")
        refused = await it.http.post("/v2/alpine/blobs/uploads/")
        assert (refused.status_code, codes(refused)) == (403, ["DENIED"])
        tags = (await it.http.get("/v2/alpine/tags/list")).json()["tags"]
        assert tags == ["3.20", "edge", "own-tag"]

    at_registry(tmp_path, before)
    at_registry(tmp_path, after, network=_network())


def test_node_without_a_registry_takes_no_push_and_still_serves_images(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.post("/v2/mine/blobs/uploads/")
        assert (refused.status_code, codes(refused)) == (405, ["UNSUPPORTED"])
        assert "registry.enabled" in refused.text
        assert (await it.get("alpine", "3.20")).content == LOGGED

    at_registry(tmp_path, act, network=_network(), change=_with(enabled=False))


def test_images_of_others_never_ask_for_a_login(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        assert (await it.get("alpine", "3.20")).status_code == 200
        assert (await it.get("debian", "12")).status_code == 200
        refused = await it.http.post("/v2/mine/blobs/uploads/")
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        assert refused.headers["www-authenticate"].startswith("Bearer ")

    at_registry(tmp_path, act, network=_network(), change=_with(anonymous="none"))


def test_what_credentials_fetched_is_not_for_everybody(tmp_path: Path) -> None:
    network = _network(credentialed=frozenset({"docker.io/library/debian"}))

    async def act(it: Client) -> None:
        refused = await it.get("debian", "12")
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        # What the log vouches for is public whatever the upstream wants.
        assert (await it.get("alpine", "3.20")).status_code == 200

    at_registry(tmp_path, act, network=network, change=_with(anonymous="pull"))


def test_mount_does_not_take_from_repositories_that_the_client_may_not_read(
    tmp_path: Path,
) -> None:
    async def act(it: Client) -> None:
        name = await it.push("secret/app", b"a secret")
        await it.site.parts.accounts.change(
            lambda db: db.put_namespace(Namespace("secret", is_private=True))
        )
        for query in ({"from": "secret/app"}, {}):
            begun = await it.http.post("/v2/mine/blobs/uploads/", params={"mount": name, **query})
            assert begun.status_code == 202
        assert (await it.blob("secret/app", name)).status_code == 401
        await it.push("mine", EMPTY)

    at_registry(tmp_path, act)


PRIVATE = frozenset({"docker.io/library/alpine", "docker.io/library/debian"})


def test_logged_tag_does_not_open_what_credentials_would_fetch(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        assert (await it.get("alpine", "3.20")).status_code == 200
        # "edge" is not in the log: it would come with this node's credentials.
        for reference in ("edge", digest(ABROAD)):
            refused = await it.get("alpine", reference)
            assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        refused = await it.blob("alpine", digest(b"of an upstream"))
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])

    network = _network(credentialed=PRIVATE)
    at_registry(tmp_path, act, network=network, change=_with(anonymous="pull"))


def test_tags_that_credentials_would_fetch_are_not_for_everybody(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.get("/v2/debian/tags/list")
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        # What the log has is public; what only the upstream has is left out.
        assert (await it.http.get("/v2/alpine/tags/list")).json()["tags"] == ["3.20"]

    network = _network(credentialed=PRIVATE)
    at_registry(tmp_path, act, network=network, change=_with(anonymous="pull"))


def test_stranger_does_not_make_the_node_ask_upstreams(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for name in ("debian", "nobody-has-this"):
            refused = await it.http.post(f"/v2/{name}/blobs/uploads/")
            assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        assert it.site.network.asked == []

    at_registry(tmp_path, act, network=_network(), change=_with(anonymous="pull"))


def test_name_in_a_private_namespace_is_told_to_no_upstream(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.site.parts.accounts.change(
            lambda db: db.put_namespace(Namespace("debian", is_private=True))
        )
        refused = await it.http.post("/v2/debian/blobs/uploads/")
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHORIZED"])
        assert (await it.get("debian", "12")).status_code == 401
        assert it.site.network.asked == []

    at_registry(tmp_path, act, network=_network())


def test_pushed_content_is_not_kept_by_caches_on_the_way(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        small, large = await it.push("mine", b"small"), await it.push("mine", b"large" * 10_000)
        for name in (small, large):
            assert (await it.blob("mine", name)).headers["cache-control"].startswith("private")

    at_registry(tmp_path, act)


def test_official_name_is_never_pushed_to_even_if_nobody_knows_it(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        refused = await it.http.post("/v2/library/new/blobs/uploads/")
        assert (refused.status_code, codes(refused)) == (403, ["DENIED"])
        refused = await it.put("library/new", "1", manifest())
        assert (refused.status_code, codes(refused)) == (403, ["DENIED"])
        await it.push_image("new", "1")

    at_registry(tmp_path, act)


def test_nothing_that_is_served_runs_in_a_browser_as_a_page_of_the_node(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        page = b"<script>alert(1)</script>"
        await it.push_image("mine", "1", page)
        answers = [
            await it.blob("mine", digest(page)),
            await it.blob("mine", digest(page), range="bytes=0-5"),
            await it.get("mine", "1"),
            await it.get("mine", "none"),
            await it.http.get("/v2/mine/tags/list"),
        ]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
        assert answers[0].headers["content-type"] == "application/octet-stream"

    at_registry(tmp_path, act)
