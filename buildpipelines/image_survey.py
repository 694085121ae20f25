"""Rebuild an image at the shell, as two nodes would: ``python -m buildpipelines docker``."""

from __future__ import annotations

from collections.abc import Mapping

from buildpipelines.errors import FormatError
from buildpipelines.spec.messages import OutputFile, RecipeValue, TrialParams
from buildpipelines.two_nodes import TwoNodes, build_twice
from buildpipelines.worker.service import Options

_JOB = "image"


def parse_image(text: str) -> tuple[str, str]:
    """Return (HOST/REPOSITORY, tag or digest) of ``HOST/REPOSITORY:TAG`` or ``…@sha256:HEX``.

    Raises:
        FormatError: neither.
    """
    name, at, digest = text.partition("@")
    if at:
        return name, digest
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        raise FormatError(f"{text!r:.200} is neither HOST/REPOSITORY:TAG nor …@sha256:DIGEST")
    return name, tag


async def rebuild_image(
    image: str, options: Mapping[str, RecipeValue], settings: Options
) -> TwoNodes:
    """Record an image's build and replay it.

    Args:
        image: The published image.
        options: What only the requester knows: context, target and so on.
        settings: How the workers run.

    Raises:
        BuildFailure: this machine cannot build.
        FormatError: the image's name or an option is out of form.
    """
    name, version = parse_image(image)
    seconds = int(settings.limits.seconds)
    return await build_twice(TrialParams(_JOB, "docker", name, version, seconds, options), settings)


def image_order(file: OutputFile) -> tuple[int, str]:
    """Return where a part of an image stands in a table."""
    return ("root", "config", "layer").index(file.name.partition("-")[0]), file.name
