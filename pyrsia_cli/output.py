"""Prints the same rows as a table for people, or as JSON, JSON lines or CSV for programs.

The one door to the terminal. Much of what is shown was written by others: reasons, labels, names of
files, a node's messages. It is never read as markup, and no character that a terminal could obey,
or that changes the direction of the text, gets through: such characters are shown as escapes.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyrsia_node.model.printable import plain

FORMATS: Final = ("table", "json", "jsonl", "csv")
PIPE_COLUMNS: Final = 1_000_000
"""Width of a table that goes to no terminal: nothing is cut or folded there."""

_JSON_UNSAFE: Final = re.compile(r"[^ -~\n]")
_F = TypeVar("_F", bound=Callable[..., Any])

Row = Mapping[str, object]


def format_option(function: _F) -> _F:
    """Add ``--format`` to a command."""
    option = click.option(
        "--format",
        "output_format",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="Table for people; JSON, JSON lines or CSV for programs.",
    )
    return option(function)


def json_text(value: object, *, indent: int | None = None, compact: bool = False) -> str:
    """Return ``value`` as JSON in which every character that is not printable is escaped."""
    separators = (",", ":") if compact else None
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    return _JSON_UNSAFE.sub(_json_escape, text)


def _json_escape(found: re.Match[str]) -> str:
    character = found.group()
    return character if character.isprintable() else json.dumps(character)[1:-1]


def say(*lines: str) -> None:
    """Print lines of a result. A line end inside one is shown and not obeyed."""
    for line in lines:
        click.echo(plain(line))


def note(*lines: str) -> None:
    """Print lines of progress, notes or errors on standard error; as ``say``."""
    for line in lines:
        click.echo(plain(line), err=True)


def say_json(value: object) -> None:
    """Print a value as JSON for people."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def cell(value: object, style: str = "") -> Text:
    """Return a value as a table shows it: never markup, in several lines where it is too long."""
    return Text(plain(_text(value)), style=style, overflow="fold")


def progress_console() -> Console:
    """Return the terminal for a table of progress that lives; its cells come from ``cell``."""
    return Console(stderr=True, highlight=False, markup=False)


def emit(
    rows: Sequence[Row],
    columns: Sequence[str],
    output_format: str,
    *,
    document: object = None,
    lines: Sequence[object] | None = None,
) -> None:
    """Print ``rows``.

    JSON prints ``document`` instead where it is given: the whole answer. JSON lines prints
    ``lines`` instead where they are given, else one row a line.
    """
    if output_format == "json":
        whole = document if document is not None else list(rows)
        say_json(whole)
    elif output_format == "jsonl":
        for line in rows if lines is None else lines:
            sys.stdout.write(json_text(line) + "\n")
    elif output_format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain(_text(row.get(column))) for column in columns] for row in rows)
    else:
        _print_table(rows, columns)


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(column)) for column in columns))
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    Console(highlight=False, markup=False, width=width).print(table)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)
