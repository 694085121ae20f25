"""``_oci/tag-history``: what a tag has been, who did it and when; kept after deletion."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pyrsia_node.artifacts.images.found import FoundManifest, LoggedChange
from pyrsia_node.model.manifests import OCI_MANIFEST
from pyrsia_node.model.oci import OciDigest
from tests.fakes.registry_client import Client, at_registry, codes, digest, manifest
from tests.fakes.registry_site import NetworkStandIn

HISTORY = "/v2/a/_oci/tag-history"


async def _history(it: Client, tag: str = "latest", **params: Any) -> list[dict[str, Any]]:
    answer = await it.http.get(f"{HISTORY}/{tag}", params=params)
    assert answer.status_code == 200, answer.text
    steps: list[dict[str, Any]] = answer.json()
    return steps


def test_history_lists_every_change_newest_first(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        pushed = [await it.push_image("a", "latest", b"layer %d" % n) for n in range(3)]
        steps = await _history(it)
        assert [step["digest"] for step in steps] == [digest(data) for data in reversed(pushed)]
        assert {step["mediaType"] for step in steps} == {OCI_MANIFEST}
        assert [step["size"] for step in steps] == [len(data) for data in reversed(pushed)]
        assert {(step["actor"], step["verified"]) for step in steps} == {("anonymous", "local")}
        times = [datetime.fromisoformat(step["created"]) for step in steps]
        assert times == sorted(times, reverse=True)

    at_registry(tmp_path, act)


def test_push_of_the_same_manifest_makes_no_history(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for _ in range(3):
            await it.push_image("a", "latest")
        assert len(await _history(it)) == 1

    at_registry(tmp_path, act)


def test_history_outlives_tag_and_manifest(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        first = await it.push_image("a", "latest")
        await it.http.delete("/v2/a/manifests/latest")
        second = await it.push_image("a", "latest", b"second")
        await it.http.delete(f"/v2/a/manifests/{digest(second)}")
        steps = await _history(it)
        assert [step["digest"] for step in steps] == [digest(second), digest(first)]
        for step in steps:
            assert step["deletedBy"] == "anonymous"
            assert step["deleted"] >= step["created"]
        third = await it.push_image("a", "latest", b"third")
        assert "deleted" not in (await _history(it))[0]
        assert (await _history(it))[0]["digest"] == digest(third)

    at_registry(tmp_path, act)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_of_history_joined_are_the_whole(tmp_path: Path, size: int) -> None:
    async def act(it: Client) -> None:
        for number in range(4):
            await it.push_image("a", "latest", b"layer %d" % number)
            await it.http.delete("/v2/a/manifests/latest")
        whole = await _history(it)
        assert len(whole) == 4
        url, found = f"{HISTORY}/latest?n={size}", list[dict[str, Any]]()
        while url:
            answer = await it.http.get(url)
            assert 0 < len(answer.json()) <= size
            found += answer.json()
            url = answer.links.get("next", {}).get("url", "")
        assert found == whole

    at_registry(tmp_path, act)


def test_last_may_be_the_time_of_a_step(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        for number in range(3):
            await it.push_image("a", "latest", b"layer %d" % number)
        whole = await _history(it)
        assert await _history(it, last=whole[0]["created"]) == whole[1:]
        assert await _history(it, last=whole[2]["created"]) == []

    at_registry(tmp_path, act)


@pytest.mark.parametrize("last", ["yesterday", "2026-01-01T00:00:00", "-1", ""])
def test_last_that_is_no_step_is_refused(tmp_path: Path, last: str) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "latest")
        refused = await it.http.get(f"{HISTORY}/latest", params={"last": last})
        assert (refused.status_code, codes(refused)) == (400, ["UNSUPPORTED"])

    at_registry(tmp_path, act)


def test_tag_without_history_is_404(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "latest")
        for path in (f"{HISTORY}/other", "/v2/nobody/_oci/tag-history/latest"):
            gone = await it.http.get(path)
            assert (gone.status_code, codes(gone)) == (404, ["MANIFEST_UNKNOWN"])

    at_registry(tmp_path, act)


def _log() -> NetworkStandIn:
    """Return a log that moved library/alpine:3.20 from one digest to another."""
    old, new = manifest([b"old"]), manifest([b"new"])
    name = "docker.io/library/alpine"
    changes = [
        LoggedChange(digest(old), OCI_MANIFEST, len(old), 1000, 7, "node-1", (("node-1", 900),)),
        LoggedChange(digest(new), OCI_MANIFEST, len(new), 2000, 9, "node-2", ()),
    ]
    found = FoundManifest(new, OCI_MANIFEST, OciDigest.parse(digest(new)), "log")
    return NetworkStandIn(logged={f"{name}:3.20": found}, changes={f"{name}:3.20": changes})


@pytest.mark.parametrize("path", ["alpine", "library/alpine", "f/docker.io/library/alpine"])
def test_step_of_the_log_names_its_entry_and_proof(tmp_path: Path, path: str) -> None:
    async def act(it: Client) -> None:
        answer = await it.http.get(f"/v2/{path}/_oci/tag-history/3.20")
        newest, oldest = answer.json()
        assert (newest["index"], newest["proof"]) == (9, "/api/v1/entries/9/proof")
        assert (oldest["verified"], oldest["created"]) == ("log", "1970-01-01T00:00:01.000Z")
        assert oldest["sightings"] == [{"member": "node-1", "seen": "1970-01-01T00:00:00.900Z"}]
        first = await it.http.get(f"/v2/{path}/_oci/tag-history/3.20?n=1")
        second = await it.http.get(first.links["next"]["url"])
        assert [*first.json(), *second.json()] == [newest, oldest]

    at_registry(tmp_path, act, network=_log())


def test_clock_of_a_member_that_is_far_off_is_shown(tmp_path: Path) -> None:
    network = _log()
    steps = network.changes["docker.io/library/alpine:3.20"]
    steps[0] = replace(steps[0], sightings=(("node-1", 2**53 - 1),))

    async def act(it: Client) -> None:
        answer = await it.http.get("/v2/alpine/_oci/tag-history/3.20")
        assert answer.json()[-1]["sightings"][0]["seen"].startswith("9999-12-31")

    at_registry(tmp_path, act, network=network)


def test_own_history_stays_when_the_log_learns_the_name(tmp_path: Path) -> None:
    async def before(it: Client) -> None:
        await it.push_image("alpine", "3.20", b"mine")

    async def after(it: Client) -> None:
        steps = (await it.http.get("/v2/alpine/_oci/tag-history/3.20")).json()
        assert [step["verified"] for step in steps] == ["local", "log", "log"]

    at_registry(tmp_path, before)
    at_registry(tmp_path, after, network=_log())
