"""A wish for a Maven artifact becomes a request, and members answer for sources they can vouch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.messages import BuildResult, JobFailure, OutputFile, Source
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


def built(folder: Path, name: str, *, published: bool, level: int = 3) -> OutputFile:
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
        level=level if published else None,
    )


def site_of(
    folder: Path,
    *,
    published: bool = True,
    level: int = 1,
    unmapped_sources: bool = False,
    **change: object,
) -> tuple[BuildSite, list[Mapping[str, object]]]:
    """Return a site whose worker builds commons-codec, and the trials that it is asked for.

    Its log maps commons-codec.
    """
    site, trials = (
        BuildSite(folder, unmapped_sources=unmapped_sources),
        list[Mapping[str, object]](),
    )
    site.origins[str(CODEC)] = ORIGIN

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
        jar = built(folder, "commons-codec-1.15.jar", published=published, level=level)
        pom = built(folder, "commons-codec-1.15.pom", published=published, level=level)
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
    site.origins.clear()
    with pytest.raises(InvalidInputError, match=r"source not mapped.*pyrsia sources add"):
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


FORK = encode_options({"source": "git+https://git.example/fork.git", "tag": TAG})
OTHERS = {
    "fork": FORK,
    "commit": encode_options({"commit": "b" * 40}),
    "tag": encode_options({"tag": "v2"}),
    "goals": encode_options({"goals": ["install", "exec:exec"]}),
    "properties": encode_options({"properties": ["project.build.sourceDirectory=x"]}),
    "module": encode_options({"module": "evil"}),
    "external": encode_options({"pipeline": "external", "source": "git+https://a.b/c", "tag": TAG}),
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS.keys())
async def test_what_only_the_asker_says_is_refused_before_anything_is_tried(
    tmp_path: Path, options: str
) -> None:
    site, trials = site_of(tmp_path)
    with pytest.raises(InvalidInputError, match="source not mapped: the mapping of pkg:maven"):
        await service(site).start(CODEC, "S", options=options)
    site.origins.clear()
    if '"source":' in options:
        with pytest.raises(InvalidInputError, match="no mapping in the log says"):
            await service(site).start(CODEC, "S", options=options)
    assert trials == []
    assert site.records.all() == []


async def rebuilt(site: BuildSite, wanted: Sha256) -> tuple[object, object, int]:
    """Have the node answer; return outcome, cause and how many rebuilds were begun."""
    begun = len(site.worker.started)
    async with rebuilding(site):
        own = await answer(site, wanted)
    return own.item["outcome"], own.item.get("cause"), len(site.worker.started) - begun


UNMAPPED = ("REFUSED", "source not mapped")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        replace(ORIGIN, source="git+https://git.example/other.git"),
        replace(ORIGIN, tag="v2"),
        replace(ORIGIN, recipe={**ORIGIN.recipe, "goals": ("verify",)}),
        replace(ORIGIN, recipe={**ORIGIN.recipe, "module": "core"}),
    ],
)
async def test_member_refuses_unbuilt_what_the_log_does_not_say(
    tmp_path: Path, autojump_clock: MockClock, origin: Origin | None
) -> None:
    """Whatever a sponsor maps by himself: published or not, equal or not."""
    site, _ = site_of(tmp_path)
    wanted = await requested(site)
    site.origins = {} if origin is None else {str(CODEC): origin}
    assert await rebuilt(site, wanted) == (*UNMAPPED, 0)
    assert site.gateway.adopted == [], "nothing is stored"


FAILURES = {
    "a source that does not build": ("build: compiler", "Hello.java:[1,42] ';' expected"),
    "a build that phones home": ("network: collector.example", "asked for collector.example"),
}


def stored(site: BuildSite) -> list[bytes]:
    """Return the keys of all documents that the node keeps, and none of its files."""
    assert site.gateway.adopted == []
    assert site.gateway.pinned == []
    return [key for key, _ in site.local.store.scan(b"builds/doc/")]


@pytest.mark.parametrize(("cause", "detail"), FAILURES.values(), ids=FAILURES.keys())
async def test_trial_that_fails_is_told_and_nothing_is_stored(
    tmp_path: Path, autojump_clock: MockClock, cause: str, detail: str
) -> None:
    site, _ = site_of(tmp_path)
    site.worker._results = lambda *_: JobFailure("BUILD_FAILED", cause, detail)
    told = await refused(site)
    assert cause in told
    assert detail in told
    assert stored(site) == []
    assert site.commit_pending() == 0


@pytest.mark.parametrize(("cause", "detail"), FAILURES.values(), ids=FAILURES.keys())
async def test_rebuild_that_fails_leaves_the_refusal_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock, cause: str, detail: str
) -> None:
    site, _ = site_of(tmp_path)
    wanted = await requested(site)
    before = stored(site)
    assert before != [], "lock and toolchains of the request"
    site.worker.jobs.clear()
    site.worker._results = lambda *_: JobFailure("BUILD_FAILED", cause, detail)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"], own.document) == ("BUILD_FAILED", cause, None)
    assert "result" not in own.item
    assert stored(site) == before
    assert [key for key, _ in site.local.store.scan(b"builds/item/")] == [
        b"builds/item/" + wanted.encode()
    ]


async def test_mapping_that_is_taken_back_during_the_build_counts_no_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    wanted = await requested(site)
    results = site.worker._results

    def take_back(method: str, params: Mapping[str, object]) -> object:
        site.origins.clear()
        return results(method, params)

    site.worker._results = take_back
    assert await rebuilt(site, wanted) == (*UNMAPPED, 1)


async def test_mapped_source_may_contradict_what_is_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path, level=3)
    wanted = await requested(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.document is not None
    assert len(own.document.contradicts) == 2


@pytest.mark.parametrize(
    ("level", "published", "is_taken"),
    [(0, True, True), (2, True, True), (3, True, False), (1, False, False)],
)
async def test_operator_who_opts_in_takes_what_is_equal_to_what_is_published_alone(
    tmp_path: Path, autojump_clock: MockClock, level: int, *, published: bool, is_taken: bool
) -> None:
    site, _ = site_of(tmp_path, level=level, published=published, unmapped_sources=True)
    wanted = await requested(site)
    site.origins.clear()
    outcome, cause, begun = await rebuilt(site, wanted)
    assert begun == 1
    assert (outcome, cause) == (("BUILT", None) if is_taken else UNMAPPED)


@pytest.mark.parametrize(("level", "published"), [(3, True), (1, False)])
async def test_sponsor_who_opts_in_says_what_members_would_refuse(
    tmp_path: Path, autojump_clock: MockClock, level: int, *, published: bool
) -> None:
    site, _ = site_of(tmp_path, level=level, published=published, unmapped_sources=True)
    site.origins.clear()
    detail = await refused(site, OPTIONS)
    assert detail.startswith("source not mapped: no mapping in the log says")
    assert "commons-codec-1.15.jar is not what the upstream publishes" in detail


async def test_one_file_that_nobody_publishes_is_enough_to_refuse(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Else a source of somebody's own could slip a file in beside those that are compared."""
    jar = built(tmp_path, "commons-codec-1.15.jar", published=True, level=0)
    more = built(tmp_path, "commons-codec-1.15-extra.jar", published=False)
    site, _ = site_of(tmp_path, files=(jar, more), unmapped_sources=True)
    site.origins.clear()
    assert "commons-codec-1.15-extra.jar" in await refused(site, OPTIONS)


async def test_member_builds_what_the_mapping_of_the_log_names(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path, published=False)
    wanted = await requested(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"
