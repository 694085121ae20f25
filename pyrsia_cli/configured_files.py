"""Changing a configuration file of another program: diff shown, backup kept, written whole."""

from __future__ import annotations

import difflib
import stat
from pathlib import Path
from typing import Final

from pyrsia_cli.output import say
from pyrsia_cli.settings import write_whole
from pyrsia_node.model.errors import InvalidInputError

FILE_BYTES_MAX: Final = 4 * 1024 * 1024


def read_text(path: Path) -> str:
    """Return the file's text with its line ends as they are, "" if there is none.

    Raises:
        InvalidInputError: It cannot be read, is no UTF-8, or is over 4 MiB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise InvalidInputError(f"{path} is over {FILE_BYTES_MAX} bytes")
        return data.decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error


def apply(path: Path, old: str, new: str, *, dry_run: bool) -> None:
    """Show the difference, and unless ``dry_run`` write it.

    The first backup stays: it is the person's own file; later ones would keep our changes. A file
    in which nothing is left is removed.

    Raises:
        InvalidInputError: The folder or the file cannot be written.
    """
    if old == new:
        say(f"{path}: nothing to change")
        return
    diff = difflib.unified_diff(
        old.splitlines(), new.splitlines(), str(path), str(path), lineterm=""
    )
    say(*diff)
    if dry_run:
        return
    # Through a link, if it is one: what the link stands for is the person's choice.
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    backup = path.with_name(path.name + ".before-pyrsia")
    # The backup is on the disk before the file changes: whatever a crash leaves, both texts or the
    # person's own are there.
    if old and not backup.exists():
        write_whole(backup, old, mode=mode)
    if new:
        write_whole(target, new, mode=mode)
    else:
        _remove(target)
    done = "written" if new else "removed: nothing was left in it"
    say(f"{path} {done}" + (f"; backup: {backup}" if backup.exists() else ""))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be removed: {error.strerror}") from error
