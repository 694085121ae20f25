"""What ``pyrsia nodes`` makes of a node's answer, and what completes words out of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pyrsia_cli.commands import members
from pyrsia_cli.main import cli
from pyrsia_node.schema.motions import Members
from tests.fakes.node_that_answers import node_that_answers, said

NORTH, WEST = f"12D3KooW{'N' * 44}", f"12D3KooW{'W' * 44}"


def motion(op: str, title: str, **more: object) -> dict[str, object]:
    return {
        "subject": ("3f2a" if op == "add_node" else "9d41") + "0" * 60,
        "op": op,
        "title": title,
        "approvals": [{"id": NORTH, "label": "north", "expiry": 812}],
        "missing": ["east", "south"],
        "needed": 3,
        "is_own": True,
        **more,
    }


ANSWER: dict[str, object] = {
    "height": 12,
    "epoch": 3,
    "members": [{"id": NORTH, "label": "north", "connected": True, "height": 12}],
    "n": 1,
    "f": 0,
    "q": 1,
    "note": "f=0",
    "params": {"burst": 64, "min_authorized": 3},
    "motions": [
        motion(
            "add_node",
            f"add west ({WEST})",
            candidate=WEST,
            content={"record": {"label": "west"}},
            detail="west is 300 blocks behind",
        ),
        motion("set_param", "set burst = 9", detail="waits"),
    ],
}


def test_candidates_stand_below_the_members_with_who_approved_and_who_is_missing() -> None:
    north, west = members.node_rows(Members.parse(ANSWER))
    assert (north["label"], north["standing"], north["height"]) == ("north", "authorized", 12)
    assert (west["label"], west["standing"], west["id"]) == ("west", "candidate", WEST)
    assert (west["approved"], west["missing"]) == ("1 of 3: north", ["east", "south"])


def test_a_motion_shows_when_it_lapses_and_why_it_waits() -> None:
    _, shown = members.motion_rows(Members.parse(ANSWER))
    assert (shown["motion"], shown["expires"], shown["detail"]) == ("set burst = 9", 812, "waits")
    assert shown["subject"] == "9d41000000000000"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node that answers, and settings that name it."""
    with node_that_answers(tmp_path, lambda *_: said(ANSWER)) as settings:
        monkeypatch.setenv("PYRSIA_CONFIG", str(settings))
        yield


def shown(form: str) -> str:
    done = CliRunner().invoke(cli, ["nodes", "--format", form], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.mark.usefixtures("node")
def test_a_candidate_shows_its_subject_when_it_lapses_and_why_it_waits() -> None:
    _, west, parameter = csv.DictReader(io.StringIO(shown("csv")))
    assert (west["label"], west["standing"], west["id"]) == ("west", "candidate", WEST)
    assert (west["subject"], west["expires"]) == ("3f2a000000000000", "812")
    assert west["detail"] == "west is 300 blocks behind"
    assert (parameter["motion"], parameter["detail"]) == ("set burst = 9", "waits")
    nodes, motions = shown("table").split("\n\n")[:2]
    assert "candidate" in nodes
    (line,) = [line for line in motions.splitlines() if "add west" in line]
    said = ("1 of 3: north", "east, south", "812", "3f2a000000000000", "west is 300 blocks behind")
    assert all(each in line for each in said)


def completed(command: click.Command, name: str, incomplete: str) -> list[str]:
    (parameter,) = [each for each in command.params if each.name == name]
    context = click.Context(command)
    return [each.value for each in parameter.shell_complete(context, incomplete)]


@pytest.mark.usefixtures("node")
def test_labels_subjects_and_parameters_are_completed_from_the_node() -> None:
    assert completed(members.remove, "peer", "n") == ["north"]
    assert completed(members.approve, "subject", "9d") == ["9d41000000000000"]
    assert completed(members.set_param, "name", "") == ["burst", "min_authorized"]
    assert completed(members.set_param, "name", "min") == ["min_authorized"]


def test_without_a_node_nothing_is_completed_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "pyrsia.toml"
    settings.write_text("port = 1\n")
    monkeypatch.setenv("PYRSIA_CONFIG", str(settings))
    assert completed(members.remove, "peer", "") == []
