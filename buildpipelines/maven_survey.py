"""Rebuild an artifact at the shell, as two nodes would: ``python -m buildpipelines maven``."""

from __future__ import annotations

import argparse
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.spec.messages import OutputFile, RecipeValue, TrialParams
from buildpipelines.two_nodes import TwoNodes, build_twice
from buildpipelines.worker.service import Options

_JOB = "artifact"
_TEXTS: Final = ("source", "tag", "commit", "module", "newline", "timezone", "locale")
_NUMBERS: Final = ("jdk", "epoch")
_LISTS: Final = ("goals", "profiles", "properties")


def add_maven_options(command: argparse.ArgumentParser) -> None:
    """Add what says which artifact is to be built, and how."""
    command.add_argument("gav", help="GROUP:ARTIFACT:VERSION")
    command.add_argument("--source", required=True, help="git+https://… or an archive's https://…")
    command.add_argument("--tag", help="of a git repository")
    command.add_argument("--commit", help="of a git repository")
    command.add_argument("--module", help="path of the module in the source")
    command.add_argument("--jdk", type=int, help="major version, where no published jar names it")
    command.add_argument("--newline", choices=("lf", "crlf"), help="of text files of the source")
    command.add_argument("--timezone", help="of the build (default: UTC)")
    command.add_argument("--locale", help="of the build (default: C.UTF-8)")
    command.add_argument("--umask", help="of the build, in octal (default: 022)")
    command.add_argument("--epoch", type=int, help="time of the build, in seconds since 1970")
    for name, what in (
        ("goal", "Maven's goal"),
        ("profile", "profile"),
        ("property", "NAME=VALUE"),
    ):
        plural = "properties" if name == "property" else f"{name}s"
        command.add_argument(
            f"--{name}", dest=plural, action="append", help=f"{what}; may be repeated"
        )


async def rebuild_artifact(arguments: argparse.Namespace, settings: Options) -> TwoNodes:
    """Record an artifact's build and replay it.

    Raises:
        BuildFailure: this machine cannot build.
        FormatError: the name or an option is out of form.
    """
    name, colon, version = str(arguments.gav).rpartition(":")
    if not colon:
        raise FormatError(f"{arguments.gav!r:.200} is not GROUP:ARTIFACT:VERSION")
    seconds = int(settings.limits.seconds)
    params = TrialParams(_JOB, "maven", name, version, seconds, read_options(arguments))
    return await build_twice(params, settings)


def read_options(arguments: argparse.Namespace) -> dict[str, RecipeValue]:
    """Return the options of a trial as the command line gives them; raises FormatError."""
    options: dict[str, RecipeValue] = {}
    for key in (*_TEXTS, *_NUMBERS):
        if getattr(arguments, key) is not None:
            options[key] = getattr(arguments, key)
    for key in _LISTS:
        if getattr(arguments, key):
            options[key] = tuple(getattr(arguments, key))
    if arguments.umask is not None:
        try:
            options["umask"] = int(arguments.umask, 8)
        except ValueError as error:
            raise FormatError(f"--umask {arguments.umask!r:.20} is not octal") from error
    return options


def artifact_order(file: OutputFile) -> tuple[int, str]:
    """Return where a file stands in a table: what was built first."""
    return int(file.claim == "mirrored"), file.name
