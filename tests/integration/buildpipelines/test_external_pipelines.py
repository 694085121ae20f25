"""What another's pipeline answers becomes claim ``external``, or a failure that says why not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.inputs.maven_upstream import MavenRepository as Upstream
from buildpipelines.inputs.pipconf import index_settings
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.spec import canonical
from buildpipelines.spec.explanation import parse_explanation
from buildpipelines.spec.lock import LockedFile, make_lock
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    RebuildParams,
    TrialParams,
    parse_result,
)
from buildpipelines.worker.contract_client import PipelineAddress
from buildpipelines.worker.external import TOOLCHAIN
from buildpipelines.worker.service import Options, Service, running
from pyrsia_node.devnet.maven_repository import MavenRepository, serve_repository
from tests.fakes.scripted_pipeline import BUILD, Answer, ScriptedPipeline, serving_pipeline

OUTPUT_BYTES = 1024 * 1024
POM = b"""<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>
<artifactId>tool</artifactId><version>1.0</version><description>A tool</description>
<licenses><license><name>Apache-2.0</name></license></licenses></project>"""
SOURCE = {"source": "git+https://git.example/tool", "tag": "v1.0"}


def jar(text: str = "x", time: int = 2020) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt", (time, 1, 1, 0, 0, 0)), text)
    return out.getvalue()


FILES = {"tool-1.0.jar": jar(), "tool-1.0.pom": POM}


class Asker:
    """Two services, of which one has a pipeline to ask; both have a repository to compare with."""

    def __init__(self, pipeline: ScriptedPipeline, published: MavenRepository) -> None:
        self.pipeline = pipeline
        self.published = published
        self.loop = asyncio.new_event_loop()
        self.services: dict[bool, Service] = {}
        self._number = 0

    async def serve(self, folder: Path, ready: threading.Event, over: asyncio.Event) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for is_configured in (True, False):
                address = PipelineAddress(self.pipeline.url, is_private=True)
                options = Options(
                    work=folder / str(is_configured),
                    index=index_settings(index_url="http://127.0.0.1:9"),
                    limits=SandboxLimits(output_bytes=OUTPUT_BYTES),
                    maven_repositories=(Upstream("central", self.published.url, is_private=True),),
                    external=address if is_configured else None,
                )
                service = await stack.enter_async_context(running(options))
                self.services[is_configured] = service
            ready.set()
            await over.wait()

    def trial(
        self, options: Mapping[str, str] = SOURCE, *, seconds: int = 50, is_configured: bool = True
    ) -> BuildResult | JobFailure:
        """Run a trial to its end; each is of another version that nobody has asked about."""
        given = {"pipeline": "external", **options}
        params = TrialParams("job", "maven", "org.example:tool", "1.0", seconds, given)
        return self.run(
            lambda service, job: service.trial(replace(params, job=job)),
            is_configured=is_configured,
        )

    def rebuild(
        self, params: RebuildParams, *, is_configured: bool = True
    ) -> BuildResult | JobFailure:
        return self.run(
            lambda service, job: service.rebuild(replace(params, job=job)),
            is_configured=is_configured,
        )

    def run(
        self, start: Callable[[Service, str], None], *, is_configured: bool = True
    ) -> BuildResult | JobFailure:
        self._number += 1
        service, job = self.services[is_configured], f"job-{self._number}"

        async def until_it_ends() -> BuildResult | JobFailure:
            start(service, job)
            return await service.jobs.wait(job)

        return asyncio.run_coroutine_threadsafe(until_it_ends(), self.loop).result(20)


@pytest.fixture(scope="module")
def only_asker() -> Iterator[Asker]:
    """Reading the toolchains takes a second, so all tests ask the same services."""
    published = MavenRepository(folders=())
    with (
        TemporaryDirectory() as folder,
        serving_pipeline() as pipeline,
        serve_repository(published),
    ):
        asker = Asker(pipeline, published)
        ready, over = threading.Event(), asyncio.Event()
        serving = asker.serve(Path(folder), ready, over)
        thread = threading.Thread(target=lambda: asker.loop.run_until_complete(serving))
        thread.start()
        try:
            assert ready.wait(20)
            yield asker
        finally:
            asker.loop.call_soon_threadsafe(over.set)
            thread.join(20)
            asker.loop.close()


@pytest.fixture
def asker(only_asker: Asker) -> Asker:
    only_asker.published.extra.clear()
    only_asker.pipeline.script.clear()
    only_asker.pipeline.builds(FILES)
    only_asker.pipeline.asked.clear()
    return only_asker


def built(result: BuildResult | JobFailure) -> BuildResult:
    assert isinstance(result, BuildResult), result
    return parse_result(result.document())


def failed(result: BuildResult | JobFailure) -> JobFailure:
    assert isinstance(result, JobFailure), result
    return result


def request_of(result: BuildResult) -> RebuildParams:
    return RebuildParams(
        job="job",
        purl=result.purl,
        source=result.source,
        lock=result.lock,
        recipe=result.recipe,
        toolchain=result.toolchain,
        seconds_max=50,
    )


def test_answer_is_claimed_as_external_and_as_nothing_more(asker: Asker) -> None:
    result = built(asker.trial())
    assert result.purl == "pkg:maven/org.example/tool@1.0"
    assert result.pipeline["id"] == "external"
    assert result.toolchain == canonical.digest(TOOLCHAIN)
    assert result.recipe == {"source_url": SOURCE["source"], "tag": SOURCE["tag"]}
    claims = {file.name: file.claim for file in result.files}
    question = next(name for name in claims if name.startswith("mapping-"))
    assert claims == {
        "tool-1.0.jar": "external",
        "tool-1.0.pom": "external",
        question: "mirrored",
    }
    assert (result.metadata.summary, result.metadata.licence) == ("A tool", "Apache-2.0")


def test_source_of_an_answer_is_the_question_itself(asker: Asker) -> None:
    result = built(asker.trial())
    body = next(body for method, _, body in asker.pipeline.asked if method == "PUT")
    file = next(each for each in result.files if each.name == result.source.file)
    assert Path(file.path).read_bytes() == body
    assert canonical.loads_object(body, bytes_max=1000) == {
        "package_type": "Maven2",
        "package_specific_id": "org.example:tool:1.0",
        "source_repository": {"Git": {"url": "https://git.example/tool", "tag": "v1.0"}},
    }
    digest = hashlib.sha256(body).hexdigest()
    assert (result.source.kind, result.source.sha256) == ("mapping", digest)
    assert result.source.file == f"mapping-{digest[:16]}.json"
    assert [(f.ecosystem, f.file, f.sha256) for f in result.lock.files] == [
        ("source", result.source.file, digest)
    ]


def test_member_asks_its_own_pipeline_the_same_question(asker: Asker) -> None:
    first = built(asker.trial())
    asker.pipeline.asked.clear()
    asker.pipeline.builds(FILES)
    second = built(asker.rebuild(request_of(first)))
    assert asker.pipeline.asked[0][:2] == ("PUT", "/build")
    same = ("purl", "source", "pipeline", "toolchain", "lock", "recipe", "metadata")
    assert all(getattr(first, name) == getattr(second, name) for name in same)
    assert [f.sha256 for f in first.files] == [f.sha256 for f in second.files]


def test_question_without_a_source_leaves_it_to_the_pipeline(asker: Asker) -> None:
    first = built(asker.trial({}))
    body = json.loads(asker.pipeline.asked[0][2])
    assert (first.recipe, "source_repository" in body) == ({}, False)
    asker.pipeline.builds(FILES)
    assert built(asker.rebuild(request_of(first))).source == first.source


def test_answer_is_compared_with_what_is_published(asker: Asker) -> None:
    # Of another version: what the upstream has is remembered for a while.
    version = "2.0"
    pom = POM.replace(b"<version>1.0<", b"<version>2.0<")
    names = [f"tool-{version}.{extension}" for extension in ("jar", "pom")]
    asker.pipeline.builds(dict(zip(names, (jar(), pom), strict=True)))
    folder = f"org/example/tool/{version}"
    asker.published.extra |= {f"{folder}/{names[0]}": jar("y"), f"{folder}/{names[1]}": pom}
    params = TrialParams("x", "maven", "org.example:tool", version, 50, {"pipeline": "external"})
    result = built(asker.run(lambda service, job: service.trial(replace(params, job=job))))
    levels = {file.name: file.level for file in result.files if file.claim == "external"}
    assert levels == dict(zip(names, (3, 0), strict=True))
    explained = parse_explanation(Path(result.explanation_path).read_bytes())
    assert [each.level for each in explained.files] == [3, 0]


def test_checksums_and_signatures_beside_the_files_are_left_out(asker: Asker) -> None:
    aside = ("jar.md5", "jar.sha1", "jar.sha256", "jar.sha512", "jar.asc", "jar.asc.md5")
    names = [*(f"tool-1.0.{each}" for each in aside), "maven-metadata.xml.sha1"]
    asker.pipeline.builds({**FILES, **dict.fromkeys(names, b"x"), "maven-metadata.xml": b"<x/>"})
    result = built(asker.trial())
    assert {f.name for f in result.files if f.claim == "external"} == FILES.keys()
    assert not any(path.endswith(".asc") for _, path, _ in asker.pipeline.asked)


def test_files_without_a_pom_have_name_and_version_alone(asker: Asker) -> None:
    asker.pipeline.builds({"tool-1.0.jar": jar()})
    metadata = built(asker.trial()).metadata
    assert (metadata.name, metadata.version, metadata.licence) == ("org.example:tool", "1.0", "")


def test_failure_of_a_pipeline_is_told_in_its_own_words(asker: Asker) -> None:
    body = {"id": BUILD, "status": {"Failure": "exit 1: no compiler"}}
    asker.pipeline.answers(f"GET /build/{BUILD}", Answer(body=body))
    failure = failed(asker.trial())
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", "external build")
    assert failure.detail == "exit 1: no compiler"


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["other-1.0.jar"], "file name"),
        (["tool-1.0.jar", "tool-1.1.jar"], "file name"),
        (["tool-1.0evil.jar"], "file name"),
        ([], "external files"),
        (["tool-1.0.jar.sha1"], "external files"),
        ([f"tool-1.0-{number}.jar" for number in range(33)], "external files"),
        (["../../tool-1.0.jar"], "external answer"),
        (["%2e%2e%2ftool-1.0.jar"], "external answer"),
    ],
)
def test_answer_of_other_files_than_were_asked_for_is_none(
    asker: Asker, names: list[str], cause: str
) -> None:
    asker.pipeline.builds(dict.fromkeys(names, b"x"))
    failure = failed(asker.trial())
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", cause)
    assert not any("artifacts" in path for _, path, _ in asker.pipeline.asked)


def test_address_of_another_machine_is_not_followed(asker: Asker) -> None:
    urls = [f"http://127.0.0.2:1/build/{BUILD}/artifacts/tool-1.0.jar"]
    body = {"id": BUILD, "status": {"Success": {"artifact_urls": urls}}}
    asker.pipeline.answers(f"GET /build/{BUILD}", Answer(body=body))
    assert failed(asker.trial()).cause == "external answer"


def test_pom_of_another_version_is_no_answer(asker: Asker) -> None:
    other = POM.replace(b"<version>1.0<", b"<version>2.0<")
    asker.pipeline.builds({**FILES, "tool-1.0.pom": other})
    assert failed(asker.trial()).cause == "pom"


def test_archive_of_two_readings_is_no_answer(asker: Asker) -> None:
    asker.pipeline.builds({**FILES, "tool-1.0.jar": b"PK\3\4" + jar()})
    assert failed(asker.trial()).outcome == "BUILD_FAILED"


def test_files_of_an_answer_are_bounded_together(asker: Asker) -> None:
    part = b"x" * (OUTPUT_BYTES // 2 + 1)
    asker.pipeline.builds({"tool-1.0-a.txt": part, "tool-1.0-b.txt": part})
    assert failed(asker.trial()).cause == "external file too large"


def test_pipeline_that_never_ends_ends_with_the_job(asker: Asker) -> None:
    asker.pipeline.answers(f"GET /build/{BUILD}", Answer(body={"id": BUILD, "status": "Running"}))
    assert failed(asker.trial(seconds=1)).outcome == "TIMEOUT"


def test_worker_without_a_pipeline_refuses_by_name(asker: Asker) -> None:
    request = request_of(built(asker.trial()))
    for failure in (
        failed(asker.trial(is_configured=False)),
        failed(asker.rebuild(request, is_configured=False)),
    ):
        assert (failure.outcome, failure.cause) == ("REFUSED", "no external pipeline")


@pytest.mark.parametrize(
    "options",
    [
        {"jdk": "17"},
        {"goals": "install"},
        {"source": "https://h/a.tar.gz"},
        {"source": "git+http://h/a", "tag": "v1"},
        {"source": "git+https://h/a"},
        {"tag": "v1"},
    ],
)
def test_what_the_contract_cannot_say_is_refused(asker: Asker, options: dict[str, str]) -> None:
    failure = failed(asker.trial(options))
    assert (failure.outcome, failure.cause) == ("REFUSED", "request")
    assert not asker.pipeline.asked


def test_request_that_does_not_follow_from_its_question_is_refused(asker: Asker) -> None:
    request = request_of(built(asker.trial()))
    more = LockedFile("source", "source", "other.json", "0" * 64, 1)
    spoilt = {
        "source": replace(request, source=replace(request.source, sha256="0" * 64)),
        "lock": replace(request, lock=make_lock((*request.lock.files, more))),
        "toolchain": replace(request, toolchain="0" * 64),
        "request": replace(request, recipe={**request.recipe, "jdk": 17}),
    }
    asker.pipeline.asked.clear()
    for cause, params in spoilt.items():
        failure = failed(asker.rebuild(params))
        assert (failure.outcome, failure.cause) == ("REFUSED", cause)
    other = failed(asker.rebuild(replace(request, purl="pkg:maven/org.example/tool@1.1")))
    assert other.cause == "source"
    assert not asker.pipeline.asked


def test_mapping_of_another_ecosystem_has_no_pipeline(asker: Asker) -> None:
    request = request_of(built(asker.trial()))
    with pytest.raises(FormatError, match="no pipeline here"):
        asker.rebuild(replace(request, purl="pkg:pypi/tool@1.0"))


def test_worker_tells_of_its_pipeline_and_its_unknown_toolchain(asker: Asker) -> None:
    described = asyncio.run(asker.services[True].describe())
    assert described["external_toolchain_doc"] == {"toolchain": "unknown"}
    pipelines = described["pipelines"]
    assert isinstance(pipelines, list)
    assert "external" in [each["id"] for each in pipelines]
    assert "external_toolchain_doc" not in asyncio.run(asker.services[False].describe())
