"""Completion of search terms, as bash, zsh and fish ask for it."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from click.testing import CliRunner

from pyrsia_cli.commands.shells import VARIABLE
from pyrsia_cli.main import cli
from pyrsia_node.schema.search_terms import FIELDS, STATUSES

BY_WORD = (ZshComplete, FishComplete)
"""Shells that do not end words at colons."""


def completed(shell: type[ShellComplete], *words: str) -> set[str]:
    """Return what a shell is offered after ``words``, of which the last is incomplete."""
    *before, incomplete = words
    found = shell(cli, {}, "pyrsia", VARIABLE).get_completions(["search", *before], incomplete)
    return {item.value for item in found}


@pytest.mark.parametrize("shell", [BashComplete, *BY_WORD])
def test_fields_are_offered(shell: type[ShellComplete]) -> None:
    assert completed(shell, "") >= {f"{field}:" for field in FIELDS}
    assert completed(shell, "six", "de") == {"dep:"}
    assert completed(shell, "li") == {"licence:", "license:"}
    assert completed(shell, "(six", "nothing") == set()


@pytest.mark.parametrize("shell", BY_WORD)
def test_values_are_offered_after_a_field(shell: type[ShellComplete]) -> None:
    assert completed(shell, "status:") == {f"status:{each}" for each in STATUSES}
    assert completed(shell, "six", "status:d") == {
        "status:deprecated",
        "status:diverged",
    }
    assert completed(shell, "type:se") == {"type:set", "type:set_param"}
    assert completed(shell, "author:") == set()


def test_values_are_offered_where_the_shell_ends_words_at_colons() -> None:
    assert completed(BashComplete, "status", ":") == set(STATUSES)
    assert completed(BashComplete, "six", "status", ":", "acc") == {"accepted"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_script_for_each_shell_asks_the_command(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"{VARIABLE}={shell}_complete" in done.output
