"""Maven builds that fail, call out, or are compared with what is published; each runs a real Maven.

The last test is the experiment behind docs/rebuilds.md: one project in four sandboxes on hosts
that differ in everything which a build must not see.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import io
import os
import platform
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.inputs.maven_upstream import parse_maven_repository
from buildpipelines.inputs.pipconf import index_settings
from buildpipelines.sandbox.limits import SandboxLimits
from buildpipelines.sandbox.maven_toolchain import PROGRAMS
from buildpipelines.spec.explanation import parse_explanation
from buildpipelines.spec.messages import BuildResult, JobFailure, RebuildParams
from buildpipelines.survey import replay_of
from buildpipelines.worker.service import Options, Service, running
from tests.fakes.maven_site import (
    TAG,
    MavenSite,
    maven_site,
    pom,
    project,
    run_rebuild,
    run_trial,
)
from tests.hostile.worker import Worker

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

FAKETIME = Path("/usr/lib", f"{platform.machine()}-linux-gnu", "faketime/libfaketimeMT.so.1")
ANTRUN = """  <build><plugins><plugin>
    <artifactId>maven-antrun-plugin</artifactId>
    <executions><execution>
      <phase>generate-resources</phase><goals><goal>run</goal></goals>
      <configuration><target>{task}</target></configuration>
    </execution></executions>
  </plugin></plugins></build>
"""
ATTACHED = """  <build><plugins>
    <plugin><artifactId>maven-source-plugin</artifactId><executions><execution>
      <goals><goal>jar-no-fork</goal></goals>
    </execution></executions></plugin>
    <plugin><artifactId>maven-javadoc-plugin</artifactId><executions><execution>
      <goals><goal>jar</goal></goals>
    </execution></executions></plugin>
  </plugins></build>
"""
"""Sources and documentation beside the jar, as most projects publish them."""


@pytest.fixture(scope="module")
def site() -> Iterator[MavenSite]:
    with TemporaryDirectory() as name, maven_site(Path(name)) as site:
        yield site


@pytest.fixture(scope="module")
def worker(site: MavenSite) -> Iterator[Worker]:
    with TemporaryDirectory() as name, site.worker(Path(name)) as worker:
        yield worker


def built(result: BuildResult | JobFailure) -> BuildResult:
    assert isinstance(result, BuildResult), result
    return result


def failed(result: BuildResult | JobFailure) -> JobFailure:
    assert isinstance(result, JobFailure), result
    return result


def handed_on(worker: Worker, job: str) -> list[str]:
    """Return what lies where a node takes a job's files from."""
    root = worker.work / "jobs" / job
    assert (root / "log.txt").stat().st_size > 0, "the job's folder is looked at elsewhere"
    folders = (root / "out", root / "upstream")
    return [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]


def content(result: BuildResult, name: str) -> bytes:
    return Path(next(f.path for f in result.files if f.name == name)).read_bytes()


def test_source_that_does_not_compile_is_told_in_the_compilers_words(
    site: MavenSite, worker: Worker
) -> None:
    address = site.add("broken", project("broken", java="package org.example; class Hello { x }"))
    failure = failed(run_trial(worker, "broken", "broken", source=address, tag=TAG))
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", "build: compiler")
    assert "Hello.java:[1," in failure.detail
    assert "\x1b" not in failure.detail
    assert handed_on(worker, "broken") == [], "nothing is stored"


def test_build_that_phones_home_is_stopped_and_the_host_is_named(
    site: MavenSite, worker: Worker
) -> None:
    task = '<get src="https://collector.example/seen" dest="${project.build.directory}/x"/>'
    files = project("caller", more=ANTRUN.format(task=task))
    address = site.add("caller", files)
    failure = failed(run_trial(worker, "caller", "caller", source=address, tag=TAG))
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", "network: collector.example")
    assert handed_on(worker, "caller") == [], "nothing is stored"


def test_dependency_that_nobody_has_is_named(site: MavenSite, worker: Worker) -> None:
    more = """  <dependencies><dependency>
    <groupId>org.nowhere</groupId><artifactId>absent</artifactId><version>9</version>
  </dependency></dependencies>
"""
    address = site.add("lonely", project("lonely", more=more))
    failure = failed(run_trial(worker, "lonely", "lonely", source=address, tag=TAG))
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", "build: dependencies")
    assert "org.nowhere:absent" in failure.detail


def test_build_cannot_hand_on_the_published_file_as_its_own(
    site: MavenSite, worker: Worker
) -> None:
    site.publish("copied", "copied-1.0.jar", b"what is published")
    path = "maven2/org/example/copied/1.0/copied-1.0.jar"
    task = f'<get src="http://127.0.0.1:8080/{path}" dest="/build/copied.jar"/>'
    address = site.add("copied", project("copied", more=ANTRUN.format(task=task)))
    failure = failed(run_trial(worker, "copied", "copied", source=address, tag=TAG))
    assert failure.cause == "build: goal failed"


def test_pom_of_another_version_makes_no_artifact(site: MavenSite, worker: Worker) -> None:
    address = site.add("named", project("otherwise"))
    failure = failed(run_trial(worker, "named", "named", source=address, tag=TAG))
    assert (failure.outcome, failure.cause) == ("BUILD_FAILED", "no artifact")
    assert "org/example/otherwise" in failure.detail


def test_module_of_a_larger_tree_is_built_with_its_siblings(
    site: MavenSite, worker: Worker
) -> None:
    parent = """  <parent><groupId>org.example</groupId><artifactId>family</artifactId>
    <version>1.0</version></parent>
"""
    needs = """  <dependencies><dependency><groupId>org.example</groupId>
    <artifactId>elder</artifactId><version>1.0</version></dependency></dependencies>
"""
    modules = "  <modules><module>elder</module><module>young</module></modules>\n"
    modules += "  <scm><url>https://git.example/family</url></scm>\n"
    files = {"pom.xml": pom("family", packaging="pom", more=modules)}
    for name, more in (("elder", parent), ("young", parent + needs)):
        files |= {f"{name}/{path}": data for path, data in project(name, more=more).items()}
    address = site.add("family", files)
    result = built(run_trial(worker, "young", "young", source=address, tag=TAG, module="young"))
    assert [f.name for f in result.files if f.claim == "rebuilt"] == [
        "young-1.0.jar",
        "young-1.0.pom",
    ]
    assert "pkg:maven/org.example/elder@1.0 compile" in result.metadata.requires
    assert result.metadata.repository == "https://git.example/family"
    again = built(run_rebuild(worker, replay_of(result, "young-again", 100)))
    assert (again.metadata, again.files[0].sha256) == (result.metadata, result.files[0].sha256)


def test_spoilt_rebuild_differs_at_every_level(site: MavenSite, worker: Worker) -> None:
    address = site.add("tampered", project("tampered"))
    true = built(run_trial(worker, "tampered", "tampered", source=address, tag=TAG))
    params = dataclasses.replace(replay_of(true, "spoilt", 100), tamper="by a test")
    spoilt = built(run_rebuild(worker, params))
    for one, other in zip(true.files, spoilt.files, strict=True):
        is_jar = one.name.endswith(".jar")
        pairs = ((one.sha256, other.sha256), (one.l1, other.l1), (one.l2, other.l2))
        assert all((left != right) is is_jar for left, right in pairs)


def test_build_is_compared_with_what_is_published_and_differences_are_told(
    site: MavenSite, worker: Worker
) -> None:
    address = site.add("judged", project("judged"))
    first = built(run_trial(worker, "judged-first", "judged", source=address, tag=TAG))
    jar = content(first, "judged-1.0.jar")
    spoilt = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(jar)) as archive,
        zipfile.ZipFile(spoilt, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for info in archive.infolist():
            data = archive.read(info)
            is_text = info.filename == "greeting.txt"
            other.writestr(info, data.replace(b"there", b"world") if is_text else data)
    for published, level in ((jar, 0), (spoilt.getvalue(), 3)):
        site.publish("judged", "judged-1.0.jar", published)
        site.publish("judged", "judged-1.0.pom", content(first, "judged-1.0.pom"))
        with TemporaryDirectory() as name, site.worker(Path(name)) as fresh:
            result = built(run_trial(fresh, "judged", "judged", source=address, tag=TAG))
            found = {f.name: f for f in result.files}
            assert found["judged-1.0.jar"].level == level
            assert found["judged-1.0.pom"].level == 0
            assert result.recipe["reference"] == "judged-1.0.jar"
            explanation = parse_explanation(Path(result.explanation_path).read_bytes())
            again = built(run_rebuild(fresh, replay_of(result, "judged-again", 100)))
            assert [f.sha256 for f in again.files] == [f.sha256 for f in result.files]
            texts = [(d.path, d.level) for d in explanation.files[0].differences]
            assert (("greeting.txt", 3) in texts) is (level == 3)


def test_time_of_the_run_that_projects_ask_maven_for_is_the_recipes(
    site: MavenSite, worker: Worker
) -> None:
    more = """  <build><plugins><plugin><artifactId>maven-jar-plugin</artifactId><configuration>
    <archive><manifestEntries>
      <Implementation-Build>${maven.build.timestamp}</Implementation-Build>
    </manifestEntries></archive>
  </configuration></plugin></plugins></build>
"""
    address = site.add("stamped", project("stamped", more=more))
    one = built(run_trial(worker, "stamped", "stamped", source=address, tag=TAG))
    other = built(run_rebuild(worker, replay_of(one, "stamped-again", 100)))
    jar = content(one, "stamped-1.0.jar")
    assert content(other, "stamped-1.0.jar") == jar
    with zipfile.ZipFile(io.BytesIO(jar)) as archive:
        assert b"Implementation-Build: 2024-01-02T03:04:05Z" in archive.read("META-INF/MANIFEST.MF")


def test_build_sees_one_jdk_one_maven_and_the_listed_programs(
    site: MavenSite, worker: Worker
) -> None:
    looks = ("/usr/bin", "/usr/lib/jvm", "/usr/share/maven", "/usr/share/java", "/etc")
    target = "/build/src/target/classes"
    script = "; ".join(
        f"ls {folder} > {target}/classes{folder.replace('/', '-')}" for folder in looks
    )
    arguments = f'<arg value="-c"/><arg value="mkdir -p {target}; cd {target}; {script}; env"/>'
    task = f'<exec executable="sh" failonerror="true">{arguments}</exec>'
    address = site.add("curious", project("curious", more=ANTRUN.format(task=task)))
    result = built(run_trial(worker, "curious", "curious", source=address, tag=TAG))
    seen: dict[str, set[str]] = {}
    with zipfile.ZipFile(io.BytesIO(content(result, "curious-1.0.jar"))) as archive:
        for name in archive.namelist():
            if name.startswith("classes-"):
                seen[name] = set(archive.read(name).decode().split())
    assert seen["classes-usr-bin"] == set(PROGRAMS)
    assert seen["classes-usr-lib-jvm"] == {"jdk"}
    assert seen["classes-usr-share-maven"] == {"boot", "lib"}
    assert seen["classes-usr-share-java"] == set()
    assert {name for name in seen["classes-etc"] if not name.startswith("java-")} == {
        "group",
        "hosts",
        "passwd",
    }
    log = Path(result.log_path).read_text()
    assert "SSL_CERT_FILE" not in log
    assert "HOME=/build/home" in log


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """A machine that differs: what its operator, its clock and its hardware are like."""

    umask: int
    variables: dict[str, str]
    uid: int
    folder: str
    cores: int
    clock: str
    day: str
    """Today as a build there reads it from the clock; "" where that is the true one."""


HOSTS = (
    Host(0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "USER": "ann"}, 64990, "a", 2, "", ""),
    Host(
        0o077,
        {"TZ": "Pacific/Chatham", "LC_ALL": "tr_TR.UTF-8", "USER": "bob"},
        64991,
        "a longer/folder-ü",
        1,
        "2031-05-05 05:05:05",
        "2031-05-05",
    ),
    Host(
        0o002,
        {"TZ": "America/St_Johns", "LANG": "ja_JP.eucJP"},
        64992,
        "c",
        1,
        "+400d",
        (dt.datetime.now(dt.UTC) + dt.timedelta(days=400)).date().isoformat()[:7],
    ),
    Host(
        0o027,
        {"TZ": ":/nowhere", "LC_ALL": "POSIX"},
        64993,
        "d/d/d/d",
        2,
        "2024-02-29 23:59:57",
        "2024-02-29",
    ),
)


@contextlib.contextmanager
def living_on(host: Host) -> Iterator[None]:
    """Make this process, and what it starts, look as on that host."""
    cores, umask, environment = os.sched_getaffinity(0), os.umask(host.umask), dict(os.environ)
    os.sched_setaffinity(0, sorted(cores)[: host.cores])
    os.environ.update(host.variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        os.umask(umask)
        os.sched_setaffinity(0, cores)


async def rebuild_on(host: Host, site: MavenSite, work: Path, params: RebuildParams) -> BuildResult:
    assert (os.umask(host.umask), os.environ["TZ"]) == (host.umask, host.variables["TZ"])
    assert len(os.sched_getaffinity(0)) <= host.cores
    options = Options(
        work=work,
        index=index_settings(index_url="http://127.0.0.1:9/simple/"),
        limits=SandboxLimits(),
        uid=host.uid,
        maven_repositories=(
            parse_maven_repository(f"central={site.repository.url}", is_private=True),
        ),
        private_sources=(site.git.host,),
        certificates=site.git.ca_file,
    )
    async with running(options) as service:
        if host.clock:
            set_clock_of_builds(service, host.clock)
        service.rebuild(params)
        while (status := service.jobs.status(params.job)).state in ("queued", "running"):
            await asyncio.sleep(0.1)
    assert isinstance(status.result, BuildResult), status
    return status.result


def set_clock_of_builds(service: Service, clock: str) -> None:
    """Let builds read another time: there is no namespace of the clock, so by a library."""
    assert FAKETIME.is_file(), f"{FAKETIME} is missing; apt-get install faketime"
    variation = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": clock,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # The fix is for an older C library; with this one every timed wait would end at once.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
    tools = service._machine.maven
    assert tools is not None
    tools.variation = variation


def test_four_hosts_that_differ_in_everything_build_the_same_bytes(
    site: MavenSite, worker: Worker
) -> None:
    files = project("steady", more=ATTACHED)
    files["src/main/resources/script.sh"] = b"#!/bin/sh\necho hello\n"
    address = site.add("steady", files)
    recorded = built(run_trial(worker, "steady", "steady", source=address, tag=TAG))
    assert [f.name for f in recorded.files if f.claim == "rebuilt"] == [
        "steady-1.0-javadoc.jar",
        "steady-1.0-sources.jar",
        "steady-1.0.jar",
        "steady-1.0.pom",
    ]
    results: list[BuildResult] = []
    for number, host in enumerate(HOSTS):
        with TemporaryDirectory() as name:
            work = Path(name) / host.folder
            Path(name).chmod(0o755)
            work.mkdir(parents=True)
            params = replay_of(recorded, f"host-{number}", 150)
            with living_on(host):
                results.append(asyncio.run(rebuild_on(host, site, work, params)))
            log = Path(results[-1].log_path).read_text()
            assert f"Finished at: {host.day}" in log, "the build reads another clock"
    expected = [(f.name, f.sha256) for f in recorded.files]
    assert [[(f.name, f.sha256) for f in result.files] for result in results] == [expected] * 4
