"""Real projects rebuilt from their sources by four authorized nodes, and used through a fifth.

The sources are Debian's ``.orig`` archives, unchanged, in git repositories behind https; the
upstream is a repository over Debian's own. Two of the projects have a published jar to be compared
with; what differs is told entry by entry. The table of it is in ``docs/rebuilds.md``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from pyrsia_node.devnet.git_server import make_repository
from pyrsia_node.devnet.maven_project import default_jdk, write_files
from tests.e2e.maven.projects import (
    COMMONS_CLI,
    COMMONS_CODEC,
    COMMONS_COMPRESS,
    COMMONS_IO,
    COMMONS_LANG3,
    Project,
)
from tests.e2e.maven.stage import Stage, files_of, running_stage
from tests.fakes.debian_maven import Gav, empty_jar

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.story,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("maven-projects"),
]

MAPPED: Final = (COMMONS_CODEC, COMMONS_CLI, COMMONS_IO)
COMPARED: Final = (COMMONS_LANG3, COMMONS_COMPRESS)
CLASSES: Final = {COMMONS_LANG3.gav: 395, COMMONS_COMPRESS.gav: 572}
MANIFEST: Final = "META-INF/MANIFEST.MF"
MODULE_INFO: Final = "META-INF/versions/9/module-info.class"

SAMPLE: Final = {
    "pom.xml": (
        "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>"
        "<artifactId>sample</artifactId><version>1.0</version><properties>"
        "<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>"
        "<maven.compiler.source>11</maven.compiler.source>"
        "<maven.compiler.target>11</maven.compiler.target></properties><dependencies>"
        + "".join(
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
            "</dependency>".format(*each.gav.split(":"))
            for each in MAPPED
        )
        + "</dependencies></project>"
    ).encode(),
    "src/main/java/Sample.java": b"""
import org.apache.commons.cli.Options;
import org.apache.commons.codec.digest.DigestUtils;
import org.apache.commons.io.FilenameUtils;

public class Sample {
    public static void main(String[] args) {
        Options options = new Options().addOption("v", "verbose", false, "says more");
        System.out.println(DigestUtils.sha256Hex("rebuilt"));
        System.out.println(FilenameUtils.getExtension("library.jar"));
        System.out.println(options.getOption("v").getDescription());
    }
}
""",
}
SAID: Final = [
    "9ae832844d70dd5a06b8c70f3f4f68bbe1c907b116d378c9654b217d4a7b6b4c",
    "jar",
    "says more",
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("maven")
    with running_stage(folder, authorized=4, projects=(*MAPPED, *COMPARED)) as running:
        yield running


@pytest.mark.parametrize("project", MAPPED, ids=lambda each: each.artifact)
def test_project_that_is_mapped_is_rebuilt_by_a_quorum_and_served_by_the_regular_node(
    stage: Stage, project: Project
) -> None:
    stage.map_project(project)
    stage.build("--gav", project.gav).ok()
    entry = stage.accepted(project.gav)
    assert len(entry["leaf"]["attestors"]) >= 3
    assert entry["leaf"]["doc"]["contradicts"] == []
    files = files_of(entry)
    stem = f"{project.artifact}-{project.source.version}"
    assert {f"{stem}.jar", f"{stem}.pom"} <= files.keys()
    assert {files[f"{stem}.jar"]["claim"], files[f"{stem}.pom"]["claim"]} == {"rebuilt"}
    [source] = (each for name, each in files.items() if name.startswith("source-"))
    assert source["claim"] == "mirrored"
    answer = stage.get(Gav.of(project.gav).file("jar"))
    assert answer.status_code == 200
    assert len(answer.content) == files[f"{stem}.jar"]["size"]


@pytest.mark.parametrize("project", COMPARED, ids=lambda each: each.artifact)
def test_every_class_equals_the_published_jar_and_what_is_left_is_named(
    stage: Stage, project: Project
) -> None:
    stage.map_project(project)
    stage.build("--gav", project.gav).ok()
    entry = stage.accepted(project.gav)
    for jar in explained_jars(stage, project):
        assert jar["classes"] == {
            "equal": CLASSES[project.gav],
            "differ": 0,
            "built_only": 0,
            "published_only": 1,  # the module descriptor
        }
        # What diffoscope is quoted with stands beside our own words.
        own = [d for d in jar["differences"] if not d["attribute"].startswith("diffoscope ")]
        left = {(each["path"], each["attribute"]) for each in own if each["level"] == 3}
        # A plugin that Debian does not have adds them; nothing else is left.
        assert left == {(MODULE_INFO, "presence"), (MANIFEST, "Multi-Release")}
        assert all(each["rule"] for each in jar["differences"] if each["level"] < 3)
        assert jar["more"] == 0
    contradicted = {each["name"] for each in entry["leaf"]["doc"]["contradicts"]}
    assert contradicted == {project.published}
    assert stage.get(Gav.of(project.gav).file("jar")).status_code in {403, 404}, (
        "what contradicts is not served"
    )


def test_jar_whose_manifest_names_a_missing_jdk_is_refused_and_nothing_is_logged(
    stage: Stage,
) -> None:
    gav = "org.example.future:tool:1.0"
    pom = b"<project><modelVersion>4.0.0</modelVersion><groupId>org.example.future</groupId>"
    pom += b"<artifactId>tool</artifactId><version>1.0</version></project>"
    make_repository(stage.git.folder / "future.git", files={"pom.xml": pom}, tag="v1.0")
    stage.overlay.jar(gav, empty_jar("Build-Jdk-Spec: 99"), pom=pom)
    repository = f"git+{stage.git.url}/future.git"
    stage.map_source("pkg:maven/org.example.future/tool", repository, "v{version}")
    done = stage.build("--gav", gav)
    assert done.code == 1
    assert "toolchain" in done.out + done.err
    assert stage.entries(gav, "accepted") == []
    # What the upstream publishes is served as the upstream's, and nothing else is there.
    served = stage.get("org/example/future/tool/1.0/tool-1.0.jar")
    assert served.headers["x-pyrsia-verified"].startswith("upstream")


def test_sample_is_built_from_rebuilt_libraries_while_upstream_and_sources_are_down(
    stage: Stage,
) -> None:
    # The plugins are nobody's rebuilds: the node fetches them once, checked, and keeps them.
    sample = write_files(stage.home / "sample", SAMPLE)
    stage.mvn("first-home", sample, "clean", "package")[1].ok()
    stage.switch_off()
    client, done = stage.mvn("second-home", sample, "clean", "package")
    done.ok()
    classpath = [sample / "target" / "sample-1.0.jar", *client.repository.rglob("commons-*.jar")]
    java = default_jdk() / "bin" / "java"
    joined = ":".join(map(str, classpath))
    said = subprocess.run(
        [java, "-cp", joined, "Sample"], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == SAID


def explained_jars(stage: Stage, project: Project) -> list[dict[str, Any]]:
    """Return what each different explanation says of the published jar; together a quorum's."""
    explanations = stage.explained(project.purl)["explanations"]
    assert sum(len(each["by"]) for each in explanations) >= 3
    files = [file for each in explanations for file in each["document"]["files"]]
    found = [each for each in files if each["name"] == project.published]
    assert len(found) == len(explanations)
    return found
