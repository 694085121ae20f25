"""Names in container registries: repositories, tags, digests and the references people type. Pure.

Grammar of the OCI distribution specification 1.1 ("Pulling manifests") and of Docker's references:
``[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]``. A first part without dot, colon or the name
``localhost`` is no host, and a bare name of the default registry stands under ``library/``, as
every client reads it.

In the log an image is ``pkg:docker/HOST/REPOSITORY@TAG`` or ``…@sha256:HEX``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci_terms import (
    NAME_LENGTH_MAX,
    OciDigest,
    check_host,
    check_repository,
    check_tag,
    is_digest,
    is_host,
)
from pyrsia_node.model.purl import Purl

__all__ = [
    "LIBRARY",
    "NAME_LENGTH_MAX",
    "PURL_TYPE",
    "TAG_DEFAULT",
    "ImageName",
    "ImageReference",
    "OciDigest",
    "check_host",
    "check_repository",
    "check_tag",
    "default_name",
    "is_digest",
    "is_host",
    "parse_name",
    "parse_reference",
    "split_reference",
]

TAG_DEFAULT: Final = "latest"
PURL_TYPE: Final = "docker"
LIBRARY: Final = "library"


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """A repository at a registry: what tags and digests are looked up under."""

    host: str
    repository: str

    def __post_init__(self) -> None:
        check_host(self.host)
        check_repository(self.repository)
        if len(str(self)) > NAME_LENGTH_MAX:
            raise InvalidInputError(
                f"image name of {len(str(self))} characters exceeds {NAME_LENGTH_MAX}"
            )

    def __str__(self) -> str:
        """Return ``HOST/REPOSITORY``."""
        return f"{self.host}/{self.repository}"

    def purl(self, version: str | None = None) -> Purl:
        """Return the package that the log names this image by; ``version`` is a tag or digest."""
        namespace, _, name = str(self).rpartition("/")
        return Purl(type=PURL_TYPE, namespace=namespace, name=name, version=version)

    @classmethod
    def from_purl(cls, purl: Purl) -> ImageName:
        """Return the image that a ``pkg:docker/…`` names; raises InvalidInputError."""
        host, _, rest = purl.namespace.partition("/")
        if purl.type != PURL_TYPE or not host:
            raise InvalidInputError(f"{purl} names no image: pkg:docker/HOST/REPOSITORY[@TAG]")
        return cls(host, f"{rest}/{purl.name}" if rest else purl.name)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What a person means by ``alpine:3.20``: a name with a tag, a digest, or both."""

    name: ImageName
    tag: str | None
    digest: OciDigest | None

    @property
    def version(self) -> str:
        """Return what stands behind the ``@`` of the purl: the tag if there is one."""
        if self.tag is not None:
            return self.tag
        assert self.digest is not None
        return str(self.digest)

    def __str__(self) -> str:
        """Return the whole reference, which :func:`parse_reference` reads back."""
        tag = "" if self.tag is None else f":{self.tag}"
        return f"{self.name}{tag}" + ("" if self.digest is None else f"@{self.digest}")


def parse_reference(text: str, *, default_host: str) -> ImageReference:
    """Return what a client means by ``text``; without tag and digest the tag is ``latest``.

    Args:
        text: Such as ``alpine``, ``alpine:3.20``, ``ghcr.io/a/b@sha256:…``.
        default_host: The registry of names without one.

    Raises:
        InvalidInputError: No reading of the text is a legal reference.
    """
    name, tag, digest = split_reference(text)
    if tag is None and digest is None:
        tag = TAG_DEFAULT
    return ImageReference(parse_name(name, default_host=default_host), tag, digest)


def split_reference(text: str) -> tuple[str, str | None, OciDigest | None]:
    """Return (name as it was typed, tag, digest) of a reference; raises InvalidInputError.

    The name is not checked: without a registry it depends on the node what it means.
    """
    rest, at, digest_text = text.strip().partition("@")
    digest = OciDigest.parse(digest_text) if at else None
    head, colon, tag_text = rest.rpartition(":")
    # Before the last slash a colon begins a port.
    if colon and "/" not in tag_text:
        return head, check_tag(tag_text), digest
    return rest, None, digest


def parse_name(text: str, *, default_host: str) -> ImageName:
    """Return the image that ``[HOST/]REPOSITORY`` names; raises InvalidInputError."""
    first, slash, rest = text.partition("/")
    if slash and is_host(first):
        return ImageName(first, rest)
    return default_name(text, default_host=default_host)


def default_name(repository: str, *, default_host: str) -> ImageName:
    """Return a repository of the default registry: a bare name stands under ``library/``."""
    full = repository if "/" in repository else f"{LIBRARY}/{repository}"
    return ImageName(default_host, full)
