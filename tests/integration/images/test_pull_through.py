"""Pulling through a real registry: fetched once, believed for a while, served when it is down."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pyrsia_node.artifacts.images import registry_client, tag_book
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.model.oci import ImageName, OciDigest
from tests.fakes.faulty_front import FaultyFront, faulty_front
from tests.fakes.images import Image, Recipe, busybox_image, large_image, two_platforms
from tests.fakes.proxy_site import NAME, ProxySite, SetClock, proxy_site
from tests.fakes.registries import DebianRegistry, debian_registry

Act = Callable[[ProxySite], Awaitable[None]]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "PAUSE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with debian_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def front(registry: DebianRegistry) -> Iterator[FaultyFront]:
    with faulty_front(registry.url) as found:
        yield found


def run(
    folder: Path,
    url: str,
    act: Act,
    *,
    clock: SetClock | None = None,
    is_offline: bool = False,
    allow_private: bool = True,
) -> None:
    async def scenario() -> None:
        async with proxy_site(
            folder, url, clock=clock, is_offline=is_offline, allow_private=allow_private
        ) as it:
            await act(it)

    asyncio.run(scenario())


def blob_of(image: Image) -> str:
    """Return the largest blob of an image."""
    return max(image.blobs, key=lambda digest: len(image.blobs[digest]))


async def _drain(reader: Reader, got: list[int]) -> None:
    while sum(got) < reader.size:
        got.append(len(await reader.read(sum(got), 1 << 20)))


def asked(front: FaultyFront, method: str, part: str) -> int:
    return sum(part in each.target for each in front.asked if each.method == method)


def test_image_comes_through_byte_for_byte_and_is_fetched_once(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = two_platforms(Recipe(says="through"))
    registry.push(image, "team/app", "through")

    async def act(it: ProxySite) -> None:
        for _ in range(2):
            found = await it.proxy.manifest(NAME, "through")
            assert (found.data, found.media) == (image.root.data, image.root.media)
            assert not found.is_stale
            for child in image.children:
                assert (await it.proxy.manifest(NAME, child.digest)).data == child.data
            for digest, data in image.blobs.items():
                held = await it.proxy.stat(NAME, OciDigest.parse(digest))
                assert held.size == len(data)
                assert await it.read(digest) == data
        assert asked(front, "GET", "/blobs/") == len(image.blobs)
        assert asked(front, "GET", "/manifests/") == 1 + len(image.children)

    run(tmp_path, front.url, act)


def test_clients_that_miss_together_cause_one_fetch_and_all_get_everything(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = large_image(3_000_000, 7)
    registry.push(image, "team/app", "crowd")
    layer = blob_of(image)

    async def act(it: ProxySite) -> None:
        found = await asyncio.gather(*(it.proxy.manifest(NAME, "crowd") for _ in range(20)))
        assert {each.data for each in found} == {image.root.data}
        bodies = await asyncio.gather(*(it.read(layer) for _ in range(20)))
        assert {hashlib.sha256(body).hexdigest() for body in bodies} == {layer[7:]}
        assert asked(front, "HEAD", "/manifests/") == 1
        assert asked(front, "GET", "/manifests/") == 1
        assert asked(front, "GET", "/blobs/") == 1

    run(tmp_path, front.url, act)


def test_tag_is_asked_for_once_within_its_time_and_a_moved_one_is_seen_after_it(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    old, new = busybox_image(Recipe(says="first")), busybox_image(Recipe(says="second"))
    registry.push(old, "team/app", "moves")
    clock = SetClock()

    async def act(it: ProxySite) -> None:
        for _ in range(5):
            assert (await it.proxy.manifest(NAME, "moves")).data == old.root.data
        assert asked(front, "HEAD", "/manifests/moves") == 1
        registry.push(new, "team/app", "moves")
        clock.ms += 30_000
        assert (await it.proxy.manifest(NAME, "moves")).data == old.root.data
        assert asked(front, "HEAD", "/manifests/moves") == 1
        clock.ms += 31_000
        assert (await it.proxy.manifest(NAME, "moves")).data == new.root.data
        assert asked(front, "HEAD", "/manifests/moves") == 2

    run(tmp_path, front.url, act, clock=clock)


def test_tag_near_the_end_of_its_time_is_looked_at_behind_the_client(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    registry.push(busybox_image(Recipe(says="ahead")), "team/app", "ahead")
    clock = SetClock()

    async def act(it: ProxySite) -> None:
        await it.proxy.manifest(NAME, "ahead")
        clock.ms += 50_000
        await it.proxy.manifest(NAME, "ahead")
        while it.proxy._book._asking:
            await asyncio.wait(list(it.proxy._book._asking.values()))
            await asyncio.sleep(0)
        clock.ms += 40_000
        assert not (await it.proxy.manifest(NAME, "ahead")).is_stale
        assert asked(front, "HEAD", "/manifests/ahead") == 2

    run(tmp_path, front.url, act, clock=clock)


def test_known_tag_is_served_stale_while_the_upstream_is_down_also_after_a_restart(
    tmp_path: Path,
) -> None:
    image = busybox_image(Recipe(says="stale"))
    clock = SetClock()
    with debian_registry(tmp_path / "registry") as registry:
        registry.push(image, "team/app", "stale")
        url = registry.url

        async def warm(it: ProxySite) -> None:
            await it.proxy.manifest(NAME, "stale")
            for digest in image.blobs:
                await it.read(digest)

        run(tmp_path / "node", url, warm, clock=clock)
    clock.ms += 3_600_000

    async def down(it: ProxySite) -> None:
        found = await it.proxy.manifest(NAME, "stale")
        assert found.data == image.root.data
        assert found.is_stale
        for digest, data in image.blobs.items():
            assert await it.read(digest) == data
        with pytest.raises(UnavailableError):
            await it.proxy.manifest(NAME, "other")

    run(tmp_path / "node", url, down, clock=clock)
    run(tmp_path / "node", url, down, clock=clock, is_offline=True)


def test_cached_tag_does_not_wait_for_an_upstream_that_hangs(
    tmp_path: Path,
    registry: DebianRegistry,
    front: FaultyFront,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tag_book, "WAIT_SECONDS_MAX", 0.05)
    image = busybox_image(Recipe(says="hangs"))
    registry.push(image, "team/app", "hangs")
    clock = SetClock()

    async def act(it: ProxySite) -> None:
        await it.proxy.manifest(NAME, "hangs")
        clock.ms += 61_000

        async def never(_name: ImageName, _tag: str) -> registry_client.RemoteTag:
            await asyncio.Event().wait()
            raise AssertionError

        it.proxy._book._look = never
        async with asyncio.timeout(1):
            found = await it.proxy.manifest(NAME, "hangs")
        assert (found.data, found.is_stale) == (image.root.data, True)

    run(tmp_path, front.url, act, clock=clock)


def test_absence_is_remembered_for_a_short_time(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    registry.push(busybox_image(Recipe(says="present")), "team/app", "present")

    async def act(it: ProxySite) -> None:
        for _ in range(3):
            with pytest.raises(NotFoundError):
                await it.proxy.manifest(NAME, "absent")
            with pytest.raises(NotFoundError):
                await it.read("sha256:" + "1" * 64)
        assert asked(front, "HEAD", "/manifests/absent") == 1
        assert asked(front, "GET", "/blobs/") == 1

    run(tmp_path, front.url, act)


def test_cut_blob_is_taken_up_where_it_was_cut(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = large_image(3_000_000, 8)
    registry.push(image, "team/app", "cut")
    layer = blob_of(image)
    front.spoil(r"/blobs/", cut_after=1_000_000, times=2)

    async def act(it: ProxySite) -> None:
        assert await it.read(layer) == image.blobs[layer]
        ranges = [r.all("range") for r in front.asked if "/blobs/" in r.target]
        assert len(ranges) == 3
        assert ranges[0] == []
        starts = [int(each[0].removeprefix("bytes=")[:-1]) for each in ranges[1:]]
        assert 0 < starts[0] < starts[1]

    run(tmp_path, front.url, act)


def test_wrong_bytes_never_reach_their_end_and_are_not_stored(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = large_image(3_000_000, 9)
    registry.push(image, "team/app", "wrong")
    layer = blob_of(image)
    front.spoil(r"/blobs/", corrupts=True)

    async def act(it: ProxySite) -> None:
        readers = await asyncio.gather(
            *(it.proxy.open(NAME, OciDigest.parse(layer)) for _ in range(3))
        )
        for reader, _ in readers:
            got: list[int] = []
            with pytest.raises(VerificationError, match=layer):
                await _drain(reader, got)
            assert sum(got) < reader.size
            reader.close()
        assert not it.store.has(layer.removeprefix("sha256:"))
        assert list((tmp_path / "partial").iterdir()) == []
        # The next one asks again, and gets what is right.
        assert await it.read(layer) == image.blobs[layer]

    run(tmp_path, front.url, act)


def test_small_wrong_blob_and_wrong_manifest_are_honest_errors(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = busybox_image(Recipe(says="small"))
    registry.push(image, "team/app", "small")
    config = min(image.blobs, key=lambda digest: len(image.blobs[digest]))
    front.spoil(r"/blobs/", corrupts=True)
    front.spoil(r"/manifests/", corrupts=True)

    async def act(it: ProxySite) -> None:
        with pytest.raises(VerificationError, match=config):
            await it.read(config)
        with pytest.raises(VerificationError, match="sent manifest"):
            await it.proxy.manifest(NAME, image.digest)
        assert it.store.usage().blobs == 0

    run(tmp_path, front.url, act)


def test_interrupted_fetch_is_taken_up_after_a_restart(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = large_image(3_000_000, 10)
    registry.push(image, "team/app", "restart")
    layer = blob_of(image)
    front.spoil(r"/blobs/", cut_after=1_500_000)
    front.spoil(r"/blobs/", status=503, times=20)

    async def interrupted(it: ProxySite) -> None:
        with pytest.raises(UnavailableError):
            await it.read(layer)

    async def resumed(it: ProxySite) -> None:
        assert await it.read(layer) == image.blobs[layer]

    run(tmp_path / "node", front.url, interrupted)
    (left,) = (tmp_path / "node" / "partial").iterdir()
    begun = left.stat().st_size
    assert begun > 0
    with faulty_front(registry.url) as second:
        run(tmp_path / "node", second.url, resumed)
        (request,) = second.asked
        assert request.all("range") == [f"bytes={begun}-"]


def test_registry_that_knows_no_head_is_asked_with_get(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = busybox_image(Recipe(says="no head"))
    registry.push(image, "team/app", "nohead")
    front.spoil(r"/manifests/nohead", method="HEAD", status=405, times=9)

    async def act(it: ProxySite) -> None:
        assert (await it.proxy.manifest(NAME, "nohead")).data == image.root.data

    run(tmp_path, front.url, act)


def test_passing_failure_is_tried_again(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    image = busybox_image(Recipe(says="again"))
    registry.push(image, "team/app", "again")
    front.spoil(r"/manifests/again", method="HEAD", status=503)
    front.spoil(r"/manifests/sha256", resets=True)

    async def act(it: ProxySite) -> None:
        assert (await it.proxy.manifest(NAME, "again")).data == image.root.data

    run(tmp_path, front.url, act)


def test_blob_of_a_private_registry_is_not_for_peers_and_not_for_other_names(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    image = busybox_image(Recipe(says="inside"))
    registry.push(image, "team/app", "inside")
    layer = blob_of(image)
    other = ImageName(NAME.host, "team/other")

    async def act(it: ProxySite) -> None:
        await it.proxy.manifest(NAME, "inside")
        await it.read(layer)
        assert not it.store.is_shared(layer.removeprefix("sha256:"))
        assert {row.image for row in it.db.proxied(limit=10)} == {str(NAME)}
        with pytest.raises(NotFoundError):
            await it.read(layer, other)
        with pytest.raises(NotFoundError):
            await it.proxy.manifest(other, image.digest)

    run(tmp_path, registry.url, act)


def test_blob_of_a_public_registry_may_be_had_by_peers(
    tmp_path: Path, registry: DebianRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The only registry that a test may ask is on loopback; here that counts as public.
    monkeypatch.setattr("pyrsia_node.artifacts.safe_http.is_public", lambda _address: True)
    image = busybox_image(Recipe(says="outside"))
    registry.push(image, "team/app", "outside")

    async def act(it: ProxySite) -> None:
        await it.proxy.manifest(NAME, "outside")
        await it.read(blob_of(image))
        assert it.store.is_shared(blob_of(image).removeprefix("sha256:"))
        assert it.store.is_shared(image.digest.removeprefix("sha256:"))
        assert it.db.proxied(limit=10) == []

    run(tmp_path, registry.url, act, allow_private=False)


def test_what_was_pushed_here_is_not_served_under_an_upstreams_name(
    tmp_path: Path, registry: DebianRegistry
) -> None:
    secret = b"pushed here"
    sha256 = hashlib.sha256(secret).hexdigest()
    registry.push(busybox_image(Recipe(says="any")), "team/app", "any")

    async def act(it: ProxySite) -> None:
        path = tmp_path / "file"
        path.write_bytes(secret)
        it.store.adopt(str(path), sha256, local=True)
        with pytest.raises(NotFoundError):
            await it.read(f"sha256:{sha256}")
        with pytest.raises(NotFoundError):
            await it.proxy.stat(NAME, OciDigest("sha256", sha256))

    run(tmp_path, registry.url, act)


def test_tags_and_existence_of_a_repository_are_told(
    tmp_path: Path, registry: DebianRegistry, front: FaultyFront
) -> None:
    registry.push(busybox_image(Recipe(says="listed")), "team/listed", "2", "1")
    listed, absent = ImageName(NAME.host, "team/listed"), ImageName(NAME.host, "team/absent")

    async def act(it: ProxySite) -> None:
        assert sorted(await it.proxy.tags(listed)) == ["1", "2"]
        assert await it.proxy.knows(listed)
        assert not await it.proxy.knows(absent)
        front.asked.clear()
        assert await it.proxy.knows(listed)
        assert not await it.proxy.knows(absent)
        assert front.asked == []

    run(tmp_path, front.url, act)


def test_existence_cannot_be_told_while_the_upstream_is_away_or_offline(tmp_path: Path) -> None:
    async def away(it: ProxySite) -> None:
        with pytest.raises(UnavailableError):
            await it.proxy.knows(NAME)

    run(tmp_path, "http://127.0.0.1:9", away)

    async def offline(it: ProxySite) -> None:
        with pytest.raises(UnavailableError, match=r"registry\.local_prefixes"):
            await it.proxy.knows(NAME)

    run(tmp_path, "http://127.0.0.1:9", offline, is_offline=True)
