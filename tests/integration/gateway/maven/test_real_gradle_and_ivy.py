"""Gradle and Ivy through a node: a version range from the log, a library from an upstream."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrsia_node.devnet.maven_repository import debian_repository, serve_repository
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import MavenSection
from tests.fakes.maven_node import jar, maven_node, pom

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(400)]

IVY = Path("/usr/share/java/ivy.jar")
GRADLE = """apply plugin: 'java'
repositories {{ maven {{ url '{url}' }} }}
dependencies {{
    compile 'commons-io:commons-io:2.11.0'
    compile 'org.example:tool:1.+'
}}
task libraries {{ doLast {{ configurations.compile.files.each {{ println it.name }} }} }}
"""
IVY_OPTIONS = (
    *("-settings", "settings.xml"),
    *("-ivy", "ivy.xml"),
    *("-retrieve", "lib/[artifact]-[revision].[ext]"),
)
IVY_SETTINGS = """<ivysettings>
  <settings defaultResolver="node"/>
  <caches defaultCacheDir="{cache}"/>
  <resolvers>
    <ibiblio name="node" m2compatible="true" root="{url}/" checksums="sha1,md5"/>
  </resolvers>
</ivysettings>
"""
IVY_FILE = """<ivy-module version="2.0">
  <info organisation="org.example" module="sample"/>
  <dependencies>
    <dependency org="commons-io" name="commons-io" rev="2.11.0" conf="default->master"/>
    <dependency org="org.example" name="tool" rev="[1.0,2.0)" conf="default->master"/>
  </dependencies>
</ivy-module>
"""


def in_a_node(folder: Path, act: Callable[[str], None]) -> None:
    """Run ``act`` in a thread, with the repository of a node over Debian's."""

    async def run() -> None:
        central = MavenUpstream("central", upstream.url, allow_private=True)
        section = MavenSection(upstreams=(central,), policy="upstream", reserved=("org.example",))
        async with maven_node(folder, section) as it:
            it.accept(
                "org.example:tool:1.5",
                ("tool-1.5.jar", jar()),
                ("tool-1.5.pom", pom("org.example", "tool", "1.5")),
            )
            await asyncio.to_thread(act, f"{it.url}/maven2")

    with serve_repository(debian_repository()) as upstream:
        asyncio.run(run())
    assert not [path for path in upstream.paths() if path.startswith("org/example/")]


def test_gradle_builds_with_a_node_as_its_repository(tmp_path: Path) -> None:
    def act(url: str) -> None:
        project = tmp_path / "project"
        (project / "src/main/java").mkdir(parents=True)
        (project / "src/main/java/A.java").write_text(
            "public class A { org.apache.commons.io.IOUtils used; }"
        )
        (project / "build.gradle").write_text(GRADLE.format(url=url))
        home = ["-g", str(tmp_path / "gradle"), f"-Dmaven.repo.local={tmp_path / 'm2'}"]
        done = subprocess.run(
            ["gradle", "--no-daemon", *home, "build", "libraries"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert {"commons-io-2.11.0.jar", "tool-1.5.jar"} <= set(done.stdout.split())

    in_a_node(tmp_path, act)


def test_ivy_retrieves_through_a_node_with_every_checksum(tmp_path: Path) -> None:
    def act(url: str) -> None:
        (tmp_path / "settings.xml").write_text(
            IVY_SETTINGS.format(url=url, cache=tmp_path / "cache")
        )
        (tmp_path / "ivy.xml").write_text(IVY_FILE)
        done = subprocess.run(
            ["java", "-jar", str(IVY), *IVY_OPTIONS],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "lib/tool-1.5.jar").read_bytes() == jar()
        assert (tmp_path / "lib/commons-io-2.11.0.jar").is_file()

    in_a_node(tmp_path, act)
