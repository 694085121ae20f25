"""Real builds by the pipeline contract: for a stranger, and for a worker that asks another's."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from buildpipelines.spec.messages import BuildResult, RebuildParams
from pyrsia_node.devnet.ports import free_ports
from tests.fakes.maven_site import (
    GROUP,
    TAG,
    MavenSite,
    maven_site,
    project,
    run_rebuild,
    run_trial,
)

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]
SECONDS = 120


@dataclass
class Served:
    """A worker that serves the contract at ``url``, and the site that it builds from."""

    site: MavenSite
    url: str
    folder: Path


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with maven_site(folder) as site:
            site.add("hello", project("hello"))
            broken = {**project("broken", java="class Hello {")}
            site.add("broken", broken)
            (port,) = free_ports(1)
            (folder / "serving").mkdir()
            listen = ("--contract-listen", f"127.0.0.1:{port}")
            with site.worker(folder / "serving", *listen):
                yield Served(site, f"http://127.0.0.1:{port}", folder)


def read(url: str, body: object = None) -> tuple[int, bytes]:
    """Do what the contract's text says, and no more."""
    data = None if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "PUT"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - a test's own server
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def build(served: Served, artifact: str) -> Any:
    """Have an artifact built, and return the status at its end."""
    status, data = read(
        f"{served.url}/build",
        {
            "package_type": "Maven2",
            "package_specific_id": f"{GROUP}:{artifact}:1.0",
            "source_repository": {
                "Git": {"url": served.site.address(artifact).removeprefix("git+"), "tag": TAG}
            },
            "build_spec_url": None,
        },
    )
    assert status == 200, data
    build_id = json.loads(data)
    deadline = time.monotonic() + SECONDS
    while True:
        status, data = read(f"{served.url}/build/{build_id}")
        assert status == 200
        found = json.loads(data)["status"]
        if found != "Running":
            return found
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_stranger_who_knows_the_contract_alone_has_a_project_built(served: Served) -> None:
    found = build(served, "hello")
    assert isinstance(found, dict), found
    assert "Success" in found, found
    files = {url.rpartition("/")[2]: url for url in found["Success"]["artifact_urls"]}
    assert files.keys() == {"hello-1.0.jar", "hello-1.0.pom"}
    status, data = read(served.url + files["hello-1.0.jar"])
    assert status == 200
    with zipfile.ZipFile(BytesIO(data)) as jar:
        assert jar.read("greeting.txt") == b"Hello\nthere\n"
        assert "org/example/Hello.class" in jar.namelist()


def test_source_that_does_not_build_fails_with_the_compilers_words(served: Served) -> None:
    found = build(served, "broken")
    assert "BUILD_FAILED" in found["Failure"]
    assert "Hello.java" in found["Failure"]


def test_worker_asks_another_workers_pipeline_and_gets_what_it_would_build(served: Served) -> None:
    folder = served.folder / "asking"
    folder.mkdir()
    with served.site.worker(folder, "--private-external-pipeline", served.url) as worker:
        asked = {"source": served.site.address("hello"), "tag": TAG}
        own = run_trial(worker, "own", "hello", **asked)
        first = run_trial(worker, "first", "hello", pipeline="external", **asked)
        assert isinstance(own, BuildResult), own
        assert isinstance(first, BuildResult), first
        request = RebuildParams(
            "second", first.purl, first.source, first.lock, first.recipe, first.toolchain, SECONDS
        )
        second = run_rebuild(worker, request)
    assert isinstance(second, BuildResult), second
    claims = [{f.name: f.sha256 for f in own.files if f.claim == "rebuilt"}]
    claims += [
        {f.name: f.sha256 for f in each.files if f.claim == "external"} for each in (first, second)
    ]
    assert claims[0].keys() == {"hello-1.0.jar", "hello-1.0.pom"}
    assert claims[0] == claims[1] == claims[2]
    assert first.metadata == second.metadata == own.metadata
