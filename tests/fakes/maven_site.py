"""What a build worker for Maven needs around it: sources on a git server, Debian's repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    RebuildParams,
    RecipeValue,
    TrialParams,
)
from pyrsia_node.devnet.git_server import GitServer, make_repository, serve_git
from pyrsia_node.devnet.maven_repository import (
    MavenRepository,
    debian_repository,
    serve_repository,
)
from tests.hostile.worker import Worker, running_worker

GROUP = "org.example"
FOLDER = "org/example"
TAG = "v1.0"

_POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>{artifact}</artifactId>
  <version>1.0</version>{packaging}
  <description>An example</description>
  <licenses><license><name>Apache-2.0</name></license></licenses>
  <properties>
    <maven.compiler.source>11</maven.compiler.source>
    <maven.compiler.target>11</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
{more}</project>
"""
_JAVA = """package org.example;

/** Greets. */
public final class Hello {
    private Hello() {
    }

    public static String greet(String name) {
        return "Hello, " + name;
    }
}
"""


def pom(artifact: str, *, packaging: str = "", more: str = "") -> bytes:
    """Return the pom of an example."""
    line = f"\n  <packaging>{packaging}</packaging>" if packaging else ""
    return _POM.format(artifact=artifact, packaging=line, more=more).encode()


def project(artifact: str, *, java: str = _JAVA, more: str = "") -> dict[str, bytes]:
    """Return the files of a project of one class and one text."""
    return {
        "pom.xml": pom(artifact, more=more),
        "src/main/java/org/example/Hello.java": java.encode(),
        "src/main/resources/greeting.txt": b"Hello\nthere\n",
    }


@dataclass
class MavenSite:
    """Where sources and artifacts come from."""

    sources: Path
    git: GitServer
    repository: MavenRepository

    def add(self, name: str, files: Mapping[str, bytes], tag: str = TAG) -> str:
        """Make a repository with one tagged commit; return its address."""
        make_repository(self.sources / f"{name}.git", files=files, tag=tag)
        return self.address(name)

    def address(self, name: str) -> str:
        """Return the address of a repository."""
        return f"git+{self.git.url}/{name}.git"

    def publish(self, artifact: str, name: str, data: bytes) -> None:
        """Let the upstream have a file of version 1.0."""
        self.repository.extra[f"{FOLDER}/{artifact}/1.0/{name}"] = data

    def options(self) -> list[str]:
        """Return the options of a worker that may go to all this."""
        return [
            *("--private-maven-repository", f"central={self.repository.url}"),
            *("--private-source", self.git.host),
        ]

    @contextmanager
    def worker(self, folder: Path, *options: str) -> Iterator[Worker]:
        """Run a worker."""
        variables = {"SSL_CERT_FILE": str(self.git.ca_file)}
        nowhere = "http://127.0.0.1:9/simple/"
        with running_worker(
            folder, nowhere, *self.options(), *options, variables=variables
        ) as worker:
            yield worker


@contextmanager
def maven_site(folder: Path) -> Iterator[MavenSite]:
    """Run both servers."""
    sources = folder / "sources"
    sources.mkdir()
    with (
        serve_git(sources, work=folder) as git,
        serve_repository(debian_repository()) as repository,
    ):
        yield MavenSite(sources, git, repository)


def run_trial(
    worker: Worker, job: str, artifact: str, **options: RecipeValue
) -> BuildResult | JobFailure:
    """Try version 1.0 of an artifact to the end."""
    params = TrialParams(job, "maven", f"{GROUP}:{artifact}", "1.0", 180, options)
    worker.call("trial", params.document())
    return _result(worker, job)


def run_rebuild(worker: Worker, params: RebuildParams) -> BuildResult | JobFailure:
    """Replay a result to the end."""
    worker.call("rebuild", params.document())
    return _result(worker, params.job)


def _result(worker: Worker, job: str) -> BuildResult | JobFailure:
    status = worker.follow(job, seconds=180)
    assert status.result is not None
    return status.result
