"""What an outside pipeline made is asked for, attested and shown as external, never as rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from trio.testing import MockClock

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.lock import LockedFile, make_lock
from buildpipelines.spec.messages import BuildResult, JobFailure, OutputFile, Source
from buildpipelines.worker import external
from buildpipelines.worker.contract import GitSource, MappingInfo
from pyrsia_node.builds.maven import Origin
from pyrsia_node.builds.records import OwnItem
from pyrsia_node.builds.wishes import encode_options
from pyrsia_node.model.digest import parse_sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.sources import source_names
from tests.fakes.build_site import BuildSite
from tests.integration.builds.test_images_are_imported import asked_for
from tests.integration.builds.test_maven_builds import (
    CODEC,
    SOURCE,
    TAG,
    built,
    refused,
    requested,
    site_of,
)
from tests.integration.builds.test_rebuilds import answer, rebuilding
from tests.integration.builds.test_wishes_become_requests import running, service, until_state
from tests.strategies.build_bodies import digest

EXTERNAL = encode_options({"pipeline": "external", "source": SOURCE, "tag": TAG})
MAPPING = MappingInfo(
    "Maven2",
    "commons-codec:commons-codec:1.15",
    GitSource(SOURCE.removeprefix("git+"), TAG),
)
QUESTION = external.source_of(MAPPING.encoded())
RECIPE = {"source_url": SOURCE, "tag": TAG}


def external_site(
    folder: Path,
    *,
    published: bool = True,
    unmapped_sources: bool = False,
    recipe: Mapping[str, str] = RECIPE,
) -> tuple[BuildSite, list[Mapping[str, object]]]:
    """Return a site whose worker asks an outside pipeline, and the trials that it is asked for."""
    (folder / "question").write_bytes(MAPPING.encoded())
    question = OutputFile(
        name=QUESTION.file,
        path=str(folder / "question"),
        size=QUESTION.size,
        sha256=QUESTION.sha256,
        l1=QUESTION.sha256,
        l2=QUESTION.sha256,
        media="application/json",
        claim="mirrored",
        upstream_sha256=QUESTION.sha256,
        level=0,
    )
    names = ("commons-codec-1.15.jar", "commons-codec-1.15.pom")
    made = [replace(built(folder, each, published=published), claim="external") for each in names]
    site, trials = site_of(
        folder,
        unmapped_sources=unmapped_sources,
        source=QUESTION,
        files=(*made, question),
        pipeline=external.pipeline(),
        toolchain=build_canonical.digest(external.TOOLCHAIN),
        lock=external.lock_of(QUESTION),
        recipe=recipe,
    )
    site.worker.description |= {"external_toolchain_doc": dict(external.TOOLCHAIN)}
    return site, trials


async def test_wish_for_an_outside_pipeline_becomes_a_request_of_claim_external(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = external_site(tmp_path)
    async with running(service(site)) as builds:
        started = await builds.start(CODEC, "S", options=EXTERNAL)
        await until_state(builds, started.build_id, "requested")
    [trial] = trials
    assert trial["options"] == {"pipeline": "external", "source": SOURCE, "tag": TAG}
    body = asked_for(site)
    assert (body.claim, body.pipeline.id) == ("external", "external")
    assert (body.source.kind, body.source.file) == ("mapping", QUESTION.file)
    unknown = build_canonical.dumps(external.TOOLCHAIN)
    assert body.toolchain == sha256_of(unknown)
    assert site.records.document(body.toolchain) == unknown, "who audits can read that"


async def test_sponsor_without_a_pipeline_refuses_at_once_and_rebuilds_as_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path, has_pipeline=False)
    site.origins[str(CODEC)] = Origin(SOURCE, TAG, {"jdk": 17})
    builds = service(site)
    with pytest.raises(InvalidInputError, match="names no pipeline at this node"):
        await builds.start(CODEC, "S", options=encode_options({"pipeline": "external"}))
    assert not site.records.all()
    await builds.start(CODEC, "S")
    assert len(list(site.records.all())) == 1


async def test_mapping_of_the_log_is_what_a_pipeline_is_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, trials = external_site(tmp_path, published=False)
    site.origins[str(CODEC)] = Origin(SOURCE, TAG, {"jdk": 17})
    async with running(service(site)) as builds:
        options = encode_options({"pipeline": "external"})
        started = await builds.start(CODEC, "S", options=options)
        await until_state(builds, started.build_id, "requested")
    [trial] = trials
    assert trial["options"] == {"pipeline": "external", "source": SOURCE, "tag": TAG}


async def test_what_a_pipeline_cannot_be_told_is_refused_before_it_is_asked(
    tmp_path: Path,
) -> None:
    site, trials = external_site(tmp_path)
    options = encode_options({"pipeline": "external", "goals": ["verify"]})
    with pytest.raises(InvalidInputError, match="goals"):
        await service(site).start(CODEC, "S", options=options)
    assert trials == []


async def attested(site: BuildSite) -> OwnItem:
    """Have the site's node ask an outside pipeline for what is in the log; return its answer."""
    wanted = await requested(site, EXTERNAL)
    async with rebuilding(site):
        return await answer(site, wanted)


async def test_member_attests_external_files_and_its_roots_are_over_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = external_site(tmp_path)
    own = await attested(site)
    assert own.item["outcome"] == "BUILT"
    assert own.document is not None
    claims = {file.name: (file.claim, file.origin) for file in own.document.files}
    assert claims == {
        "commons-codec-1.15.jar": ("external", "built"),
        "commons-codec-1.15.pom": ("external", "built"),
        QUESTION.file: ("mirrored", "upstream"),
    }
    roots = own.item["own"]
    same, _ = external_site(tmp_path)
    assert (await attested(same)).item["own"] == roots
    other, _ = external_site(tmp_path)
    original = other.worker._results

    def spoilt(method: str, params: Mapping[str, object]) -> object:
        result = original(method, params)
        assert isinstance(result, BuildResult)
        jar = replace(result.files[0], sha256=digest("other"), l1=digest("o1"), l2=digest("o2"))
        return result if method == "trial" else replace(result, files=(jar, *result.files[1:]))

    other.worker._results = spoilt
    differing = (await attested(other)).item["own"]
    assert isinstance(roots, list)
    assert isinstance(differing, list)
    assert {*differing}.isdisjoint(roots), "another pipeline's other bytes are another answer"


async def test_member_without_a_pipeline_says_so_in_the_log(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = external_site(tmp_path)
    original = site.worker._results

    def refusing(method: str, params: Mapping[str, object]) -> object:
        if method == "trial":
            return original(method, params)
        return JobFailure("REFUSED", "no external pipeline", "build.external names none")

    site.worker._results = refusing
    own = await attested(site)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "no external pipeline")
    assert site.gateway.adopted == []


async def test_pipeline_cannot_publish_under_a_name_that_nobody_gave_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for options in (EXTERNAL, encode_options({"pipeline": "external"})):
        site, trials = external_site(tmp_path)
        site.origins.clear()
        with pytest.raises(InvalidInputError, match="source not mapped"):
            await service(site).start(CODEC, "S", options=options)
        assert trials == [], "the pipeline is not asked"


async def test_member_who_opted_in_takes_only_what_is_published_from_a_pipeline(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = external_site(tmp_path, published=False, unmapped_sources=True)
    site.origins.clear()
    assert (await refused(site, EXTERNAL)).startswith("source not mapped")


def test_question_is_named_as_the_log_names_the_sources_of_external_entries() -> None:
    assert isinstance(QUESTION, Source)
    assert QUESTION.file in source_names(QUESTION.kind, parse_sha256(QUESTION.sha256))
    locked = LockedFile("source", "source", QUESTION.file, QUESTION.sha256, QUESTION.size)
    assert external.lock_of(QUESTION) == make_lock([locked])
