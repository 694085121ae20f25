"""What ``pyrsia status`` makes of a node's answer: whole, and with half of the node away."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.core.member_methods import note_on
from pyrsia_node.model.errors import UnavailableError
from tests.fakes.node_that_answers import node_that_answers, said

PEER = f"12D3KooW{'N' * 44}"
COUNTS = dict.fromkeys(
    ("height", "size", "published_size", "view", "peers_count", "open_requests"), 7
)
WHOLE: dict[str, object] = {
    "core": "up",
    "peer_id": PEER,
    "label": "north",
    "role": "authorized",
    "network": "ab" * 32,
    "network_name": "example",
    "root": "cd" * 32,
    "leader": PEER,
    "leader_label": "north",
    "set": [
        {"id": PEER, "label": "north", "connected": True},
        {"id": f"12D3KooW{'S' * 44}", "label": "south", "connected": False},
    ],
    "n": 4,
    "f": 1,
    "q": 3,
    "note": note_on(4, away=1),
    "pending_transactions": 0,
    "addresses": [],
    "version": "1",
    "alarms": ["EVIDENCE: south signed two blocks"],
    "gateway": {"uptime_s": 1.0},
    **COUNTS,
}
HALF: dict[str, object] = {"core": "down", "reason": "no answer within 5 s", "gateway": {}}


def status(folder: Path, answer: dict[str, object], *options: str) -> Result:
    with node_that_answers(folder, lambda *_: said(answer)) as settings:
        return CliRunner(env={"PYRSIA_CONFIG": str(settings)}).invoke(cli, ["status", *options])


def test_status_says_what_a_lost_node_would_cost_who_is_away_and_what_is_wrong(
    tmp_path: Path,
) -> None:
    shown = status(tmp_path, WHOLE)
    rows = dict(re.findall(r"^(\S+(?: \S+)*) {2,}(.*?) *$", shown.output, re.MULTILINE))
    assert rows["fault tolerance"] == note_on(4, away=1)
    assert "(1 may be lost); now 1 away: one more lost halts it" in rows["fault tolerance"]
    assert rows["authorized nodes"] == "north, south (away)"
    assert rows["ALARM"] == "EVIDENCE: south signed two blocks"
    found = json.loads(status(tmp_path, WHOLE, "--format", "json").output)
    assert found["note"] == note_on(4, away=1)


@pytest.mark.parametrize("form", ["table", "json"])
def test_status_of_a_node_whose_core_is_away_says_so_and_is_unavailable(
    tmp_path: Path, form: str
) -> None:
    shown = status(tmp_path, HALF, "--format", form)
    assert isinstance(shown.exception, UnavailableError)
    assert "no answer within 5 s" in str(shown.exception)
    assert "serves packages" in str(shown.exception)
