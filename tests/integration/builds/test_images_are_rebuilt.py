"""The wish that an image be rebuilt goes to the build worker, and asks for it by its digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from trio.testing import MockClock

from buildpipelines.spec.messages import BuildResult, Source
from pyrsia_node.builds.wishes import Wish, encode_options, encode_wish
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.image_files import context_name
from pyrsia_node.ports import PeerId
from tests.fakes.build_site import BuildSite
from tests.integration.builds.test_images_are_imported import asked_for
from tests.integration.builds.test_wishes_become_requests import running, service, until_state
from tests.strategies import image_bodies as image
from tests.strategies.build_bodies import digest

CONTEXT = f"registry.example/team/context@sha256:{'0' * 64}"
OPTIONS = encode_options({"context": CONTEXT, "args": ["A=1"], "target": "last"})


def site_that_rebuilds(folder: Path) -> tuple[BuildSite, list[Mapping[str, object]]]:
    """Return a site whose worker rebuilds the image, and the trials that it is asked for."""
    site, trials = BuildSite(folder), list[Mapping[str, object]]()

    def result(method: str, params: Mapping[str, object]) -> BuildResult:
        if method == "trial":
            trials.append(params)
        made = site.result(purl=str(image.by_digest()))
        sha256 = digest("context")
        source = Source("context", context_name(sha256), sha256, 1_000)
        root = replace(made.files[0], name=f"root-{made.files[0].sha256[:16]}")
        return replace(
            made,
            source=source,
            files=(root,),
            pipeline={"id": "docker", "version": 2, "digest": digest("rebuild")},
            recipe={"context": CONTEXT},
        )

    site.worker._results = result
    return site, trials


async def test_wish_with_a_context_is_tried_by_the_worker_and_requested_by_digest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = site_that_rebuilds(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "S", options=OPTIONS)
        await until_state(builds, started.build_id, "requested")
    body = asked_for(site)
    assert (body.claim, body.source.kind, body.purl) == ("rebuilt", "context", image.by_digest())
    [trial] = trials
    assert (trial["ecosystem"], trial["name"], trial["version"]) == (
        "docker",
        "docker.io/library/alpine",
        "3.20",
    )
    assert trial["options"] == {"context": CONTEXT, "args": ["A=1"], "target": "last"}
    assert site.gateway.upstream.begun == [], "nothing is imported"


async def test_member_rebuilds_what_the_log_asks_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_that_rebuilds(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(image.PURL, "S", options=OPTIONS)
        status = await until_state(builds, started.build_id, "requested")
        site.commit_pending()
        await until_state(builds, started.build_id, "building")
    assert site.worker.started[0].startswith("trial-")
    assert [each[:8] for each in site.worker.started[1:]] in ([], ["rebuild-"])
    assert site.local.chain.request(Sha256(status.request or "")) is not None


async def test_import_and_rebuild_of_one_image_are_two_builds(tmp_path: Path) -> None:
    site, _ = site_that_rebuilds(tmp_path)
    builds = service(site)
    ids = {
        (await builds.start(image.PURL, "S", options=options)).build_id
        for options in ("", OPTIONS, OPTIONS)
    }
    assert len(ids) == 2


async def test_forwarded_wish_carries_what_an_image_is_rebuilt_from(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = site_that_rebuilds(tmp_path)
    other = site.local.members[1]
    wish = encode_wish(
        Wish(image.PURL, "S", other.id, options=OPTIONS),
        network_id=site.local.network_id,
        now_ms=site.local.now_ms,
        sign=other.sign["p2p"],
    )
    async with running(service(site)) as builds:
        await site.peers.handlers["build"](PeerId(other.id), wish)
        [status] = builds.recent(1)
        await until_state(builds, status.build_id, "requested")
    assert len(trials) == 1


@pytest.mark.parametrize(
    "options", [{"args": [1]}, {"context": {}}, {"context": "x" * 3_000}, {"context": True}]
)
def test_options_are_texts_of_bounded_length(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="options"):
        encode_options(options)  # type: ignore[arg-type] # on purpose
