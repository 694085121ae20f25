"""A followed tag is looked at, and what it becomes is asked for once, whoever follows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.types import NodeId
from pyrsia_node.builds.follow_records import FollowRecord
from pyrsia_node.builds.follower import RETRY_MS, TURN_MS, Follower
from pyrsia_node.builds.following import FOLLOWS_PER_NODE_MAX
from pyrsia_node.builds.images import compose_image
from pyrsia_node.builds.records import BuildRecord
from pyrsia_node.builds.service import BuildService
from pyrsia_node.builds.sponsor import PATIENCE_S
from pyrsia_node.builds.wishes import Wish, encode_wish
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PeerId
from pyrsia_node.schema.following import Followed
from tests.fakes.build_site import BuildSite
from tests.fakes.scripted_upstream import mirrored
from tests.integration.builds.test_images_are_imported import (
    ALPINE,
    TAG,
    accept,
    asked_for,
    put,
    site_with,
)
from tests.integration.builds.test_wishes_become_requests import running, service
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image

HOUR_MS = 3_600_000


async def passed(site: BuildSite, milliseconds: int) -> None:
    """Let time pass, with a follower at work."""
    end = site.local.now_ms + milliseconds
    while site.local.now_ms < end:
        site.local.now_ms += 1000
        await trio.sleep(1)


async def requested(site: BuildSite, *, within_ms: int = 120_000) -> None:
    """Wait until a request waits to be ordered."""
    end = site.local.now_ms + within_ms
    while not site.pending.known():
        assert site.local.now_ms < end, "nothing was asked for"
        await passed(site, 1000)


async def only(builds: BuildService) -> Followed:
    [found] = (await builds.following.follows()).follows
    return found


async def test_tag_that_the_log_does_not_have_is_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=["linux/amd64"], every_s=3600)
        await requested(site)
        body = asked_for(site)
        found = await only(builds)
    assert body.source == image.request(site.me).source
    assert body.recipe == {"platforms": ("linux/amd64",)}
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    assert (found.seen, found.logged, found.problem) == (digest, "", "")
    assert found.build_id


async def test_tag_that_is_what_the_log_says_is_only_looked_at(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=3600)
        await requested(site)
        wanted = commit(site)
        accept(site, wanted, "")
        looked = len(site.gateway.upstream.looked)
        await passed(site, 3 * HOUR_MS)
        assert site.pending.known() == []
        assert len(site.gateway.upstream.looked) - looked == 3, "once in each pause"
        found = await only(builds)
    assert (found.seen, found.logged_leaf) == (found.logged, site.local.chain.tip.size - 1)


def commit(site: BuildSite) -> Sha256:
    """Put the request that waits into a block; return its id."""
    [transaction] = site.pending.known()
    assert site.commit_pending() == 1
    return Sha256(transaction)


async def test_tag_that_moves_is_asked_for_by_its_new_digest_and_back_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        for variant in ("", "new", ""):
            put(site, variant)
            await requested(site, within_ms=200_000)
            assert asked_for(site).source.sha256 == image.root(variant)
            wanted = commit(site)
            say_all(site, wanted, variant)
        newest = site.newest_image(image.PURL)
    assert newest is not None
    assert newest.digest == f"sha256:{image.root('')}"


def say_all(site: BuildSite, wanted: Sha256, variant: str) -> None:
    """Have three members attest an image whose document the log may have already."""
    document = compose_image(image.PURL, mirrored(variant)).document
    voters = [each.id for each in site.local.members[1:]]
    batches = [
        make.batch(v, site.local.chain.last_seq(v) + 1, image.seen(wanted, document))
        for v in voters
    ]
    committed = site.local.commit(*batches)
    view = site.local.chain.request(wanted)
    assert view is not None
    if view.is_open:
        committed = site.local.commit(make.result(voters[0], wanted, document))
    site.watch.advance(committed.tip.height)


async def test_upstream_that_is_down_is_asked_less_and_less_and_nothing_is_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    site.gateway.upstream.down = UnavailableError("registry: 503")
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        await passed(site, HOUR_MS)
        assert len(site.gateway.upstream.looked) <= 6, "60, 120, 240, … seconds apart"
        assert (await only(builds)).problem == "registry: 503"
        site.gateway.upstream.down = None
        await requested(site, within_ms=2 * HOUR_MS)
        assert (await only(builds)).problem == ""


async def test_several_followers_make_one_request(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Whose turn comes later finds that the request is open."""
    site = BuildSite(tmp_path)
    variant = next(each for each in "abcdefgh" if turn(site, each) > 0)
    put(site, variant)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        await passed(site, 1000)
        other = image.request(
            site.local.members[1].id, variant=variant, until=site.local.now_ms + 60_000
        )
        committed = site.local.commit(other)
        site.watch.advance(committed.tip.height)
        await passed(site, 4 * TURN_MS)
        assert (await only(builds)).build_id == ""
        assert builds.recent(10) == []


def test_turns_differ_between_nodes_and_digests(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    assert {turn(site, f"{number}") for number in range(32)} == {0, 1, 2, 3}


def turn(site: BuildSite, variant: str) -> int:
    """Return this node's turn to ask for an image."""
    follower = Follower(site.context, site.records.follows(), ask=_never, state_of=lambda _: "")
    digest = f"sha256:{image.root(variant)}"
    return follower._turn(FollowRecord("", "", "", 60, seen=digest))


def _never(*_: object) -> BuildRecord:
    raise AssertionError


async def test_import_that_failed_is_asked_for_again_later_and_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        await requested(site)
        wanted = commit(site)
        voters = [each.id for each in site.local.members[1:]]
        committed = site.local.commit(
            *(make.batch(v, 1, make.failed(wanted, "SOURCE_UNAVAILABLE")) for v in voters)
        )
        site.watch.advance(committed.tip.height)
        await passed(site, RETRY_MS // 2)
        assert site.pending.known() == []
        await requested(site, within_ms=RETRY_MS)


async def test_withdrawn_image_is_not_imported_again_by_itself(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        await requested(site)
        accept(site, commit(site), "")
        newest = site.newest_image(image.PURL)
        assert newest is not None
        monkeypatch.setattr(site, "newest_image", lambda _: replace(newest, is_closed=True))
        await passed(site, 10 * 60_000)
        assert site.pending.known() == []


async def test_what_is_followed_outlives_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=120)
    again = service(site)
    assert (await only(again)).every_s == 120
    await again.following.unfollow(image.PURL)
    assert (await again.following.follows()).follows == []
    with pytest.raises(NotFoundError, match="is not followed"):
        await again.following.unfollow(image.PURL)


async def test_tag_that_is_not_followed_any_more_is_not_looked_at(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        await builds.following.follow(image.PURL, platforms=[], every_s=60)
        await requested(site)
        await builds.following.unfollow(image.PURL)
        looked = len(site.gateway.upstream.looked)
        await passed(site, 10 * 60_000)
        assert len(site.gateway.upstream.looked) == looked


@pytest.mark.parametrize(
    ("purl", "why"),
    [
        (Purl.parse("pkg:pypi/six@1.17.0"), "only tags of images are followed"),
        (image.by_digest(), "a digest never changes"),
        (image.PURL.without_version(), "names no tag"),
    ],
)
async def test_what_cannot_move_is_not_followed(tmp_path: Path, purl: Purl, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        await service(BuildSite(tmp_path)).following.follow(purl, platforms=[], every_s=60)


# ------------------------------------------------------------ for others


def forwarded(site: BuildSite, every_s: int | None, *, tag: str = TAG, member: int = 3) -> bytes:
    """Return another node's wish about a tag, as this node would get it."""
    other = site.local.members[member]
    purl = Purl.parse(f"pkg:docker/{ALPINE}@{tag}")
    return encode_wish(
        Wish(purl, "", other.id, every_s=every_s),
        network_id=site.local.network_id,
        now_ms=site.clock.now_ms(),
        sign=other.sign["p2p"],
    )


def peer(site: BuildSite, member: int = 3) -> PeerId:
    return PeerId(site.local.members[member].id)


async def test_regular_nodes_wish_is_kept_apart_from_everybody_elses(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    builds = service(site)
    await builds.following.follow(image.PURL, platforms=[], every_s=60)
    take, tell = site.peers.handlers["follow"], site.peers.handlers["follows"]
    await take(peer(site), forwarded(site, 3600))
    assert len((await builds.following.follows()).follows) == 2
    assert b"3600" in await tell(peer(site), b"")
    assert b"3600" not in await tell(peer(site, 2), b"")
    await take(peer(site), forwarded(site, 0))
    assert (await only(builds)).every_s == 60
    with pytest.raises(NotFoundError):
        await take(peer(site), forwarded(site, 0))


async def test_one_tag_that_several_want_is_looked_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        site.gateway.upstream.down = UnavailableError("away")
        await builds.following.follow(image.PURL, platforms=[], every_s=3600)
        await site.peers.handlers["follow"](peer(site), forwarded(site, 3600))
        await passed(site, 10_000)
        assert len(site.gateway.upstream.looked) == 1


async def test_one_other_node_may_have_a_bounded_number_of_tags_followed(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    builds = service(site)
    take = site.peers.handlers["follow"]
    for number in range(FOLLOWS_PER_NODE_MAX):
        await take(peer(site), forwarded(site, 3600, tag=f"{number}"))
    with pytest.raises(UnavailableError, match="which is the limit"):
        await take(peer(site), forwarded(site, 3600, tag="more"))
    await take(peer(site), forwarded(site, 7200, tag="1"))  # a change is no addition
    await builds.following.follow(image.PURL, platforms=[], every_s=60)


async def test_sponsor_takes_wishes_of_its_allow_list_alone(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    service(site, allow=NodeId("nobody"))
    with pytest.raises(InvalidInputError, match="allow-list"):
        await site.peers.handlers["follow"](peer(site), forwarded(site, 3600))


async def test_wish_to_follow_is_no_wish_for_a_build_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    site = site_with(tmp_path)
    service(site)
    with pytest.raises(InvalidInputError, match="to follow a tag, not for a build"):
        await site.peers.handlers["build"](peer(site), forwarded(site, 60))
    with pytest.raises(InvalidInputError, match="for a build, not to follow"):
        await site.peers.handlers["follow"](peer(site), forwarded(site, None))


async def test_regular_node_forwards_to_one_sponsor_and_lists_what_all_follow(
    tmp_path: Path,
) -> None:
    """Two sites: the first is a regular node, the second the only sponsor that answers."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    site, far = site_with(tmp_path / "a"), site_with(tmp_path / "b")
    service(far)
    regular = service(site, is_sponsor=False)
    sponsors = [peer(site, 1), peer(site, 2)]
    site.peers.peers = sponsors

    async def answer(to: PeerId, method: str, payload: bytes) -> bytes:
        if to == sponsors[0]:
            raise UnavailableError("away")
        try:
            return await far.peers.handlers[method](PeerId(site.me), payload)
        except PyrsiaError as error:
            raise type(error)(str(error)) from None

    site.peers.answer = answer
    await regular.following.follow(image.PURL, platforms=["linux/amd64"], every_s=600)
    listed = await regular.following.follows()
    assert [(each.purl, each.platforms) for each in listed.follows] == [
        (str(image.PURL), ["linux/amd64"])
    ]
    assert len(listed.away) == 1
    await regular.following.unfollow(image.PURL)
    assert (await regular.following.follows()).follows == []
    with pytest.raises(NotFoundError):
        await regular.following.unfollow(image.PURL)


async def test_without_a_sponsor_nothing_is_followed(tmp_path: Path) -> None:
    site = site_with(tmp_path)
    regular = service(site, is_sponsor=False)
    with pytest.raises(UnavailableError, match="no authorized node is connected"):
        await regular.following.follow(image.PURL, platforms=[], every_s=60)


def test_patience_of_a_sponsor_is_shorter_than_the_pause_before_it_is_asked_again() -> None:
    assert PATIENCE_S * 1000 <= RETRY_MS
