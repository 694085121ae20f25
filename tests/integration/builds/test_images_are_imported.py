"""From the wish for an image to the member's answer, whatever the upstream does meanwhile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus.types import NodeId
from pyrsia_node.builds.attester import Attester
from pyrsia_node.builds.documents import Documents
from pyrsia_node.builds.images import TOOLCHAIN, compose_image, lock_document, recipe_of
from pyrsia_node.builds.rebuilder import Rebuilder
from pyrsia_node.builds.sponsor import PATIENCE_S
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.transactions import BuildRequest, decode_transaction
from pyrsia_node.schema.mirroring import MirrorFailure
from tests.fakes.build_site import BuildSite
from tests.fakes.scripted_upstream import mirrored
from tests.integration.builds.test_rebuilds import LOCK, answer, rebuilding
from tests.integration.builds.test_rebuilds import opened as ask_for_six
from tests.integration.builds.test_wishes_become_requests import running, service, until_state
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image

ALPINE, TAG = "docker.io/library/alpine", "3.20"


def site_with(folder: Path, variant: str = "") -> BuildSite:
    """Return a site whose upstream has one image under the tag."""
    site = BuildSite(folder)
    put(site, variant)
    return site


def put(site: BuildSite, variant: str) -> str:
    """Have the tag be this image; return its digest."""
    digest = f"sha256:{image.root(variant)}"
    site.gateway.upstream.tags[ALPINE, TAG] = digest
    site.gateway.upstream.images[digest] = mirrored(variant)
    return digest


def asked_for(site: BuildSite) -> BuildRequest:
    """Return the one request that waits to be ordered."""
    [transaction] = site.pending.known()
    data = site.pending._mempool.get(transaction)
    assert data is not None
    body = decode_transaction(data, network_id=site.local.network_id).body
    assert isinstance(body, BuildRequest)
    return body


async def opened(site: BuildSite, **change: object) -> Sha256:
    """Have this node's sponsor ask for the image, in the log; return the request's id."""
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        status = await until_state(builds, started.build_id, "requested")
    if change:
        body = dataclasses.replace(asked_for(site), **change)  # type: ignore[arg-type] # on purpose
        committed = site.local.commit(body)
        site.watch.advance(committed.tip.height)
        return committed.transaction_ids[0]
    site.commit_pending()
    assert status.request is not None
    return Sha256(status.request)


async def test_wish_for_a_tag_asks_for_the_root_that_the_sponsor_saw(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "", platforms=["linux/arm64", "linux/amd64"])
        await until_state(builds, started.build_id, "requested")
        body = asked_for(site)
        assert site.commit_pending() == 1
        status = await until_state(builds, started.build_id, "building")
        await answer(site, Sha256(status.request or ""))
    assert (body.claim, body.purl, body.time_class) == ("mirrored", image.PURL, "S")
    assert body.source == image.request(site.me).source
    assert body.recipe == {"platforms": ("linux/amd64", "linux/arm64")}
    assert site.records.document(body.lock) == lock_document(body.source)
    assert site.records.document(body.toolchain) == TOOLCHAIN
    find, fetch = site.gateway.upstream.begun
    assert (find.tag, find.platforms) == (None, ["linux/amd64", "linux/arm64"])
    assert (fetch.tag, fetch.digest) == (TAG, find.digest)
    assert site.worker.started == [], "nothing is built"


@pytest.mark.parametrize(
    ("size", "time_class"), [(100 * 1024**2, "M"), (10_000, "S"), (2 * 1024**3, "L")]
)
async def test_size_of_an_image_chooses_the_deadline(
    tmp_path: Path, autojump_clock: MockClock, size: int, time_class: str
) -> None:
    site = site_with(tmp_path)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    site.gateway.upstream.images[digest] = mirrored(size=size)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        await until_state(builds, started.build_id, "requested")
    assert asked_for(site).time_class == time_class


async def test_tag_that_is_not_what_the_requester_saw_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    other = f"sha256:{image.root('other')}"
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "", pinned=other)
        status = await until_state(builds, started.build_id, "refused")
    assert f"by now, not {other}" in status.detail
    assert site.gateway.upstream.begun == []


async def test_unknown_tag_is_refused_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = BuildSite(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        status = await until_state(builds, started.build_id, "refused", within_s=5)
    assert "has no tag" in status.detail


async def test_image_that_does_not_fit_the_log_never_gets_there_and_says_why(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    found = mirrored()
    layers = [
        found.files[0].model_copy(
            update={"role": "layer", "digest": f"sha256:{each}", "sha256": each}
        )
        for each in (make.digest(f"{number}") for number in range(150))
    ]
    site.gateway.upstream.images[digest] = found.model_copy(update={"files": found.files + layers})
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        status = await until_state(builds, started.build_id, "refused")
    assert "has 154 files: doc of" in status.detail
    assert site.pending.known() == []


async def test_upstream_that_is_down_for_a_while_is_waited_for_and_not_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    site.gateway.upstream.down = UnavailableError("registry: connection refused")
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        await trio.sleep(PATIENCE_S / 2)
        waiting = await builds.status(started.build_id)
        assert (waiting.state, waiting.stage) == ("trial", "looking")
        assert waiting.detail == "waits and tries again: registry: connection refused"
        status = await until_state(builds, started.build_id, "refused")
        assert "connection refused" in status.detail
        site.gateway.upstream.down = None
        again = await builds.start(image.PURL, "")
        await until_state(builds, again.build_id, "requested")


async def test_image_that_the_log_has_is_not_asked_for_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    accept(site, wanted, "")
    begun = len(site.gateway.upstream.begun)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "")
        status = await until_state(builds, started.build_id, "accepted", within_s=5)
        assert status.leaf_index == site.local.chain.tip.size - 1
        other = await builds.start(image.PURL, "", platforms=["linux/amd64"])
        await until_state(builds, other.build_id, "requested")
    assert len(site.gateway.upstream.begun) == begun + 1, "other platforms are another image"


async def test_second_wish_for_what_is_being_imported_follows_the_open_request(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    async with running(service(site)) as builds:
        again = await builds.start(image.PURL, "")
        status = await until_state(builds, again.build_id, "building")
    assert status.request == wanted
    assert site.pending.known() == []


def accept(site: BuildSite, wanted: Sha256, variant: str) -> None:
    """Have three members attest an image, and the log accept it."""
    document = compose_image(image.PURL, mirrored(variant)).document
    voters = site.local.members[1:]
    batches = [
        make.batch(each.id, site.local.chain.last_seq(each.id) + 1, image.seen(wanted, document))
        for each in voters
    ]
    is_known = site.local.chain.request(wanted)
    assert is_known is not None
    committed = site.local.commit(*batches, make.result(voters[0].id, wanted, document))
    site.watch.advance(committed.tip.height)
    view = site.local.chain.request(wanted)
    assert view is not None
    assert view.outcome == "accepted"


async def test_member_attests_what_it_fetched_and_when_it_saw_the_tag(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
        await trio.sleep(1)
    assert own.document == compose_image(image.PURL, mirrored()).document
    assert (own.item["outcome"], own.item["level"], own.item["seen"]) == (
        "BUILT",
        0,
        site.clock.now_ms(),
    )
    assert own.document is not None
    pinned = {file.sha256 for file in own.document.files}
    assert set(site.gateway.pinned) == pinned, "to attest is to promise to serve"
    assert site.gateway.upstream.jobs == {}


async def test_member_whose_tag_moved_says_to_what(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    new = put(site, "new")
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["moved"]) == ("MOVED", new)
    assert own.item["seen"] == site.clock.now_ms()
    assert own.document is None


async def test_member_whose_upstream_has_another_image_and_lacks_the_wanted_one_says_so_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    failure = MirrorFailure(outcome="SOURCE_UNAVAILABLE", cause="no manifest", detail="404")
    site.gateway.upstream.images[site.gateway.upstream.tags[ALPINE, TAG]] = failure
    new = put(site, "new")
    async with rebuilding(site):
        own = await answer(site, wanted, within_s=5)
    assert (own.item["outcome"], own.item["moved"]) == ("MOVED", new)


async def test_member_whose_upstream_is_down_tries_for_a_while_and_then_says_so(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    failure = MirrorFailure(outcome="SOURCE_UNAVAILABLE", cause="upstream: 503 §", detail="busy")
    site.gateway.upstream.images[digest] = failure
    async with rebuilding(site) as rebuilder:
        await trio.sleep(10)
        assert site.records.item(wanted) is None
        progress = rebuilder.progress(wanted)
        assert progress is not None
        assert "busy" in progress.detail
        site.local.now_ms += 75_001  # an eighth of class S
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("SOURCE_UNAVAILABLE", "upstream: 503 ")


async def test_gateway_that_loses_the_job_by_a_restart_fetches_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    site.gateway.upstream.images[digest] = None
    async with rebuilding(site) as rebuilder:
        await trio.sleep(5)
        progress = rebuilder.progress(wanted)
        assert progress is not None
        assert progress.detail == "1.0 of 4.0 MB"
        site.gateway.upstream.jobs.clear()
        site.gateway.upstream.images[digest] = mirrored()
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"


async def test_member_with_another_root_than_the_request_refuses(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    site.gateway.upstream.images[digest] = mirrored("other")
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "source")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"toolchain": sha256_of(b"gcc")}, "toolchain"),
        ({"lock": sha256_of(b"more files")}, "lock"),
        ({"recipe": {"platforms": ("linux/b", "linux/a")}}, "recipe"),
        ({"recipe": {"platforms": ("Linux",)}}, "recipe"),
        ({"recipe": {}}, "recipe"),
        ({"pipeline": image.request(NodeId("")).pipeline}, "pipeline"),
    ],
)
async def test_request_that_a_sponsor_made_up_is_refused_before_anything_is_fetched(
    tmp_path: Path, autojump_clock: MockClock, change: dict[str, object], cause: str
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site, **change)
    begun = len(site.gateway.upstream.begun)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", cause)
    assert len(site.gateway.upstream.begun) == begun


async def test_upstream_that_this_node_may_not_ask_is_a_refusal(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    digest = site.gateway.upstream.tags[ALPINE, TAG]
    site.gateway.upstream.images[digest] = InvalidInputError("docker.io is not in docker.upstreams")
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "upstream")


async def test_import_waits_for_no_build(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    rebuilder = Rebuilder(site.context, Documents(site.context), lambda: None)
    async with trio.open_nursery() as nursery, rebuilder._limiter:  # every slot is building
        nursery.start_soon(rebuilder.run, nursery)
        own = await answer(site, wanted, within_s=5)
        nursery.cancel_scope.cancel()
    assert own.item["outcome"] == "BUILT"


@pytest.mark.parametrize("is_slow", [True, False])
async def test_sighting_by_a_wrong_clock_keeps_no_other_answer_back(
    tmp_path: Path, autojump_clock: MockClock, *, is_slow: bool
) -> None:
    """The ledger refuses it; the rest of the batch is sent without it."""
    site = site_with(tmp_path)
    wanted = await opened(site)
    year_ms = 365 * 86_400_000
    off_ms = -year_ms if is_slow else year_ms
    site.gateway.upstream.now_ms = lambda: max(0, site.clock.now_ms() + off_ms)
    async with rebuilding(site):
        await answer(site, wanted)
        site.records.add_document(LOCK)
        other = ask_for_six(site)
        await answer(site, other)
    attester = Attester(site.context)
    for _ in range(10):
        await attester.look()
        site.commit_pending()
    views = [site.local.chain.request(each) for each in (wanted, other)]
    assert [view is not None and site.me in view.items for view in views] == [False, True]


async def test_small_image_waits_for_no_large_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = site_with(tmp_path)
    wanted = await opened(site)
    rebuilder = Rebuilder(site.context, Documents(site.context), lambda: None)
    async with trio.open_nursery() as nursery, rebuilder._imports["L"], rebuilder._imports["M"]:
        nursery.start_soon(rebuilder.run, nursery)
        own = await answer(site, wanted, within_s=5)
        nursery.cancel_scope.cancel()
    assert own.item["outcome"] == "BUILT"


def test_recipe_names_platforms_in_one_order() -> None:
    assert recipe_of(["linux/b", "linux/a", "linux/b"]) == {"platforms": ("linux/a", "linux/b")}
