"""A wish for a Maven artifact becomes a request, and members answer for sources they can vouch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.messages import BuildResult, OutputFile, Source
from buildpipelines.spec.metadata import Metadata
from pyrsia_node.builds.maven import Origin
from pyrsia_node.builds.wishes import Wish, encode_options, encode_wish
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PeerId
from tests.fakes.build_site import BuildSite
from tests.integration.builds.test_images_are_imported import asked_for
from tests.integration.builds.test_rebuilds import answer, rebuilding
from tests.integration.builds.test_wishes_become_requests import running, service, until_state
from tests.strategies.build_bodies import digest

CODEC = Purl.maven("commons-codec", "commons-codec", "1.15")
SOURCE, TAG = "git+https://git.example/commons-codec.git", "rel/commons-codec-1.15"
ORIGIN = Origin(SOURCE, TAG, {"jdk": 17})
OPTIONS = encode_options({"source": SOURCE, "tag": TAG})
RECIPE: dict[str, Any] = {"source_url": SOURCE, "tag": TAG, "commit": "a" * 40, "jdk": 17}
TOOLCHAINS = [{"jdk": 17, "libc": "2.36"}, {"jdk": 21, "libc": "2.36"}]


def built(folder: Path, name: str, *, published: bool) -> OutputFile:
    """Return a file that a build made, and what the upstream has under its name."""
    path, upstream = folder / name, folder / f"{name}.upstream"
    path.write_bytes(b"jar")
    upstream.write_bytes(b"published")
    return OutputFile(
        name=name,
        path=str(path),
        size=3,
        sha256=digest(name),
        l1=digest(name),
        l2=digest(name),
        media="application/java-archive",
        claim="rebuilt",
        upstream_sha256=digest(f"{name} published") if published else None,
        upstream_path=str(upstream) if published else None,
        level=3 if published else None,
    )


def site_of(
    folder: Path, *, published: bool = True, **change: object
) -> tuple[BuildSite, list[Mapping[str, object]]]:
    """Return a site whose worker builds commons-codec, and the trials that it is asked for."""
    site, trials = BuildSite(folder), list[Mapping[str, object]]()

    def result(method: str, params: Mapping[str, object]) -> BuildResult:
        if method == "trial":
            trials.append(params)
        tree = digest("tree")
        source = OutputFile(
            name=f"source-{tree[:16]}.tar",
            path=str(folder / "source.tar"),
            size=10,
            sha256=tree,
            l1=tree,
            l2=tree,
            media="application/x-tar",
            claim="mirrored",
        )
        jar = built(folder, "commons-codec-1.15.jar", published=published)
        pom = built(folder, "commons-codec-1.15.pom", published=published)
        made = replace(
            site.result(purl=str(CODEC)),
            source=Source("tree", source.name, tree, 10),
            files=(jar, pom, source),
            pipeline={"id": "maven", "version": 1, "digest": digest("maven")},
            recipe=RECIPE,
            metadata=Metadata(name="commons-codec:commons-codec", version="1.15"),
        )
        return replace(made, **change)  # type: ignore[arg-type] # fields of a result

    site.worker._results = result
    site.worker.description = {
        "toolchain_doc": {"python": 3},
        "maven_toolchains": [{"digest": digest("t"), "document": each} for each in TOOLCHAINS],
    }
    return site, trials


async def requested(site: BuildSite, options: str = "") -> Sha256:
    """Have the site's sponsor put the wish into the log; return the request's id."""
    async with running(service(site)) as builds:
        started = await builds.start(CODEC, "S", options=options)
        status = await until_state(builds, started.build_id, "requested", "refused")
        assert status.state == "requested", status.detail
    site.commit_pending()
    return Sha256(status.request or "")


async def refused(site: BuildSite, options: str = "") -> str:
    """Have a wish tried and refused; return why."""
    async with running(service(site)) as builds:
        started = await builds.start(CODEC, "S", options=options)
        status = await until_state(builds, started.build_id, "requested", "refused")
    assert status.state == "refused"
    assert site.pending.known() == [], "nothing reaches the log"
    return status.detail


async def test_mapping_of_the_log_tells_the_worker_where_the_source_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = site_of(tmp_path)
    site.origins[str(CODEC)] = ORIGIN
    async with running(service(site)) as builds:
        started = await builds.start(CODEC, "S")
        await until_state(builds, started.build_id, "requested")
    [trial] = trials
    assert (trial["ecosystem"], trial["name"], trial["version"]) == (
        "maven",
        "commons-codec:commons-codec",
        "1.15",
    )
    assert trial["options"] == {"source": SOURCE, "tag": TAG, "jdk": 17}
    body = asked_for(site)
    assert (body.claim, body.source.kind, body.pipeline.id) == ("rebuilt", "tree", "maven")
    assert body.recipe["commit"] == "a" * 40


async def test_toolchain_of_each_jdk_is_kept_for_whoever_asks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    await requested(site, OPTIONS)
    for document in ({"python": 3}, *TOOLCHAINS):
        encoded = build_canonical.dumps(document)
        assert site.records.document(sha256_of(encoded)) == encoded


async def test_package_that_nobody_places_is_refused_before_anything_is_tried(
    tmp_path: Path,
) -> None:
    site, trials = site_of(tmp_path)
    with pytest.raises(InvalidInputError, match="pyrsia sources add"):
        await service(site).start(CODEC, "S")
    assert trials == []
    assert site.records.all() == []


async def test_forwarded_wish_of_a_regular_node_is_judged_by_the_sponsor(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = site_of(tmp_path)
    other = site.local.members[1]

    def wish(options: dict[str, object]) -> bytes:
        return encode_wish(
            Wish(CODEC, "S", other.id, options=encode_options(options)),  # type: ignore[arg-type]
            network_id=site.local.network_id,
            now_ms=site.local.now_ms,
            sign=other.sign["p2p"],
        )

    async with running(service(site)) as builds:
        with pytest.raises(InvalidInputError, match="shell"):
            await site.peers.handlers["build"](PeerId(other.id), wish({"shell": "rm"}))
        good = wish({"source": SOURCE, "tag": TAG, "jdk": 17, "goals": ["install"]})
        await site.peers.handlers["build"](PeerId(other.id), good)
        [status] = builds.recent(1)
        await until_state(builds, status.build_id, "requested")
    [trial] = trials
    assert trial["options"] == {"goals": ["install"], "jdk": 17, "source": SOURCE, "tag": TAG}


async def test_source_that_nobody_mapped_is_taken_for_what_an_upstream_publishes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    wanted = await requested(site, OPTIONS)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"
    assert own.document is not None
    assert [each.name for each in own.document.contradicts] == [
        "commons-codec-1.15.jar",
        "commons-codec-1.15.pom",
    ], "a wrong source shows itself"


async def test_source_that_nobody_mapped_is_refused_for_what_nobody_publishes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path, published=False)
    detail = await refused(site, OPTIONS)
    assert detail.startswith("source not mapped: no mapping in the log says")
    assert "commons-codec-1.15.jar" in detail


async def test_member_refuses_what_a_sponsor_maps_by_himself(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path, published=False)
    site.origins[str(CODEC)] = ORIGIN
    wanted = await requested(site)
    site.origins[str(CODEC)] = Origin("git+https://git.example/other.git", TAG, {})
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "source not mapped")
    assert own.document is None
    assert site.gateway.adopted == [], "nothing is stored"


async def test_member_refuses_goals_that_the_mapping_does_not_say(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    goals = {**RECIPE, "goals": ("install", "exec:exec")}
    site, _ = site_of(tmp_path, published=False, recipe=goals)
    site.origins[str(CODEC)] = ORIGIN
    assert "says otherwise of goals" in await refused(site)
    site.origins[str(CODEC)] = replace(ORIGIN, recipe={**ORIGIN.recipe, "goals": goals["goals"]})
    wanted = await requested(site)
    site.origins[str(CODEC)] = ORIGIN
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "source not mapped")


async def test_member_builds_what_the_mapping_of_the_log_names(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path, published=False)
    site.origins[str(CODEC)] = ORIGIN
    wanted = await requested(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"


async def test_one_file_that_nobody_publishes_is_enough_to_refuse(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else a source of somebody's own could slip a file in beside those that are compared."""
    jar = built(tmp_path, "commons-codec-1.15.jar", published=True)
    more = built(tmp_path, "commons-codec-1.15-extra.jar", published=False)
    site, _ = site_of(tmp_path, files=(jar, more))
    assert "commons-codec-1.15-extra.jar" in await refused(site, OPTIONS)
