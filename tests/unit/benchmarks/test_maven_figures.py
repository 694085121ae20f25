"""What the Maven benchmark makes of its rounds, and of the tree that is resolved."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.macro.bench_maven import (
    COLD_MAX,
    WARM_MAX,
    Round,
    is_met,
    make_artifacts,
    pom,
    ratio,
    summary,
)


def test_ratio_is_the_median_of_rounds_and_not_the_ratio_of_medians() -> None:
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {"median": 2.0, "least": 1.0, "most": 3.0}


@pytest.mark.parametrize(
    ("warm", "cold", "met"),
    [
        (WARM_MAX, COLD_MAX, True),
        (WARM_MAX + 0.01, COLD_MAX, False),
        (WARM_MAX, COLD_MAX + 0.01, False),
    ],
)
def test_both_targets_must_be_met(warm: float, cold: float, *, met: bool) -> None:
    assert is_met({"warm": {"median": warm}, "cold": {"median": cold}}) is met


def test_summary_holds_each_round_and_the_bytes_that_were_asked_for() -> None:
    artifacts = make_artifacts(6)
    rounds = [Round(10.0, 12.0, 9.0, 0.1, 0.4, 0.2), Round(10.0, 14.0, 11.0, 0.1, 0.4, 0.2)]
    told = summary(rounds, artifacts, 2.0)
    assert told["cold"] == {"median": 1.3, "least": 1.2, "most": 1.4}
    assert told["warm"]["median"] == 1.0
    assert told["files"] == 24
    assert told["bytes"] == sum(len(d) for each in artifacts for d in each.files.values())
    assert len(told["rounds"]) == 2


def test_every_artifact_is_needed_by_exactly_one_other_and_the_first_by_the_project() -> None:
    artifacts = make_artifacts(30)
    needed = []
    for each in artifacts:
        [name] = (name for name in each.files if name.endswith(".pom"))
        root = ET.fromstring(each.files[name])  # noqa: S314 - our own
        needed += [dep.findtext("artifactId") for dep in root.iter("dependency")]
    assert sorted(map(str, needed)) == [each.gav.artifact for each in artifacts[1:]]
    assert pom(artifacts[0].gav, []).count(b"<dependency>") == 0


def test_the_same_tree_comes_again() -> None:
    assert make_artifacts(3) == make_artifacts(3)
