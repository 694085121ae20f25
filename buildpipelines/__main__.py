"""``python -m buildpipelines``: trial and rebuild for people at a shell, without a node.

``trial NAME==VERSION`` prints the result as JSON and progress on standard error; ``rebuild FILE``
replays such a result (``-`` for standard input); ``survey NAME==VERSION …`` does both for many
releases and prints a table; ``docker IMAGE --context …`` does it for an image, ``maven
GROUP:ARTIFACT:VERSION --source …`` for an artifact.
Exit status: 0 built, 1 not built, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.image_survey import image_order, rebuild_image
from buildpipelines.maven_survey import add_maven_options, artifact_order, rebuild_artifact
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    JobStatus,
    OutputFile,
    RecipeValue,
    TrialParams,
    parse_result,
)
from buildpipelines.survey import HEADER, replay_of, survey
from buildpipelines.two_nodes import TwoNodes
from buildpipelines.worker.__main__ import add_build_options, build_options
from buildpipelines.worker.service import Service, running

_JOB = "shell"
_POLL_SECONDS = 0.2
_RESULT_BYTES_MAX = 4 * 1024 * 1024


def main(argv: list[str] | None = None) -> int:
    """Run one trial or rebuild; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return asyncio.run(_run(arguments))
    except (BuildFailure, FormatError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m buildpipelines", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    trial = commands.add_parser("trial", help="find recipe and inputs of a release")
    trial.add_argument("release", help="NAME==VERSION")
    rebuild = commands.add_parser("rebuild", help="replay a trial's result")
    rebuild.add_argument("result", help="file with the trial's JSON, or -")
    many = commands.add_parser("survey", help="try many releases and print a table")
    many.add_argument("releases", nargs="+", help="NAME==VERSION")
    image = commands.add_parser("docker", help="rebuild an image twice and print a table")
    image.add_argument("image", help="HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST")
    image.add_argument("--context", required=True, help="HOST/REPOSITORY@sha256:DIGEST")
    image.add_argument("--dockerfile", help="its path inside the context (default: Dockerfile)")
    image.add_argument("--target", help="stage to end with (default: the last)")
    image.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    artifact = commands.add_parser("maven", help="rebuild an artifact twice and print a table")
    add_maven_options(artifact)
    for command in (trial, rebuild, many, image, artifact):
        command.add_argument("--work", type=Path, default=Path(".cache/buildpipelines"))
        command.add_argument("--index-url", help="upstream index (default: pip's)")
        add_build_options(command)
    return result


async def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "survey":
        sys.stdout.write(f"{HEADER}\n")
        async for row in survey(arguments.releases, build_options(arguments)):
            sys.stdout.write(f"{row.markdown()}\n")
            sys.stdout.flush()
        return 0
    if arguments.command == "docker":
        found = await rebuild_image(
            arguments.image, _image_options(arguments), build_options(arguments)
        )
        return _print(found, image_order)
    if arguments.command == "maven":
        return _print(await rebuild_artifact(arguments, build_options(arguments)), artifact_order)
    seconds = int(arguments.seconds)
    async with running(build_options(arguments)) as service:
        if arguments.command == "trial":
            name, _, version = arguments.release.partition("==")
            service.trial(TrialParams(_JOB, "pypi", name, version, seconds))
        else:
            text = await asyncio.to_thread(_read, arguments.result)
            service.rebuild(replay_of(parse_result(text), _JOB, seconds))
        status = await _follow(service)
    if status.result is None or isinstance(status.result, JobFailure):
        sys.stderr.write(f"{status.log_tail}\n")
        if status.result is not None:
            sys.stderr.write(f"{status.result.outcome}: {status.result.cause}\n")
        return 1
    sys.stdout.write(json.dumps(status.result.document(), indent=1, sort_keys=True) + "\n")
    return 0


def _print(found: TwoNodes, order: Callable[[OutputFile], tuple[int, str]]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in found.lines(order))
    return 0 if isinstance(found.rebuild, BuildResult) else 1


def _image_options(arguments: argparse.Namespace) -> dict[str, RecipeValue]:
    options: dict[str, RecipeValue] = {"context": arguments.context}
    for key in ("dockerfile", "target"):
        if getattr(arguments, key) is not None:
            options[key] = getattr(arguments, key)
    if arguments.build_arg:
        options["args"] = tuple(arguments.build_arg)
    return options


def _read(name: str) -> dict[str, object]:
    with contextlib.ExitStack() as stack:
        file = sys.stdin if name == "-" else stack.enter_context(Path(name).open(encoding="utf-8"))
        try:
            value: object = json.loads(file.read(_RESULT_BYTES_MAX))
        except ValueError as error:
            raise FormatError(f"{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{name}: a JSON object is expected")
    return value


async def _follow(service: Service) -> JobStatus:
    """Show every new stage until the job ends."""
    shown = ""
    while True:
        status = service.jobs.status(_JOB)
        line = f"{status.stage}  {status.detail}"
        if line != shown:
            sys.stderr.write(f"{line}\n")
            shown = line
        if status.state in ("done", "failed"):
            return status
        await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
