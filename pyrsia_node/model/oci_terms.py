"""The terms of container registries: digests, tags, repositories, hosts of registries. Pure.

Each has one grammar, here; whether a transaction is valid depends on it, so it is ASCII rules of
our own. Names made of them are in ``model.oci`` and ``model.purl``.
Source: OCI distribution specification 1.1, "Pulling manifests", and Docker's references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

NAME_LENGTH_MAX: Final = 255
"""Characters of host, slash and repository together, as clients limit them."""

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


def is_host(text: str) -> bool:
    """Tell whether the first part of a reference is a registry and no part of a repository."""
    return text == "localhost" or "." in text or ":" in text
