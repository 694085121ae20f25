"""What the help pages promise: nothing is cut, every option is explained, examples work."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pyrsia_cli.main import cli
from pyrsia_node.ledger.query import parse_query

DEFERRED = {"audit", "devnet", "network"}
"""Commands whose pages are those of ``pyrsia-node``."""


def commands(
    group: click.Group = cli, *above: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        path = (*above, name)
        yield path, command
        if isinstance(command, click.Group):
            yield from commands(command, *path)


ALL = dict(commands())
OWN = [path for path in ALL if path[0] not in DEFERRED]
GROUPS = [(), *(path for path, command in ALL.items() if isinstance(command, click.Group))]


def page(*path: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_no_summary_of_a_command_is_cut_on_a_narrow_terminal(path: tuple[str, ...]) -> None:
    listed = page(*path).partition("Commands:")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


@pytest.mark.parametrize("path", OWN, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    options = [each for each in ALL[path].params if isinstance(each, click.Option)]
    assert [each.name for each in options if not each.help] == []


@pytest.mark.parametrize("path", OWN, ids=" ".join)
def test_every_page_lists_both_ways_to_ask_for_help(path: tuple[str, ...]) -> None:
    assert "-h, --help" in page(*path)


@pytest.mark.parametrize("path", [("search",), ("watch",)], ids=" ".join)
def test_every_query_that_a_page_teaches_is_understood(path: tuple[str, ...]) -> None:
    shown = page(*path).replace("\\\n", " ")
    lines = [line.strip() for line in shown.splitlines() if line.startswith("  ")]
    lines = [line for line in lines if line.startswith(f"pyrsia {path[0]} ")]
    assert len(lines) >= 3
    for line in lines:
        example = line.partition("   ")[0]
        words = shlex.split(example)
        context = ALL[path].make_context(words[1], words[2:])
        for query in context.params["query"]:
            parse_query(query)


@pytest.mark.parametrize("path", [("nodes",), ("status",), ("log",), ("search",)], ids=" ".join)
def test_pages_of_reading_commands_have_examples_and_exit_codes(path: tuple[str, ...]) -> None:
    assert f"  pyrsia {path[0]}" in page(*path).replace("Usage: ", "")
    assert "Exit codes: 0 " in page(*path)
