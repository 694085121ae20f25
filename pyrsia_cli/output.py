"""Prints the same rows as a table for people, or as JSON, JSON lines or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Table

FORMATS: Final = ("table", "json", "jsonl", "csv")
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


def console() -> Console:
    """Return the terminal for results; progress goes to standard error."""
    return Console(highlight=False)


def progress_console() -> Console:
    """Return the terminal for progress and notes."""
    return Console(stderr=True, highlight=False)


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
        sys.stdout.write(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    elif output_format == "jsonl":
        for line in rows if lines is None else lines:
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    elif output_format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row.get(column)) for column in columns] for row in rows)
    else:
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(_text(row.get(column)) for column in columns))
        console().print(table)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)
