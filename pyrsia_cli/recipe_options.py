"""Options that say how a Maven build is run: one set for ``build maven`` and ``sources add``.

What a field may hold is not decided here: whoever takes the recipe checks it by the grammar that
builds follow (``schema.maven_builds``, ``schema.followable``). What the fields mean:
docs/design/maven.md, "Recipe".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from pyrsia_node.model.errors import InvalidInputError

Recipe = dict[str, "str | int | tuple[str, ...]"]
Command = Callable[..., Any]

_OPTIONS: Final = (
    click.option("--module", default="", help="Folder of the module in the sources."),
    click.option("--jdk", type=click.IntRange(1, 99), help="Major version, if no file names it."),
    click.option("--goal", "goals", multiple=True, help="Maven goal; may be repeated [install]."),
    click.option("--profile", "profiles", multiple=True, help="Maven profile; may be repeated."),
    click.option("--property", "properties", multiple=True, help="NAME=VALUE; may be repeated."),
    click.option("--newline", type=click.Choice(["lf", "crlf"]), help="Line ends of the sources."),
    click.option("--umask", default="", metavar="OCTAL", help="Of the build's files, such as 022."),
    click.option("--timezone", default="", help="Such as Europe/Oslo [UTC]."),
    click.option("--locale", default="", help="Such as de_DE.UTF-8 [C.UTF-8]."),
    click.option("--epoch", type=int, help="Time of what is built, in seconds since 1970."),
)
_OCTAL_MAX: Final = 4


def recipe_options(command: Command) -> Command:
    """Give a command the options of a recipe; it gets them by name, for :func:`recipe_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def recipe_of(given: dict[str, Any]) -> Recipe:
    """Return what was said of the recipe, and nothing of what was not.

    Args:
        given: The values of :func:`recipe_options` by their names.

    Raises:
        InvalidInputError: ``--umask`` is no octal number.
    """
    said = {name: value for name, value in given.items() if value not in {None, "", ()}}
    if "umask" in said:
        said["umask"] = _octal(said["umask"])
    return said


def _octal(text: str) -> int:
    is_octal = len(text) <= _OCTAL_MAX and bool(text) and set(text) <= set("01234567")
    if not is_octal:
        raise InvalidInputError(f"--umask {text!r:.100} is no octal number such as 022")
    return int(text, 8)
