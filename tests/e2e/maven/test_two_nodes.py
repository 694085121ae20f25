"""commons-codec 1.15 in a network of one authorized and one regular node, ``min_authorized`` 1.

The story of the two nodes with images is ``tests/e2e/test_two_nodes.py``; this is the Maven one:
a wish without any authority, an authority that comes, a build, and the log shows the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.maven.projects import COMMONS_CODEC
from tests.e2e.maven.stage import Stage, files_of, running_stage

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.story,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("maven-two-nodes"),
]

GAV = COMMONS_CODEC.gav
JAR = "commons-codec/commons-codec/1.15/commons-codec-1.15.jar"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("two")
    with running_stage(
        folder, authorized=1, projects=[COMMONS_CODEC], first=["regular-1"]
    ) as running:
        yield running


def test_wish_without_any_authority_does_not_succeed(two: Stage) -> None:
    done = two.build("--gav", GAV, "--source", "git+https://git.example/codec.git@v1")
    assert done.code == 5
    assert "no authorized node is connected" in done.err


def test_artifact_is_unknown_before_anybody_said_where_it_comes_from(two: Stage) -> None:
    two.cluster.start("authorized-1")
    two.cluster.wait_ready("authorized-1")
    two.cluster.wait_connected()
    assert two.entries(GAV, "accepted") == []
    done = two.build("--gav", GAV)
    assert done.code != 0
    assert "pyrsia sources add" in done.out + done.err
    assert two.entries(GAV, "build_request") == []


def test_member_that_is_authorized_cannot_be_authorized_again(two: Stage) -> None:
    peer = two.cluster.nodes["authorized-1"].peer_id
    done = two.pyrsia("authorize", "--peer", peer, at="authorized-1")
    assert done.code == 2
    assert "already" in done.err


def test_build_is_accepted_logged_and_the_jar_becomes_retrievable(two: Stage) -> None:
    two.map_project(COMMONS_CODEC)
    done = two.build("--gav", GAV, "--no-wait")
    build_id = done.ok().out.split("b-")[1].split()[0]
    status = two.pyrsia("build", "status", "--id", f"b-{build_id}", "--wait")
    assert "accepted" in status.ok().out
    shown = two.pyrsia("inspect-log", "maven", "--gav", GAV).ok().out
    assert "commons-codec" in shown
    assert "1.15" in shown
    jar = files_of(two.accepted(GAV))["commons-codec-1.15.jar"]
    answer = two.get(JAR)
    assert (answer.status_code, len(answer.content)) == (200, jar["size"])
    assert (
        "<version>1.15</version>" in two.get("commons-codec/commons-codec/maven-metadata.xml").text
    )


@pytest.mark.parametrize(
    ("gav", "reason"),
    [
        ("org.example.nowhere:nothing:1.0", "pyrsia sources add"),
        ("org/example:tool:1.0", "with dots, not with slashes"),
        ("commons-codec:commons-codec", "names no version"),
        ("commons-codec:commons-codec:1.15-SNAPSHOT", "SNAPSHOT"),
    ],
)
def test_wish_for_what_is_no_artifact_is_refused_with_a_reason(
    two: Stage, gav: str, reason: str
) -> None:
    done = two.build("--gav", gav)
    assert done.code == 2, done
    assert reason in done.err
