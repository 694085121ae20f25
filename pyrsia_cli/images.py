"""Images as people name them, with the registry that the node means when none is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pyrsia_cli.api import NodeApi
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.oci import (
    ImageName,
    check_repository,
    is_host,
    parse_name,
    split_reference,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.http import NodeStatus
from pyrsia_node.schema.links import Status

_PLATFORM: Final = re.compile(r"[a-z0-9]+(/[A-Za-z0-9._-]+){1,2}")


def checked_platforms(platforms: Sequence[str]) -> list[str]:
    """Return the platforms of ``--platform``; raises InvalidInputError if one is none."""
    for each in platforms:
        if not _PLATFORM.fullmatch(each):
            raise InvalidInputError(
                f"--platform {each!r:.80} is not os/arch[/variant], such as linux/amd64"
            )
    return list(platforms)


def image_purl(api: NodeApi, text: str) -> Purl:
    """Return the image that ``[HOST/]REPOSITORY[:TAG][@DIGEST]`` names at this node.

    Without tag and digest it is the repository as a whole.

    Raises:
        InvalidInputError: The text is no image.
        UnavailableError: It names no registry, and the node does not say which it means.
    """
    name, tag, digest = split_reference(text)
    version = tag if tag is not None or digest is None else str(digest)
    return Purl.parse(str(_image(api, name).purl(version)))


def _image(api: NodeApi, name: str) -> ImageName:
    first, slash, _ = name.partition("/")
    if slash and is_host(first):
        return parse_name(name, default_host=first)
    status = api.get("/api/v1/status", NodeStatus)
    if status.core != "up":
        raise UnavailableError(f"{name} names no registry, and the node's core does not answer")
    default_host = Status.parse(status.dump()).default_registry
    if not default_host:
        raise InvalidInputError(f"{name} names no registry: write HOST/{name}")
    return parse_name(name, default_host=default_host)


def image_path(text: str) -> tuple[str, str | None]:
    """Return where a node's ``/v2`` has the image that people name, and the tag if they name one.

    A name without a registry is left as it is: the node knows its own repositories.

    Raises:
        InvalidInputError: The text is no image, or names a digest.
    """
    name, tag, digest = split_reference(text)
    if digest is not None:
        raise InvalidInputError(f"{text} names a digest, and a digest has no tags")
    first, slash, _ = name.partition("/")
    if slash and is_host(first):
        return f"/v2/f/{parse_name(name, default_host=first)}", tag
    return f"/v2/{check_repository(name)}", tag
