"""Text that others wrote is shown as it is: never as markup, never as orders to a terminal."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pyrsia_cli import main
from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.building import progress_table
from pyrsia_cli.delivery import Event
from pyrsia_cli.output import emit, json_text, note, say
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.printable import plain
from pyrsia_node.schema.links import BuildStatus
from pyrsia_node.schema.motions import Members, MotionLine

HOSTILE = (
    "see [/red] x",
    "[bold]gone[/bold]",
    "[link=https://evil.example]click[/link]",
    "\x1b[2J\x1b[31mall is well",
    "\x9b2Jall is well",
    "verified\rrefused",
    "safe\u202egnp.exe\u2066",
    "one\ntwo\u2028three",
)
hostile_text = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from("[]/\x1b\x9b\r\n\u202e\\"))),
)


def printed(show: Callable[[], object]) -> str:
    """Return what ``show`` wrote on both streams."""
    both = io.StringIO()
    with contextlib.redirect_stdout(both), contextlib.redirect_stderr(both):
        show()
    return both.getvalue()


def obeys_nothing(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@given(hostile_text)
def test_a_cell_of_a_table_shows_every_character_and_obeys_none(text: str) -> None:
    out = printed(lambda: emit([{"reason": text}], ("reason",), "table"))
    assert obeys_nothing(out)
    assert out.split("\n")[1].rstrip(" ") == plain(text).rstrip(" ")


@given(hostile_text)
def test_programs_get_the_text_itself_and_terminals_no_control_character(text: str) -> None:
    whole = printed(lambda: emit([{"reason": text}], ("reason",), "json"))
    line = printed(lambda: emit([{"reason": text}], ("reason",), "jsonl"))
    assert obeys_nothing(whole)
    assert obeys_nothing(line)
    assert json.loads(whole) == [{"reason": text}]
    assert json.loads(line) == {"reason": text}
    assert line.count("\n") == 1
    assert obeys_nothing(Event(1, {"reason": text}).encode().decode())
    table = printed(lambda: emit([{"reason": text}], ("reason",), "csv"))
    assert obeys_nothing(table)
    assert list(csv.reader(io.StringIO(table)))[1:] in ([[plain(text)]], [[]])


@given(hostile_text)
def test_lines_and_notes_stay_lines(text: str) -> None:
    for show in (say, note):
        assert printed(lambda show=show: show(text)) == plain(text) + "\n"  # type: ignore[misc]


@pytest.mark.parametrize("text", HOSTILE)
def test_whoever_approves_reads_every_character_of_the_motion(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = MotionLine(
        op="revoke",
        subject="ab" * 32,
        title=f"revoke: {text}",
        content={"reason": text},
        approvals=[],
        needed=3,
        missing=[],
        is_own=False,
    )
    sent: list[str] = []

    def get(*_words: object) -> Members:
        return Members.model_construct(motions=[motion])

    def post(_api: NodeApi, path: str, *_words: object) -> None:
        sent.append(path)

    monkeypatch.setattr(NodeApi, "get", get)
    monkeypatch.setattr(NodeApi, "post", post)
    result = CliRunner().invoke(main.cli, ["approve", "abab"], input="n\n", standalone_mode=False)
    assert plain(f"revoke: {text}") in result.output
    assert json_text(text) in result.output
    assert obeys_nothing(result.output)
    assert not sent
    assert result.output.endswith("not approved\n")
    assert result.return_value == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_a_nodes_message_cannot_pass_for_a_line_of_the_command(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_options: object) -> None:
        raise UnavailableError(f"{text}\npyrsia: all is well")

    monkeypatch.setattr(main.cli, "main", fail)
    out = io.StringIO()
    with contextlib.redirect_stderr(out), pytest.raises(SystemExit):
        main.main()
    assert obeys_nothing(out.getvalue())
    assert [line for line in out.getvalue().split("\n") if line.startswith("pyrsia: all")] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_progress_of_builds_is_no_markup(text: str) -> None:
    status = BuildStatus.model_construct(
        purl=text, state="building", stage=text, detail=text, progress=[]
    )
    out = printed(
        lambda: Console(file=sys.stdout, width=1000, markup=True).print(progress_table([status]))
    )
    assert obeys_nothing(out)
    assert out.count(plain(text)) == 3
