"""Names in container registries: repositories, tags, digests and the references people type. Pure.

Grammar of the OCI distribution specification 1.1 ("Pulling manifests") and of Docker's references:
``[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]``. A first part without dot, colon or the name
``localhost`` is no host, and a bare name of the default registry stands under ``library/``, as
every client reads it.

In the log an image is ``pkg:docker/HOST/REPOSITORY@TAG`` or ``…@sha256:HEX``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl

NAME_LENGTH_MAX: Final = 255
"""Characters of host, slash and repository together, as clients limit them."""

TAG_DEFAULT: Final = "latest"
PURL_TYPE: Final = "docker"
LIBRARY: Final = "library"

_ALNUM: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_ALNUM}(?:/{_ALNUM})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST: Final = re.compile(
    r"(?:\[[0-9a-f:]+\]|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)"
    r"(?::[1-9][0-9]{0,4})?"
)
_HEX_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class OciDigest:
    """A digest of the algorithms that registries use; ``hex`` is lower case."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        """Return ``ALGORITHM:HEX``."""
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> OciDigest:
        """Return the digest that ``sha256:…`` or ``sha512:…`` spells.

        Raises:
            InvalidInputError: Another algorithm, or not its number of lowercase hex digits.
        """
        algorithm, _, digits = text.partition(":")
        length = _HEX_LENGTHS.get(algorithm)
        if length is None:
            raise InvalidInputError(f"digest {text!r:.100} is neither sha256:… nor sha512:…")
        if len(digits) != length or not _HEX.fullmatch(digits):
            raise InvalidInputError(f"digest {text!r:.150} has not {length} lowercase hex digits")
        return cls(algorithm, digits)

    @classmethod
    def sha256(cls, digits: str) -> OciDigest:
        """Return the SHA-256 digest with these 64 hex digits."""
        return cls.parse(f"sha256:{digits}")


def is_digest(reference: str) -> bool:
    """Tell whether the last part of a manifest's path is meant as a digest: tags hold no colon."""
    return ":" in reference


def check_repository(name: str) -> str:
    """Return ``name`` if it is a legal repository.

    Raises:
        InvalidInputError: It is not; the text says what is allowed.
    """
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidInputError(
            f"repository name of {len(name)} characters exceeds {NAME_LENGTH_MAX}"
        )
    if not _REPOSITORY.fullmatch(name):
        raise InvalidInputError(
            f"repository {name!r:.100} is not legal: lower-case letters and digits, parts separated"
            " by slashes, with single '.', '_', '__' or hyphens inside a part"
        )
    return name


def check_tag(tag: str) -> str:
    """Return ``tag`` if it is a legal tag; raises InvalidInputError."""
    if not _TAG.fullmatch(tag):
        raise InvalidInputError(
            f"tag {tag!r:.140} is not legal: up to 128 letters, digits, '_', '.' and '-',"
            " not beginning with '.' or '-'"
        )
    return tag


def check_host(host: str) -> str:
    """Return ``host`` if it is a registry's ``HOST[:PORT]`` in lower case.

    Raises:
        InvalidInputError: It is not.
    """
    if len(host) > NAME_LENGTH_MAX or not _HOST.fullmatch(host):
        raise InvalidInputError(f"registry {host!r:.100} is no HOST[:PORT] in lower case")
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else "1"
    if int(port) > 65_535:
        raise InvalidInputError(f"registry {host!r:.100} has no such port")
    return host


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
    rest, at, digest_text = text.strip().partition("@")
    digest = OciDigest.parse(digest_text) if at else None
    head, colon, tag_text = rest.rpartition(":")
    tag: str | None = None
    # Behind a slash a colon begins a port, before the last slash it cannot begin a tag.
    if colon and "/" not in tag_text:
        rest, tag = head, check_tag(tag_text)
    elif digest is None:
        tag = TAG_DEFAULT
    return ImageReference(parse_name(rest, default_host=default_host), tag, digest)


def parse_name(text: str, *, default_host: str) -> ImageName:
    """Return the image that ``[HOST/]REPOSITORY`` names; raises InvalidInputError."""
    first, slash, rest = text.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return ImageName(first, rest)
    return default_name(text, default_host=default_host)


def default_name(repository: str, *, default_host: str) -> ImageName:
    """Return a repository of the default registry: a bare name stands under ``library/``."""
    full = repository if "/" in repository else f"{LIBRARY}/{repository}"
    return ImageName(default_host, full)
