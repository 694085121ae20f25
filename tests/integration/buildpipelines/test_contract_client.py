"""Asking another's pipeline: older spellings are understood, everything else ends by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.worker.contract import (
    BODY_BYTES_MAX,
    Failure,
    GitSource,
    MappingInfo,
    Running,
    Success,
)
from buildpipelines.worker.contract_client import ContractClient, parse_pipeline_address
from tests.fakes.contract_site import serving_contract
from tests.fakes.scripted_pipeline import BUILD, Answer, ScriptedPipeline, serving_pipeline

_T = TypeVar("_T")
MAPPING = MappingInfo("Maven2", "g:a:1", GitSource("https://git.example/a", "v1"))


@pytest.fixture
def pipeline() -> Iterator[ScriptedPipeline]:
    with serving_pipeline() as pipeline:
        yield pipeline


def asking(
    url: str,
    call: Callable[[ContractClient], Awaitable[_T]],
    *,
    is_private: bool = True,
    patience: float = 0.0,
) -> _T:
    """Return what a call at a client of its own comes to."""

    async def run() -> _T:
        address = parse_pipeline_address(url, is_private=is_private)
        async with ContractClient(address, patience_seconds=patience) as client:
            return await call(client)

    return asyncio.run(run())


def failure_of(url: str, call: Callable[[ContractClient], Awaitable[object]]) -> BuildFailure:
    with pytest.raises(BuildFailure) as caught:
        asking(url, call)
    return caught.value


def test_build_is_asked_for_by_the_contracts_own_words(pipeline: ScriptedPipeline) -> None:
    pipeline.builds({})
    assert asking(pipeline.url, lambda client: client.start(MAPPING)) == BUILD
    ((method, path, body),) = pipeline.asked
    assert (method, path, body) == ("PUT", "/build", MAPPING.encoded())
    assert json.loads(body) == {
        "package_type": "Maven2",
        "package_specific_id": "g:a:1",
        "source_repository": {"Git": {"url": "https://git.example/a", "tag": "v1"}},
    }
    (headers,) = pipeline.headers
    assert headers["Content-Type"] == "application/json"
    assert not {"Authorization", "Cookie"} & headers.keys()


def test_slash_at_the_end_of_an_endpoint_makes_no_difference(pipeline: ScriptedPipeline) -> None:
    pipeline.answers("PUT /java/build", Answer(body=BUILD))
    for end in ("/java", "/java/", "/java//"):
        assert asking(pipeline.url + end, lambda client: client.start(MAPPING)) == BUILD


def test_statuses_are_understood_as_older_pipelines_spell_them(pipeline: ScriptedPipeline) -> None:
    url = f"/build/{BUILD}/artifacts/a-1.jar"
    said = [
        ("Running", Running()),
        ({"Success": {"artifact_urls": [url]}}, Success((url,))),
        ({"Failure": "1"}, Failure("1")),
        ({"Failure": 1}, Failure("exit status 1")),
    ]
    for status, meant in said:
        body = {"id": BUILD, "status": status, "more": None}
        pipeline.answers(f"GET /build/{BUILD}", Answer(body=body))
        assert asking(pipeline.url, lambda client: client.status(BUILD)) == meant


def test_file_is_fetched_as_bytes(pipeline: ScriptedPipeline, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    pipeline.builds({"a-1+b.jar": content})
    pipeline.script[f"GET /build/{BUILD}/artifacts/a-1%2Bb.jar"] = [Answer(body=content)]
    target = tmp_path / "a.jar"
    fetched = asking(
        pipeline.url, lambda client: client.fetch(BUILD, "a-1+b.jar", target, bytes_max=2**21)
    )
    assert (fetched, target.read_bytes()) == (len(content), content)


def test_pipeline_on_a_unix_socket_is_asked_the_same(tmp_path: Path) -> None:
    with serving_pipeline(tmp_path / "p.sock") as pipeline:
        pipeline.builds({"a-1.jar": b"jar"})
        assert asking(pipeline.url, lambda client: client.start(MAPPING)) == BUILD


def test_our_own_server_is_understood_over_both_its_doors(tmp_path: Path) -> None:
    async def build(client: ContractClient) -> bytes:
        build_id = await client.start(MAPPING)
        while isinstance(status := await client.status(build_id), Running):
            await asyncio.sleep(0.01)
        assert isinstance(status, Success)
        assert status.artifact_urls == (f"/build/{build_id}/artifacts/a-1.jar",)
        await client.fetch(build_id, "a-1.jar", tmp_path / "a-1.jar", bytes_max=3)
        return (tmp_path / "a-1.jar").read_bytes()

    with serving_contract(tmp_path / "site") as site:
        site.trials.files = {"a-1.jar": b"jar"}
        for url in (site.url, f"unix://{site.socket}"):
            assert asking(url, build) == b"jar"


@pytest.mark.parametrize(
    ("answer", "outcome", "named"),
    [
        (Answer(400, b"a line\nand another"), "REFUSED", "status 400: a line and another"),
        (Answer(404), "REFUSED", "status 404"),
        (Answer(500, b"Internal Server Error"), "SOURCE_UNAVAILABLE", "status 500"),
        (Answer(503), "SOURCE_UNAVAILABLE", "status 503"),
        (Answer(302, headers={"Location": "http://127.0.0.1/"}), "BUILD_FAILED", "status 302"),
        (Answer(201, BUILD), "BUILD_FAILED", "status 201"),
        (Answer(200, b""), "BUILD_FAILED", "not JSON"),
        (Answer(200, BUILD.encode()), "BUILD_FAILED", "not JSON"),
        (Answer(200, {"id": BUILD}), "BUILD_FAILED", "no build id"),
        (Answer(200, "../../x"), "BUILD_FAILED", "no build id"),
        (Answer(200, b'"' + b"x" * BODY_BYTES_MAX + b'"'), "BUILD_FAILED", "at most"),
        (Answer(200, BUILD, {"Content-Length": "99"}), "SOURCE_UNAVAILABLE", "does not answer"),
        (Answer(200, b"\x1f\x8b", {"Content-Encoding": "gzip"}), "BUILD_FAILED", "not JSON"),
    ],
)
def test_answer_to_a_question_that_is_none_ends_it_by_name(
    pipeline: ScriptedPipeline, answer: Answer, outcome: str, named: str
) -> None:
    pipeline.answers("PUT /build", answer)
    failure = failure_of(pipeline.url, lambda client: client.start(MAPPING))
    assert failure.outcome == outcome
    assert named in failure.detail


@pytest.mark.parametrize(
    ("answer", "outcome", "named"),
    [
        (Answer(404), "SOURCE_UNAVAILABLE", "forgot"),
        (Answer(500), "SOURCE_UNAVAILABLE", "status 500"),
        (Answer(301, headers={"Location": "/x"}), "BUILD_FAILED", "status 301"),
        (Answer(200, {"id": "another", "status": "Running"}), "BUILD_FAILED", "another"),
        (Answer(200, {"id": BUILD, "status": "Done"}), "BUILD_FAILED", "status"),
        (Answer(200, {"id": BUILD}), "BUILD_FAILED", "status"),
        (Answer(200, b"[" * 60_000), "BUILD_FAILED", "not JSON"),
    ],
)
def test_status_that_is_none_ends_the_build_by_name(
    pipeline: ScriptedPipeline, answer: Answer, outcome: str, named: str
) -> None:
    pipeline.answers(f"GET /build/{BUILD}", answer)
    failure = failure_of(pipeline.url, lambda client: client.status(BUILD))
    assert failure.outcome == outcome
    assert named in failure.detail


def test_file_that_is_larger_than_there_is_room_for_is_cut_off(
    pipeline: ScriptedPipeline, tmp_path: Path
) -> None:
    pipeline.builds({"a-1.jar": b"x" * 1000})
    target = tmp_path / "a-1.jar"
    failure = failure_of(
        pipeline.url, lambda client: client.fetch(BUILD, "a-1.jar", target, bytes_max=999)
    )
    assert failure.cause == "external file too large"


@pytest.mark.parametrize("status", [202, 302, 403, 404, 410])
def test_file_that_is_not_given_ends_the_build(
    pipeline: ScriptedPipeline, tmp_path: Path, status: int
) -> None:
    pipeline.answers(f"GET /build/{BUILD}/artifacts/a-1.jar", Answer(status))
    failure = failure_of(
        pipeline.url, lambda client: client.fetch(BUILD, "a-1.jar", tmp_path / "a", bytes_max=9)
    )
    assert (failure.outcome, f"status {status}" in failure.detail) == ("BUILD_FAILED", True)


def test_faults_that_pass_are_waited_for(pipeline: ScriptedPipeline) -> None:
    pipeline.answers("PUT /build", Answer(503), Answer(body=BUILD))
    assert asking(pipeline.url, lambda client: client.start(MAPPING), patience=30) == BUILD
    assert len(pipeline.asked) == 2


def test_pipeline_that_falls_silent_is_left_in_time(
    pipeline: ScriptedPipeline, tmp_path: Path
) -> None:
    silent = Answer(body=b"x" * 100, is_silent=True)
    pipeline.answers("PUT /build", silent)
    pipeline.answers(f"GET /build/{BUILD}/artifacts/a-1.jar", silent)

    async def run() -> list[BuildFailure]:
        address = parse_pipeline_address(pipeline.url, is_private=True)
        failures = []
        async with ContractClient(address, patience_seconds=0, answer_seconds=0.1) as client:
            for call in (
                client.start(MAPPING),
                client.fetch(BUILD, "a-1.jar", tmp_path / "a", bytes_max=100),
            ):
                with pytest.raises(BuildFailure) as caught:
                    await call
                failures.append(caught.value)
        return failures

    assert [each.outcome for each in asyncio.run(run())] == ["SOURCE_UNAVAILABLE"] * 2


def test_pipeline_that_is_away_is_named_as_that() -> None:
    with serving_pipeline() as pipeline:
        url = pipeline.url
    failure = failure_of(url, lambda client: client.start(MAPPING))
    assert (failure.outcome, failure.cause) == ("SOURCE_UNAVAILABLE", "external pipeline")


def test_private_address_is_asked_only_if_the_operator_says_so(pipeline: ScriptedPipeline) -> None:
    names = (pipeline.url, pipeline.url.replace("127.0.0.1", "localhost"))
    for url in names:
        with pytest.raises(BuildFailure, match="not public"):
            asking(url, lambda client: client.start(MAPPING), is_private=False)
    assert not pipeline.asked


def test_address_of_a_pipeline_is_an_address_and_nothing_more() -> None:
    assert parse_pipeline_address("https://h/p/").url == "https://h/p"
    assert parse_pipeline_address("unix:///run/p.sock").socket == Path("/run/p.sock")
    texts = ("", "h", "ftp://h", "https://", "https://u:p@h", "https://h?x", "https://h#x")
    for text in (*texts, "unix://p.sock", "unix:///", "https://[", "https://h:0", "https://h:x"):
        with pytest.raises(FormatError):
            parse_pipeline_address(text)
