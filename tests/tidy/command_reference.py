"""The reference of the two commands, written from the help that they print.

``python -m tests.tidy.command_reference > docs/reference/cli.md`` makes the page; a test fails
when the page says anything else.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Final

import click

from pyrsia_cli.main import cli as pyrsia
from pyrsia_node.cli.main import cli as pyrsia_node

_COLUMNS: Final = 100
_HEAD: Final = """\
# Commands

`pyrsia` talks to a node and verifies here what the node says; `pyrsia-node` makes and runs nodes.
Each command's own `--help` says the same as this page, which is written by
`python -m tests.tidy.command_reference`.
"""


def command_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD.rstrip("\n")]
    for name, group in (("pyrsia", pyrsia), ("pyrsia-node", pyrsia_node)):
        for path, text in _pages(group, name, None):
            level = "#" * min(2 + path.count(" "), 4)
            lines += ["", f"{level} {path}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def _pages(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[tuple[str, str]]:
    """Yield the full name and the help of a command and of all below it."""
    context = click.Context(
        command,
        parent=parent,
        info_name=name,
        terminal_width=_COLUMNS,
        max_content_width=_COLUMNS,
        help_option_names=command.context_settings.get("help_option_names", ["-h", "--help"]),
    )
    shown = copy.copy(command)
    if shown.help is not None:
        # In a raw docstring click's mark for "leave these lines alone" is two characters.
        shown.help = shown.help.replace("\\b\n", "\b\n")
    text = "\n".join(line.rstrip() for line in shown.get_help(context).splitlines())
    yield context.command_path, text
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from _pages(below, each, context)


if __name__ == "__main__":
    sys.stdout.write(command_reference())
