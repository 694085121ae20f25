"""A wish ends in the log or as refused, across restarts of worker and sponsor, and never hangs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from buildpipelines.spec.messages import JobFailure
from pyrsia_node.builds import sponsor as sponsoring
from pyrsia_node.builds.records import RECORD_BYTES_MAX, BuildRecord, OwnItem
from pyrsia_node.builds.service import AWAITS_LOG, BuildService
from pyrsia_node.builds.wishes import Wish, encode_wish
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PeerId
from pyrsia_node.schema.links import BuildStatus
from tests.fakes.build_site import BuildSite

SIX = Purl.parse("pkg:pypi/six@1.17.0")


def service(site: BuildSite, *, is_sponsor: bool = True, allow: str = "*") -> BuildService:
    made = BuildService(site.context, builds=is_sponsor, sponsors=[], allow=[allow])
    made.serve_on(site.peers)
    return made


@asynccontextmanager
async def running(builds: BuildService) -> AsyncIterator[BuildService]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(builds.run)
        yield builds
        nursery.cancel_scope.cancel()


async def until_state(
    builds: BuildService, build_id: str, *states: str, within_s: float = 900
) -> BuildStatus:
    with trio.fail_after(within_s):
        while (status := await builds.status(build_id)).state not in states:
            await trio.sleep(0.2)
    return status


def record(site: BuildSite, state: str, *, number: int = 0, request: str = "") -> BuildRecord:
    found = BuildRecord(
        build_id=f"b-{number:016x}",
        purl=f"pkg:pypi/six@1.{number}",
        time_class="S",
        state=state,
        stage="",
        detail="",
        request=request,
        sponsor=site.me,
        forwarded_by="",
        started_ms=number,
        updated_ms=number,
    )
    site.records.save(found)
    return found


async def test_a_wish_becomes_a_request_and_then_an_open_build(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "")
        await until_state(builds, started.build_id, "requested")
        assert site.commit_pending() == 1
        status = await until_state(builds, started.build_id, "building")
    assert status.outcome is None
    assert len(status.progress) == 4
    assert {each.state for each in status.progress} <= {"away", "queued", "unknown", "running"}


async def test_a_failed_trial_ends_as_refused_with_its_cause(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.worker._results = lambda *_: JobFailure("BUILD_FAILED", "exit 1", "no compiler \ud800")
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "S")
        status = await until_state(builds, started.build_id, "refused")
    assert "no compiler" in status.detail
    assert site.pending.known() == []


async def test_a_worker_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.worker.is_away = True
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "S")
        await trio.sleep(120)
        assert (await builds.status(started.build_id)).state == "trial"
        site.worker.is_away = False
        await until_state(builds, started.build_id, "requested")


async def test_a_worker_that_stays_away_ends_the_wish(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.worker.is_away = True
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "S")
        status = await until_state(builds, started.build_id, "refused")
    assert "nobody listens" in status.detail


async def test_a_worker_restarted_in_the_middle_of_a_trial_tries_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    results: list[object] = [None, site.result()]
    site.worker._results = lambda *_: results.pop(0)
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "S")
        while not site.worker.started:
            await trio.sleep(0.1)
        site.worker.restart()
        await until_state(builds, started.build_id, "requested")
    assert len(site.worker.started) == 2


@pytest.mark.parametrize("state", ["queued", "trial", "requested"])
async def test_a_restarted_sponsor_takes_up_what_it_had_taken(
    state: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    lost = record(site, state, number=17, request="ab" * 32 if state == "requested" else "")
    site.worker._results = lambda *_: site.result(purl=lost.purl)
    async with running(service(site)) as builds:
        with trio.fail_after(60):
            while not site.pending.known():
                await trio.sleep(0.1)
        assert (await builds.status(lost.build_id)).state == "requested"
    assert len(site.worker.started) == 1


async def test_a_trial_that_outlived_the_sponsors_restart_is_taken_up(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    lost = record(site, "trial", number=17)
    site.worker.jobs[f"trial-{lost.build_id}"] = site.result(purl=lost.purl)
    async with running(service(site)) as builds:
        await until_state(builds, lost.build_id, "requested")
    assert site.worker.started == []


async def test_more_unfinished_builds_than_ever_allowed_do_not_stop_a_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.worker.is_away = True
    for number in range(1_100):
        record(site, "queued", number=number)
    async with running(service(site)):
        await trio.testing.wait_all_tasks_blocked()


async def test_the_same_wish_is_tried_once_however_often_it_is_made(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    builds = service(site)
    ids = {(await builds.start(SIX, "S")).build_id for _ in range(3)}
    async with running(builds):
        await until_state(builds, next(iter(ids)), "requested")
        await trio.sleep(5)
    assert len(ids) == 1
    assert len(site.worker.started) == 1


async def test_a_request_that_can_never_be_ordered_does_not_wait_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "S")
        await until_state(builds, started.build_id, "requested")
        await trio.sleep(1)
        site.local.now_ms += sponsoring.UNTIL_MS + 60_000
        site.pending.review()
        status = await builds.status(started.build_id)
    assert status.state == "refused"
    assert "not ordered" in status.detail


async def test_a_sponsor_takes_a_bounded_number_of_wishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sponsoring, "OPEN_MAX", 3)
    site = BuildSite(tmp_path)
    builds = service(site)
    for number in range(3):
        await builds.start(Purl.pypi("six", f"1.{number}"), "S")
    with pytest.raises(UnavailableError, match="3 builds are under way"):
        await builds.start(SIX, "S")
    assert len(site.records.all()) == 3


def wish_of(site: BuildSite, number: int, *, member: int = 1) -> tuple[PeerId, bytes]:
    other = site.local.members[member]
    wish = encode_wish(
        Wish(Purl.pypi("six", f"1.{number}"), "S", other.id),
        network_id=site.local.network_id,
        now_ms=site.local.now_ms,
        sign=other.sign["p2p"],
    )
    return PeerId(other.id), wish


async def test_one_node_cannot_take_every_place_of_a_sponsor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sponsoring, "OPEN_PER_NODE_MAX", 2)
    site = BuildSite(tmp_path)
    builds = service(site)
    for number in range(2):
        await site.peers.handlers["build"](*wish_of(site, number))
    with pytest.raises(UnavailableError):
        await site.peers.handlers["build"](*wish_of(site, 3))
    await builds.start(SIX, "S")  # this node's own user is not kept out


async def test_other_nodes_together_cannot_take_every_place_of_a_sponsor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identities cost nothing: the bound for one of them bounds nobody who has many."""
    monkeypatch.setattr(sponsoring, "OPEN_FORWARDED_MAX", 3)
    site = BuildSite(tmp_path)
    builds = service(site)
    for number in range(3):
        peer, wish = wish_of(site, number, member=1 + number % 3)
        await site.peers.handlers["build"](peer, wish)
    with pytest.raises(UnavailableError):
        await site.peers.handlers["build"](*wish_of(site, 3, member=2))
    await builds.start(SIX, "S")


async def test_a_node_that_is_not_on_the_list_is_refused_by_name(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    service(site, allow="somebody-else")
    peer, wish = wish_of(site, 1)
    with pytest.raises(InvalidInputError, match=peer):
        await site.peers.handlers["build"](peer, wish)


# ------------------------------------------------------------ a node that forwards


def sponsor_says(site: BuildSite, answer: bytes | Exception) -> PeerId:
    peer = PeerId(site.local.members[1].id)
    site.peers.peers = [peer]

    async def ask(_to: PeerId, _method: str, _payload: bytes) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer

    site.peers.answer = ask
    return peer


async def forwarded(site: BuildSite, builds: BuildService) -> str:
    sponsor_says(site, json.dumps({"build_id": "b-1", "state": "queued"}).encode())
    return (await builds.start(SIX, "S")).build_id


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"build_id":"b-1"}',
        (
            b'{"build_id":"b-2","purl":"pkg:pypi/x@1","state":"accepted","stage":"","detail":"",'
            b'"started_ms":1,"updated_ms":1}'
        ),
        UnavailableError("away"),
    ],
)
async def test_a_sponsor_that_answers_nonsense_counts_as_away(
    answer: bytes | Exception, tmp_path: Path
) -> None:
    site = BuildSite(tmp_path)
    builds = service(site, is_sponsor=False)
    build_id = await forwarded(site, builds)
    sponsor_says(site, answer)
    status = await builds.status(build_id)
    assert (status.build_id, status.purl, status.state) == ("b-1", str(SIX), "queued")
    assert "sponsor does not answer" in status.detail


@pytest.mark.parametrize("build_id", ["b-1", "", "x" * 200, "\ud800"])
async def test_a_sponsor_cannot_take_the_id_of_another_build_or_a_senseless_one(
    build_id: str, tmp_path: Path
) -> None:
    site = BuildSite(tmp_path)
    builds = service(site, is_sponsor=False)
    first = await forwarded(site, builds)
    before = site.records.get(first)
    sponsor_says(site, json.dumps({"build_id": build_id, "state": "queued"}).encode())
    with pytest.raises((PeerMisbehaviorError, InvalidInputError)):
        await builds.start(Purl.pypi("six", "1.16.0"), "S")
    assert site.records.all() == [before]


async def test_a_build_that_its_sponsor_forgot_has_ended(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    builds = service(site, is_sponsor=False)
    build_id = await forwarded(site, builds)
    sponsor_says(site, NotFoundError("no such build"))
    assert (await builds.status(build_id)).state == "refused"


async def test_an_outcome_is_held_back_until_this_nodes_log_shows_it(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    builds = service(site, is_sponsor=False)
    build_id = await forwarded(site, builds)
    told = {
        "build_id": build_id,
        "purl": str(SIX),
        "state": "accepted",
        "stage": "",
        "detail": "",
        "outcome": "accepted",
        "leaf_index": 1_000,
        "started_ms": 1,
        "updated_ms": 1,
    }
    sponsor_says(site, json.dumps(told).encode())
    status = await builds.status(build_id)
    assert (status.state, status.detail, status.outcome) == ("building", AWAITS_LOG, None)


async def test_no_connected_sponsor_is_said_in_words(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    with pytest.raises(UnavailableError, match="no authorized node is connected"):
        await service(site, is_sponsor=False).start(SIX, "S")


async def test_a_member_that_tells_odd_progress_spoils_no_status(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(SIX, "")
        await until_state(builds, started.build_id, "requested")
        site.commit_pending()
        odd = {"state": "\ud800" * 7_000, "stage": ["x"], "detail": None}
        sponsor_says(site, json.dumps(odd).encode())
        status = await builds.status(started.build_id)
    assert len(status.progress) == 4
    assert json.dumps(status.dump(), ensure_ascii=False).encode()


def test_an_answer_too_large_to_be_read_back_is_not_kept(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    large = OwnItem({"text": "x" * RECORD_BYTES_MAX}, None, {})
    with pytest.raises(InvalidInputError, match="more than"):
        site.records.save_item(Sha256("ab" * 32), large)
    assert site.records.item(Sha256("ab" * 32)) is None
