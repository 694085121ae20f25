"""What Maven chooses by looking around resolves in a replay to what was recorded: ranges, prefixes.

Each test runs a real Maven twice.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.spec.messages import BuildResult
from buildpipelines.survey import replay_of
from tests.fakes.maven_site import TAG, MavenSite, maven_site, project, run_rebuild, run_trial
from tests.hostile.worker import Worker

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

LIBRARY = "org/lib/part"
RANGE = """  <dependencies><dependency>
    <groupId>org.lib</groupId><artifactId>part</artifactId><version>[1.0,2.0)</version>
  </dependency></dependencies>
"""


@pytest.fixture(scope="module")
def site() -> Iterator[MavenSite]:
    with TemporaryDirectory() as name, maven_site(Path(name)) as site:
        yield site


@pytest.fixture(scope="module")
def worker(site: MavenSite) -> Iterator[Worker]:
    with TemporaryDirectory() as name, site.worker(Path(name)) as worker:
        yield worker


def publish(site: MavenSite, *versions: str) -> None:
    """Let the upstream have a library in these versions and no others."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("part.txt", "part")
    listed = "".join(f"<version>{each}</version>" for each in versions)
    site.repository.extra[f"{LIBRARY}/maven-metadata.xml"] = (
        "<metadata><groupId>org.lib</groupId><artifactId>part</artifactId><versioning>"
        f"<versions>{listed}</versions></versioning></metadata>"
    ).encode()
    for each in versions:
        pom = (
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.lib</groupId>"
            f"<artifactId>part</artifactId><version>{each}</version></project>"
        )
        site.repository.extra[f"{LIBRARY}/{each}/part-{each}.pom"] = pom.encode()
        site.repository.extra[f"{LIBRARY}/{each}/part-{each}.jar"] = out.getvalue()


def jars_of(result: BuildResult, project_: str) -> list[str]:
    return [
        f.file for f in result.lock.files if f.project.startswith(project_) and ".jar" in f.file
    ]


def digests(result: BuildResult) -> dict[str, str]:
    return {f.name: f.sha256 for f in result.files}


def test_range_resolves_to_what_was_recorded_whatever_appears_later(
    site: MavenSite, worker: Worker
) -> None:
    publish(site, "1.9", "1.10", "2.0")
    address = site.add("ranged", project("ranged", more=RANGE))
    recorded = run_trial(worker, "range-recorded", "ranged", source=address, tag=TAG)
    assert isinstance(recorded, BuildResult), recorded
    assert jars_of(recorded, LIBRARY) == ["part-1.10.jar"]
    publish(site, "1.9", "1.10", "1.11", "2.0")
    replayed = run_rebuild(worker, replay_of(recorded, "range-replayed", 180))
    assert isinstance(replayed, BuildResult), replayed
    assert digests(replayed) == digests(recorded)
    again = run_trial(worker, "range-again", "ranged", source=address, tag=TAG)
    assert isinstance(again, BuildResult), again
    assert jars_of(again, LIBRARY) == ["part-1.11.jar"]


def test_plugin_that_is_called_by_its_prefix_is_found_in_a_replay(
    site: MavenSite, worker: Worker
) -> None:
    address = site.add("prefixed", project("prefixed"))
    goals = ("install", "antrun:help")
    recorded = run_trial(
        worker, "prefix-recorded", "prefixed", source=address, tag=TAG, goals=goals
    )
    assert isinstance(recorded, BuildResult), recorded
    assert jars_of(recorded, "org/apache/maven/plugins/maven-antrun-plugin")
    replayed = run_rebuild(worker, replay_of(recorded, "prefix-replayed", 180))
    assert isinstance(replayed, BuildResult), replayed
    assert digests(replayed) == digests(recorded)
