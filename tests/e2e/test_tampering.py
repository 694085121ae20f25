"""Members that lie about their build: one is outvoted and named, two stop the entry and are named.

The lie is a fault switch that only development networks have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.walking import Walking

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


@contextmanager
def tampering(walking: Walking, *labels: str) -> Iterator[list[str]]:
    """Let members spoil their builds, each in its own way; yield their ids."""
    for label in labels:
        params = {"fault": "tamper", "value": label}
        walking.cluster.call(label, "set_fault", params)
    try:
        yield [walking.cluster.nodes[label].peer_id for label in labels]
    finally:
        for label in labels:
            walking.cluster.call(label, "set_fault", {"fault": "tamper", "value": False})


def outcome(walking: Walking, version: str, kind: str) -> dict[str, Any]:
    words = ["inspect-log", "pypi", f"six=={version}", "--format", "json"]
    entries = walking.pyrsia(*words).json()["entries"]
    leaves = [entry["leaf"] for entry in entries if entry["type"] == kind]
    assert len(leaves) == 1, [entry["type"] for entry in entries]
    leaf: dict[str, Any] = leaves[0]
    return leaf


def test_one_tampering_member_is_outvoted_and_named(walking: Walking) -> None:
    with tampering(walking, "authorized-3") as liars:
        built = walking.pyrsia("build", "pypi", "six==1.16.0", "--format", "json").json()
    assert built[0]["state"] == "accepted"
    leaf = outcome(walking, "1.16.0", "accepted")
    honest = {each["id"] for each in leaf["attestors"]}
    assert len(honest) == 3
    assert not honest & set(liars)
    named = {each["id"] for each in leaf["differ"]}
    if not named:  # It answered after the quorum was there.
        named = {outcome(walking, "1.16.0", "late_divergence")["id"]}
    assert named == set(liars)
    names = {each["filename"] for each in walking.page()["files"]}
    assert any("1.16.0" in name for name in names)


def test_two_tampering_members_stop_the_entry_and_are_named(walking: Walking) -> None:
    with tampering(walking, "authorized-2", "authorized-4") as liars:
        built = walking.pyrsia("build", "pypi", "six==1.15.0", "--format", "json")
    assert built.code == 1
    assert '"diverged"' in built.out
    leaf = outcome(walking, "1.15.0", "diverged")
    everybody = {member.peer_id for member in walking.cluster.members}
    got = {tuple(each["ids"]): each["own"][0] for each in leaf["classes"]}
    assert {peer for ids in got for peer in ids} == everybody
    assert len(set(got.values())) == len(got) == 3
    assert {ids[0] for ids in got if len(ids) == 1} == set(liars)
    assert not any("1.15.0" in each["filename"] for each in walking.page()["files"])
    assert "1.15.0" not in walking.pip("download", "six==1.15.0").out
