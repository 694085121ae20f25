"""A small project, recorded and replayed in real sandboxes; requests that do not fit are refused.

One recording and one replay run Maven; every refusal here comes before anything is built.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.spec.explanation import parse_explanation
from buildpipelines.spec.lock import LockedFile, make_lock
from buildpipelines.spec.messages import BuildResult, JobFailure, RebuildParams, RecipeValue
from buildpipelines.survey import replay_of
from tests.fakes.maven_site import (
    TAG,
    MavenSite,
    maven_site,
    pom,
    project,
    run_rebuild,
    run_trial,
)
from tests.hostile.worker import LinkError, Worker

pytestmark = pytest.mark.timeout(240)
COMMIT_TIME_S = 1_704_164_645
HELLO = "org/example/hello/1.0"


@pytest.fixture(scope="module")
def site() -> Iterator[MavenSite]:
    with TemporaryDirectory() as name, maven_site(Path(name)) as site:
        site.add("hello", project("hello"))
        yield site


@pytest.fixture(scope="module")
def worker(site: MavenSite) -> Iterator[Worker]:
    with TemporaryDirectory() as name, site.worker(Path(name)) as worker:
        yield worker


@pytest.fixture(scope="module")
def recorded(site: MavenSite, worker: Worker) -> BuildResult:
    result = run_trial(worker, "recorded", "hello", source=site.address("hello"), tag=TAG)
    assert isinstance(result, BuildResult), result
    return result


def refused(result: BuildResult | JobFailure) -> str:
    assert isinstance(result, JobFailure), result
    return f"{result.outcome}: {result.cause}"


def changed(recorded: BuildResult, job: str, **changes: object) -> RebuildParams:
    return dataclasses.replace(replay_of(recorded, job, 100), **changes)  # type: ignore[arg-type]  # named by the tests


def jar_made_by(manifest: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\n{manifest}\r\n\r\n")
    return out.getvalue()


def test_worker_says_what_it_builds_maven_artifacts_with(worker: Worker) -> None:
    described = worker.call("describe", {})
    text = json.dumps(described)
    assert '"id": "maven"' in text
    toolchains = described["maven_toolchains"]
    assert isinstance(toolchains, list)
    assert {"digest", "document"} == set(toolchains[0])


def test_recording_takes_pom_and_jar_of_the_version(recorded: BuildResult) -> None:
    assert recorded.purl == "pkg:maven/org.example/hello@1.0"
    claims = {f.name: (f.claim, f.media, f.level) for f in recorded.files}
    assert claims == {
        "hello-1.0.jar": ("rebuilt", "application/java-archive", None),
        "hello-1.0.pom": ("rebuilt", "text/xml", None),
        recorded.source.file: ("mirrored", "application/x-tar", 0),
    }
    assert recorded.source.kind == "tree"
    assert recorded.metadata.name == "org.example:hello"
    assert recorded.metadata.licence == "Apache-2.0"


def test_recipe_names_everything_that_decided(recorded: BuildResult, site: MavenSite) -> None:
    recipe = recorded.recipe
    assert recipe["source_url"] == site.address("hello")
    assert (recipe["tag"], len(str(recipe["commit"]))) == (TAG, 40)
    assert (recipe["epoch"], recipe["reference"], recipe["newline"]) == (
        COMMIT_TIME_S,
        "none",
        "lf",
    )


def test_lock_holds_the_source_and_every_file_that_maven_read(recorded: BuildResult) -> None:
    kinds = [f.ecosystem for f in recorded.lock.files]
    assert kinds.count("source") == 1
    assert kinds.count("maven") > 100
    assert not any(f.project == HELLO for f in recorded.lock.files)


def test_built_jar_carries_the_time_of_the_commit(recorded: BuildResult) -> None:
    path = next(f.path for f in recorded.files if f.name == "hello-1.0.jar")
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2024, 1, 2, 3, 4, 4)}
        assert archive.read("greeting.txt") == b"Hello\nthere\n"


def test_replay_without_any_repository_gives_the_same_bytes(
    recorded: BuildResult, worker: Worker
) -> None:
    again = run_rebuild(worker, replay_of(recorded, "again", 100))
    assert isinstance(again, BuildResult), again
    assert [(f.name, f.sha256, f.l1, f.l2) for f in again.files] == [
        (f.name, f.sha256, f.l1, f.l2) for f in recorded.files
    ]
    assert (again.metadata, again.recipe, again.lock) == (
        recorded.metadata,
        recorded.recipe,
        recorded.lock,
    )
    explanation = parse_explanation(Path(again.explanation_path).read_bytes())
    assert [(f.name, f.level) for f in explanation.files] == [
        ("hello-1.0.jar", -1),
        ("hello-1.0.pom", -1),
    ]
    assert explanation.rules == again.pipeline["digest"]


def test_another_toolchain_is_refused(recorded: BuildResult, worker: Worker) -> None:
    params = changed(recorded, "toolchain", toolchain="0" * 64)
    assert refused(run_rebuild(worker, params)) == "REFUSED: toolchain"


@pytest.mark.parametrize(
    ("number", "change", "cause"),
    [
        (1, {"jdk": 99}, "toolchain"),
        (2, {"maven": "4.0.0"}, "toolchain"),
        (3, {"reference": "hello-1.0.jar"}, "recipe"),
        (4, {"strip": 1}, "recipe"),
        (5, {"goals": ()}, "request"),
        (6, {"commit": "0f" * 20}, "tag moved"),
        (7, {"tag": "v2.0"}, "no such tag"),
    ],
)
def test_recipes_that_do_not_fit_are_refused_by_name(
    recorded: BuildResult,
    worker: Worker,
    number: int,
    change: dict[str, RecipeValue],
    cause: str,
) -> None:
    params = changed(recorded, f"recipe-{number}", recipe={**recorded.recipe, **change})
    assert refused(run_rebuild(worker, params)).endswith(f": {cause}")


def test_source_that_is_not_what_the_address_gives_is_refused(
    recorded: BuildResult, worker: Worker
) -> None:
    other = dataclasses.replace(recorded.source, sha256="0" * 64)
    own = next(f for f in recorded.lock.files if f.ecosystem == "source")
    files = [f for f in recorded.lock.files if f != own]
    lock = make_lock([*files, dataclasses.replace(own, sha256="0" * 64)])
    params = changed(recorded, "source", source=other, lock=lock)
    assert refused(run_rebuild(worker, params)) == "REFUSED: source"


def test_lock_without_the_source_is_refused(recorded: BuildResult, worker: Worker) -> None:
    lock = make_lock(f for f in recorded.lock.files if f.ecosystem != "source")
    params = changed(recorded, "no-source", lock=lock)
    assert refused(run_rebuild(worker, params)) == "REFUSED: lock"


def test_a_download_is_no_build_so_locked_files_of_the_version_are_refused(
    recorded: BuildResult, worker: Worker
) -> None:
    own = LockedFile("maven", HELLO, "hello-1.0.jar", "0" * 64, 5)
    params = changed(recorded, "own", lock=make_lock([*recorded.lock.files, own]))
    assert refused(run_rebuild(worker, params)) == "REFUSED: lock"


def test_locked_file_that_the_upstream_has_otherwise_is_refused(
    recorded: BuildResult, worker: Worker
) -> None:
    first = next(f for f in recorded.lock.files if f.ecosystem == "maven")
    others = [f for f in recorded.lock.files if f != first]
    lock = make_lock([*others, dataclasses.replace(first, sha256="0" * 64)])
    params = changed(recorded, "hash", lock=lock)
    assert refused(run_rebuild(worker, params)) == "REFUSED: lock hash"


def test_what_is_published_must_be_what_the_recipe_follows(
    recorded: BuildResult, worker: Worker, site: MavenSite
) -> None:
    site.publish("seen", "seen-1.0.jar", jar_made_by("Build-Jdk-Spec: 17"))
    params = changed(recorded, "published", purl="pkg:maven/org.example/seen@1.0")
    assert refused(run_rebuild(worker, params)) == "REFUSED: recipe"


def test_jdk_that_the_published_jar_names_is_not_replaced_by_another(
    worker: Worker, site: MavenSite
) -> None:
    address = site.add("old", project("old"))
    site.publish("old", "old-1.0.jar", jar_made_by("Build-Jdk-Spec: 1.4"))
    result = run_trial(worker, "old", "old", source=address, tag=TAG, jdk=17)
    assert refused(result) == "REFUSED: toolchain"
    assert isinstance(result, JobFailure)
    assert "JDK 4" in result.detail


def test_source_without_a_pom_is_named(worker: Worker, site: MavenSite) -> None:
    address = site.add("bare", {"README": b"nothing\n"})
    assert refused(run_trial(worker, "bare", "bare", source=address, tag=TAG)) == (
        "BUILD_FAILED: no pom"
    )


def test_module_that_is_not_there_is_named(worker: Worker, site: MavenSite) -> None:
    address = site.add("whole", {"pom.xml": pom("whole", packaging="pom")})
    result = run_trial(worker, "whole", "whole", source=address, tag=TAG, module="core")
    assert refused(result) == "BUILD_FAILED: no pom"


@pytest.mark.parametrize(
    ("number", "options", "text"),
    [
        (1, {}, "source"),
        (2, {"source": "git+https://127.0.0.1/x"}, "tag or a commit"),
        (3, {"source": "git+http://127.0.0.1/x", "tag": "v1"}, "source"),
        (4, {"source": "https://127.0.0.1/x.zip", "newline": "cr"}, "newline"),
    ],
)
def test_options_out_of_form_are_refused_by_name(
    worker: Worker, number: int, options: dict[str, RecipeValue], text: str
) -> None:
    result = run_trial(worker, f"options-{number}", "hello", **options)
    assert refused(result) == "REFUSED: request"
    assert isinstance(result, JobFailure)
    assert text in result.detail


def test_snapshot_is_no_version_of_the_log(worker: Worker) -> None:
    params = {"job": "snapshot", "ecosystem": "maven", "name": "org.example:hello"}
    worker.call("trial", {**params, "version": "1.0-SNAPSHOT", "seconds_max": 9})
    result = worker.follow("snapshot").result
    assert isinstance(result, JobFailure)
    assert "snapshot" in result.detail


def test_name_without_a_group_is_malformed(worker: Worker) -> None:
    params = {"job": "name", "ecosystem": "maven", "name": "hello", "version": "1"}
    with pytest.raises(LinkError, match="name"):
        worker.call("trial", {**params, "seconds_max": 9})
