"""Real Maven with an empty local repository and a node as its only mirror."""

from __future__ import annotations

import asyncio
import dataclasses
import zipfile
from pathlib import Path

import pytest

from pyrsia_node.devnet.maven_repository import (
    MavenRepository,
    debian_repository,
    serve_repository,
)
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import MavenSection
from tests.fakes.maven_node import MavenNode, jar, maven_node, pom
from tests.fakes.maven_project import make_project, run_maven

TOOL = "org.example:tool:1.0"
DEPENDENCIES = ("commons-io:commons-io:2.11.0", TOOL)


def section_for(upstream: MavenRepository) -> MavenSection:
    central = MavenUpstream("central", upstream.url, allow_private=True)
    return MavenSection(policy="upstream", upstreams=(central,), reserved=("org.example",))


def accept_tool(it: MavenNode) -> None:
    files = ("tool-1.0.jar", jar()), ("tool-1.0.pom", pom("org.example", "tool", "1.0"))
    it.accept(TOOL, *files)


async def build(it: MavenNode, project: Path, local: Path, *, mirror_of: str = "*") -> None:
    url = f"{it.url}/maven2"
    done = await asyncio.to_thread(run_maven, project, url, local, "package", mirror_of=mirror_of)
    assert done.returncode == 0, done.stdout[-3000:]
    assert zipfile.is_zipfile(project / "target/sample-1.0.jar")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_maven_builds_through_a_node_from_the_log_and_an_upstream(tmp_path: Path) -> None:
    """With ``-C``: every checksum that Maven asks for must be there and fit."""

    async def run() -> None:
        with serve_repository(debian_repository()) as upstream:
            async with maven_node(tmp_path, section_for(upstream)) as it:
                accept_tool(it)
                project = make_project(tmp_path / "project", *DEPENDENCIES)
                await build(it, project, tmp_path / "m2")
                assert (tmp_path / "m2/org/example/tool/1.0/tool-1.0.jar").read_bytes() == jar()
                asked = upstream.paths()
                assert not [path for path in asked if path.startswith("org/example/")]
                assert len(asked) == len(set(asked)), "nothing is asked for twice"

    asyncio.run(run())


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_second_build_needs_no_upstream_and_central_alone_may_be_mirrored(tmp_path: Path) -> None:
    async def run() -> None:
        with serve_repository(debian_repository()) as upstream:
            async with maven_node(tmp_path, section_for(upstream)) as it:
                accept_tool(it)
                first = make_project(tmp_path / "first", *DEPENDENCIES)
                await build(it, first, tmp_path / "m2-first", mirror_of="central")
                upstream.stop()
                second = make_project(tmp_path / "second", *DEPENDENCIES)
                await build(it, second, tmp_path / "m2-second")

    asyncio.run(run())


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_wrong_bytes_stop_the_build_though_maven_would_go_on(tmp_path: Path) -> None:
    """Maven without ``-C`` only warns of a wrong checksum; the node gives it nothing to warn of."""

    async def run() -> None:
        repository = debian_repository()
        repository.extra["commons-io/commons-io/2.11.0/commons-io-2.11.0.jar"] = b"malice"
        for kind in ("sha256", "sha1", "md5"):
            path = f"commons-io/commons-io/2.11.0/commons-io-2.11.0.jar.{kind}"
            repository.extra[path] = b"0" * {"sha256": 64, "sha1": 40, "md5": 32}[kind]
        with serve_repository(repository) as upstream:
            section = dataclasses.replace(section_for(upstream), reserved=())
            async with maven_node(tmp_path, section) as it:
                project = make_project(tmp_path / "project", DEPENDENCIES[0])
                url = f"{it.url}/maven2"
                done = await asyncio.to_thread(
                    run_maven, project, url, tmp_path / "m2", "package", is_strict=False
                )
                assert done.returncode != 0
                assert "commons-io" in done.stdout

    asyncio.run(run())
