"""Options that several subcommands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pyrsia_node.schema.layout import Layout


def default_data() -> Path:
    """Return where a node lives unless told otherwise: the system's place, or the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/pyrsia")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "pyrsia"


def _layout(_context: click.Context, _parameter: click.Parameter, value: Path) -> Layout:
    # The node's processes run elsewhere than this command: only an absolute path means the same.
    return Layout(value.absolute())


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data DIR``, which reaches the command as a ``Layout``."""
    return click.option(
        "--data",
        "layout",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_data,
        envvar="PYRSIA_DATA",
        callback=_layout,
        metavar="DIR",
        help="The node's data directory [$PYRSIA_DATA, or where the system keeps such data].",
    )(command)
