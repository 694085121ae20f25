"""``configure pip`` and ``configure uv``: point clients at the node, and take it back."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import click

from pyrsia_cli import clients
from pyrsia_cli.output import say
from pyrsia_cli.settings import load_settings, settings_path, write_whole
from pyrsia_node.model.errors import InvalidInputError


@click.group()
def configure() -> None:
    """Let a package client install through the node. Shows a diff, keeps a backup."""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    remove = click.option("--remove", is_flag=True, help="Take the node out again.")
    dry = click.option("--dry-run", is_flag=True, help="Show the diff, write nothing.")
    return remove(dry(function))


@configure.command()
@_options
def pip(*, remove: bool, dry_run: bool) -> None:
    """Make the node pip's index (user configuration, or $PIP_CONFIG_FILE)."""
    path = _pip_path()
    text = _read(path)
    new = clients.pip_without(text) if remove else clients.pip_with(text, _index_url())
    _apply(path, text, new, dry_run=dry_run)
    if not remove:
        environment = [
            name for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS") if os.environ.get(name)
        ]
        if os.environ.get("PIP_INDEX_URL"):
            environment.append("PIP_INDEX_URL (overrides this file)")
        _warn(clients.pip_bypasses(new) + environment)


@configure.command()
@_options
def uv(*, remove: bool, dry_run: bool) -> None:
    """Make the node uv's default index (user configuration)."""
    path = _uv_path()
    text = _read(path)
    new = clients.uv_without(text) if remove else clients.uv_with(text, _index_url())
    _apply(path, text, new, dry_run=dry_run)
    if not remove:
        names = ("UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS")
        _warn(clients.uv_bypasses(new) + [name for name in names if os.environ.get(name)])


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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error


def _apply(path: Path, old: str, new: str, *, dry_run: bool) -> None:
    if old == new:
        say(f"{path}: nothing to change")
        return
    diff = difflib.unified_diff(
        old.splitlines(), new.splitlines(), str(path), str(path), lineterm=""
    )
    say(*diff)
    if dry_run:
        return
    backup = path.with_name(path.name + ".before-pyrsia")
    # Only the first backup is the user's own file; later ones would keep our changes.
    if old and not backup.exists():
        write_whole(backup, old)
    write_whole(path, new)
    say(f"{path} written" + (f"; backup: {backup}" if backup.exists() else ""))


def _warn(bypasses: list[str]) -> None:
    for each in bypasses:
        say(f"warning: this fetches past the node: {each}")
