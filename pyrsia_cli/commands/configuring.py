"""``configure pip`` and ``configure uv``: point clients at the node, and take it back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from pyrsia_cli import clients
from pyrsia_cli.configured_files import apply, read_text
from pyrsia_cli.output import say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import InvalidInputError


@click.group()
def configure() -> None:
    """Let a client fetch through the node. Shows a diff, keeps a backup."""


def change_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what every ``configure`` command has: ``--remove`` and ``--dry-run``."""
    remove = click.option("--remove", is_flag=True, help="Take the node out again.")
    dry = click.option("--dry-run", is_flag=True, help="Show the diff, write nothing.")
    return remove(dry(function))


@configure.command()
@change_options
def pip(*, remove: bool, dry_run: bool) -> None:
    """Make the node pip's index (pip.conf of the user).

    $PIP_CONFIG_FILE names another file.
    """
    path = _pip_path()
    text = read_text(path)
    new = clients.pip_without(text) if remove else clients.pip_with(text, _index_url())
    apply(path, text, new, dry_run=dry_run)
    if not remove:
        environment = [
            name for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS") if os.environ.get(name)
        ]
        if os.environ.get("PIP_INDEX_URL"):
            environment.append("PIP_INDEX_URL (overrides this file)")
        warn(clients.pip_bypasses(new) + environment)


@configure.command()
@change_options
def uv(*, remove: bool, dry_run: bool) -> None:
    """Make the node uv's default index (user configuration)."""
    path = _uv_path()
    text = read_text(path)
    new = clients.uv_without(text) if remove else clients.uv_with(text, _index_url())
    apply(path, text, new, dry_run=dry_run)
    if not remove:
        names = ("UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS")
        warn(clients.uv_bypasses(new) + [name for name in names if os.environ.get(name)])


def _index_url() -> str:
    return f"{load_settings(settings_path()).url}/pypi/simple/"


def _pip_path() -> Path:
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        raise InvalidInputError("PIP_CONFIG_FILE switches pip's configuration off; unset it first")
    return Path(chosen) if chosen else _config_home() / "pip" / "pip.conf"


def _uv_path() -> Path:
    chosen = os.environ.get("UV_CONFIG_FILE")
    return Path(chosen) if chosen else _config_home() / "uv" / "uv.toml"


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def warn(bypasses: list[str]) -> None:
    """Name the settings through which a client would fetch past the node."""
    for each in bypasses:
        say(f"warning: this fetches past the node: {each}")
