"""What the command that brings a motion says once this node's approval is in the log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from tests.fakes.node_that_answers import Said, node_that_answers, said

NORTH = f"12D3KooW{'N' * 44}"
SUBJECT, TRANSACTION = "9d" * 32, "ab" * 32
TAKEN = {
    "subject": SUBJECT,
    "op": "set_param",
    "title": "set burst = 9",
    "transaction": TRANSACTION,
    "needed": 1,
}
CLOSED, OPEN = "aa" * 32, "bb" * 32
SET = ("set-param", "burst", "9")
Bring = Callable[..., Result]


def members(detail: str) -> dict[str, object]:
    motion = {
        "subject": SUBJECT,
        "op": "set_param",
        "title": "set burst = 9",
        "approvals": [{"id": NORTH, "label": "north", "expiry": 812}],
        "missing": [],
        "needed": 1,
        "is_own": True,
        "detail": detail,
    }
    standing = {"height": 12, "epoch": 3, "n": 1, "f": 0, "q": 1, "note": "f=0"}
    return {**standing, "members": [], "params": {}, "motions": [motion]}


@pytest.fixture
def bring(tmp_path: Path) -> Iterator[Bring]:
    """Yield what brings a motion at a node that gives this detail for it."""
    detail = [""]

    def answer(method: str, path: str, body: bytes) -> Said:
        if method == "POST" and json.loads(body)["content"].get("sha256") == CLOSED:
            why = "leaf 7 says revoke already"
            return said({"error": {"kind": "invalid", "message": why}}, code=400)
        if method == "POST":
            return said(TAKEN)
        is_members = path == "/api/v1/members"
        return said(members(detail[0]) if is_members else {"committed": True, "height": 12})

    token = tmp_path / "admin.token"
    token.write_text("of this test\n")
    with node_that_answers(tmp_path, answer) as settings:
        settings.write_text(f'{settings.read_text()}token_file = "{token}"\n')

        def run(why: str, *words: str) -> Result:
            detail[0] = why
            return CliRunner(env={"PYRSIA_CONFIG": str(settings)}).invoke(cli, words)

        yield run


def test_a_motion_that_the_nodes_carry_out_is_said_to_be(bring: Bring) -> None:
    result = bring("", *SET)
    assert result.exit_code == 0, result.output
    assert "approved by 1, which is enough: the nodes carry it out now" in result.output


def test_a_motion_that_nobody_can_carry_out_is_an_error_with_its_reason(bring: Bring) -> None:
    result = bring("parameter burst is 9 already", *SET)
    assert isinstance(result.exception, UnavailableError)
    assert str(result.exception).endswith("but it waits: parameter burst is 9 already")
    assert "carry it out now" not in result.output


def test_a_file_that_is_revoked_already_keeps_no_other_from_it(bring: Bring) -> None:
    files = ("--sha256", CLOSED, "--sha256", OPEN)
    result = bring("", "revoke", "six==1.17.0", *files, "--reason", "harms")
    assert isinstance(result.exception, InvalidInputError)
    assert str(result.exception) == "leaf 7 says revoke already"
    assert f"subject {SUBJECT}" in result.output
    assert "the nodes carry it out now" in result.output
