"""What the shell asks of two workers, and how it shows what they made."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.maven_survey import add_maven_options, artifact_order, read_options
from buildpipelines.recipes.maven import parse_options
from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, JobFailure, OutputFile, Source
from buildpipelines.spec.metadata import Metadata
from buildpipelines.two_nodes import HEADER, TwoNodes

JAR = OutputFile(
    name="a-1.jar",
    path="/a-1.jar",
    size=5,
    sha256="1" * 64,
    l1="2" * 64,
    l2="3" * 64,
    media="application/java-archive",
    claim="rebuilt",
    upstream_sha256="4" * 64,
    level=2,
    differences=("a|b",),
)
SOURCE = replace(JAR, name="source-1.tar", claim="mirrored", level=None, differences=())


def result(*files: OutputFile) -> BuildResult:
    return BuildResult(
        purl="pkg:maven/g/a@1",
        source=Source("tree", "source-1.tar", "5" * 64, 9),
        pipeline={},
        toolchain="6" * 64,
        lock=Lock(()),
        recipe={},
        metadata=Metadata("g:a", "1"),
        files=files,
        environment={},
        seconds=1.25,
        log_path="/log",
    )


def options(*words: str) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_maven_options(parser)
    return dict(read_options(parser.parse_args(["g:a:1", *words])))


def test_command_line_says_what_a_trial_may_be_told() -> None:
    given = options(
        *("--source", "git+https://git.example/a.git", "--tag", "v1", "--module", "core"),
        *("--jdk", "17", "--epoch", "1700000000", "--umask", "002", "--newline", "crlf"),
        *("--timezone", "Asia/Tokyo", "--locale", "de_DE.UTF-8", "--goal", "verify"),
        *("--goal", "install", "--profile", "release", "--property", "rat.skip=true"),
    )
    assert given["umask"] == 0o002
    assert given["goals"] == ("verify", "install")
    read = parse_options(given)  # type: ignore[arg-type]  # as the link carries it
    assert (read.module, read.jdk, read.profiles) == ("core", 17, ("release",))


def test_what_is_not_said_is_left_to_the_jar_and_the_defaults() -> None:
    assert options("--source", "https://x.example/a.tar.gz") == {
        "source": "https://x.example/a.tar.gz"
    }


def test_umask_that_is_not_octal_is_named() -> None:
    with pytest.raises(FormatError, match="--umask '9'"):
        options("--source", "https://x.example/a.tar.gz", "--umask", "9")


@pytest.mark.parametrize(
    ("other", "agreement"),
    [
        (JAR, "L0"),
        (replace(JAR, sha256="0" * 64), "L1"),
        (replace(JAR, sha256="0" * 64, l1="0" * 64), "L2"),
        (replace(JAR, sha256="0" * 64, l1="0" * 64, l2="0" * 64), "differs"),
        (replace(JAR, name="b-1.jar"), "differs"),
    ],
)
def test_table_tells_how_far_two_nodes_agree(other: OutputFile, agreement: str) -> None:
    lines = list(TwoNodes(result(SOURCE, JAR), result(other)).lines(artifact_order))
    assert "\n".join(lines[:2]).startswith(HEADER)
    assert f"| a-1.jar | 5 | rebuilt | L2 | {agreement} | a/b |" in lines
    assert lines[-1] == "trial 1.2 s, rebuild 1.2 s"
    assert lines[-2].startswith("| source-1.tar | 5 | mirrored | none |")


def test_failures_are_one_line() -> None:
    failure = JobFailure("REFUSED", "toolchain", "no JDK 8")
    assert list(TwoNodes(failure, None).lines(artifact_order)) == ["trial: REFUSED: toolchain"]
    lines = list(TwoNodes(result(JAR), failure).lines(artifact_order))
    assert lines[-1] == "rebuild: REFUSED: toolchain"
    assert "| - |" in lines[1]
