"""What went wrong in other registries, each as a rule."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.fakes.registry_client import EMPTY, Client, at_registry, descriptor, digest, manifest

DATA = b"some bytes"


def test_no_location_has_a_query(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        # Simple clients append ?digest= to what they are told.
        begun = await it.http.post("/v2/a/blobs/uploads/?digest-algorithm=sha256")
        location = begun.headers["location"]
        patched = await it.http.patch(location, content=DATA)
        asked = await it.http.get(location)
        done = await it.http.put(f"{patched.headers['location']}?digest={digest(DATA)}")
        await it.push("a", EMPTY)
        put = await it.put("a", "1", manifest())
        for answer in (begun, patched, asked, done, put):
            assert "?" not in answer.headers["location"]

    at_registry(tmp_path, act)


def test_many_pulls_at_once_all_get_every_byte(tmp_path: Path) -> None:
    layer = bytes(range(256)) * 2000

    async def act(it: Client) -> None:
        data = await it.push_image("a", "1", layer)
        blobs = [it.blob("a", digest(layer)) for _ in range(24)]
        manifests = [it.get("a", "1") for _ in range(24)]
        answers = await asyncio.gather(*blobs, *manifests)
        assert all(answer.content == layer for answer in answers[:24])
        assert all(answer.content == data for answer in answers[24:])

    at_registry(tmp_path, act)


def test_same_blob_pushed_many_times_at_once_is_one_blob(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        names = await asyncio.gather(*(it.push("a", DATA) for _ in range(12)))
        assert set(names) == {digest(DATA)}
        assert it.stored_files() == 1
        assert (await it.blob("a", digest(DATA))).content == DATA

    at_registry(tmp_path, act)


def test_two_writers_of_one_upload_never_mix_their_bytes(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        location = await it.begin("a")
        first, second = b"1" * 3_000_000, b"2" * 3_000_000
        answers = await asyncio.gather(
            it.http.patch(location, content=first, headers={"content-range": "0-2999999"}),
            it.http.patch(location, content=second, headers={"content-range": "0-2999999"}),
        )
        assert sorted(answer.status_code for answer in answers) in ([202, 416], [202, 503])
        winner = first if answers[0].status_code == 202 else second
        done = await it.http.put(location, params={"digest": digest(winner)})
        assert done.status_code == 201

    at_registry(tmp_path, act)


def test_tag_list_is_never_kept_by_caches(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        await it.push_image("a", "1")
        for path in ("tags/list", f"referrers/{digest(DATA)}", "_oci/tag-history/1"):
            answer = await it.http.get(f"/v2/a/{path}")
            assert answer.headers["cache-control"] == "no-cache"

    at_registry(tmp_path, act)


def test_hundreds_of_referrers_are_one_answer(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        subject = await it.push_image("a", "1")
        of = descriptor(subject, "application/vnd.oci.image.manifest.v1+json")
        for number in range(40):
            data = manifest(subject=of, annotations={"number": str(number)})
            await it.put("a", digest(data), data)
        answer = await it.http.get(f"/v2/a/referrers/{digest(subject)}")
        assert len(answer.json()["manifests"]) == 40
        assert "link" not in answer.headers

    at_registry(tmp_path, act)
