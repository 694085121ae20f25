"""What a path of a Maven repository names, and what is no such path."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.maven import (
    MavenFile,
    MavenListing,
    MavenProject,
    SnapshotError,
    locate,
    without_checksum,
)


def found(path: str) -> MavenFile | MavenListing:
    return locate(path.split("/"))


def test_file_is_named_by_its_folder() -> None:
    file = found("org/apache/commons/commons-lang3/3.17.0/commons-lang3-3.17.0-sources.jar")
    assert file == MavenFile(
        MavenProject("org.apache.commons", "commons-lang3"),
        "3.17.0",
        "commons-lang3-3.17.0-sources.jar",
    )
    assert file.gav == "org.apache.commons:commons-lang3:3.17.0"
    assert file.project.name == "org.apache.commons/commons-lang3"


def test_metadata_is_an_artifacts_or_a_groups() -> None:
    path = "org/apache/maven/plugins/maven-metadata.xml"
    assert found(path) == MavenListing(
        "org.apache.maven.plugins", MavenProject("org.apache.maven", "plugins")
    )
    assert found(path).path == path
    assert found("junit/maven-metadata.xml") == MavenListing("junit", None)


@pytest.mark.parametrize(
    "path",
    ["a/b/1.0-SNAPSHOT/b-1.0-20240101.1-1.jar", "a/b/1.0-SNAPSHOT/maven-metadata.xml"],
)
def test_snapshots_are_refused_as_such(path: str) -> None:
    with pytest.raises(SnapshotError, match=r"1\.0-SNAPSHOT is a snapshot"):
        found(path)


def test_group_with_dots_in_a_path_is_told_to_use_slashes() -> None:
    with pytest.raises(InvalidInputError, match="write a group's dots as slashes"):
        found("org.apache/commons/commons-io/2.0/commons-io-2.0.jar")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "junit",
        "junit/junit",
        "junit/junit/4.13",
        "junit/junit/junit-4.13.jar",
        "junit/../junit/4.13/junit-4.13.jar",
        "junit/junit/../junit-4.13.jar",
        "junit/junit/4.13/..",
        "junit/junit/4.13/",
        "junit//4.13/junit-4.13.jar",
        "junit/junit/4.13/.hidden",
        "junit/junit/4.13/a..b",
        "junit/junit/4.13/a b",
        "junit/junit/4 13/junit-4.13.jar",
        "-x/junit/4.13/junit-4.13.jar",
        f"junit/junit/4.13/{'x' * 256}",
        f"{'g/' * 80}junit/4.13/junit-4.13.jar",
    ],
)
def test_what_is_no_path_of_a_repository_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError):
        found(path)


def test_ordinary_names_begin_with_artifact_and_version() -> None:
    project = MavenProject("g", "a")
    assert MavenFile(project, "1.0", "a-1.0.jar").is_ordinary
    assert MavenFile(project, "1.0", "a-1.0-sources.jar").is_ordinary
    assert not MavenFile(project, "1.0", "a-1.0").is_ordinary
    assert not MavenFile(project, "1.0", "a-1.01.jar").is_ordinary
    assert not MavenFile(project, "1.0", "source-0123.tar").is_ordinary


def test_checksum_is_an_extension_behind_a_name() -> None:
    assert without_checksum("a-1.jar.sha1") == ("a-1.jar", "sha1")
    assert without_checksum("a-1.jar") == ("a-1.jar", "")
    assert without_checksum(".md5") == (".md5", "")
