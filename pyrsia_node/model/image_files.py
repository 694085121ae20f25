"""Files of an image in a document: how they are called, and what every image document has. Pure.

A file is ``ROLE-`` and the first 16 digits of its SHA-256; one that its image names by SHA-512 is
``ROLE-sha512-`` and that digest whole, for a file entry has no other place to say it. So a leaf
alone tells by which digest each manifest, config and layer is asked for.
Specification: docs/spec/leaves.md, "Images"; reasons: docs/adr/0012-images-in-the-log.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeVar

from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci_terms import OciDigest, is_digest

ROOT: Final = "root"
"""The manifest or index that a tag is: every image document has exactly one."""

ROLES: Final = ("config", "layer", "manifest", ROOT)

PREFIX_DIGITS: Final = 16
"""Digits of a SHA-256 in a name. The entry has the digest itself: this only tells files apart."""

_NAME: Final = re.compile(
    rf"(config|layer|manifest|root)-([0-9a-f]{{{PREFIX_DIGITS}}}|sha512-[0-9a-f]{{128}})"
)


class ImageFile(Protocol):
    """What the rules need of a file entry."""

    @property
    def name(self) -> str:
        """Return the file's name."""
        ...

    @property
    def sha256(self) -> Sha256:
        """Return the file's digest."""
        ...


_F = TypeVar("_F", bound=ImageFile)


def root_of(files: Sequence[_F]) -> _F:
    """Return the one root among the files of an image; raises InvalidInputError."""
    roots = [each for each in files if role_of(each.name) == ROOT]
    if len(roots) != 1:
        raise InvalidInputError(f"an image has exactly one root, not {len(roots)}")
    return roots[0]


def file_name(role: str, digest: OciDigest) -> str:
    """Return what a file is called that its image names by ``digest``."""
    if digest.algorithm == "sha256":
        return f"{role}-{digest.hex[:PREFIX_DIGITS]}"
    return f"{role}-{digest.algorithm}-{digest.hex}"


def role_of(name: str) -> str:
    """Return the role that a file's name tells; raises InvalidInputError if it tells none."""
    return _parsed(name)[0]


def named_digest(name: str, sha256: Sha256) -> OciDigest:
    """Return the digest by which its image names a file.

    Raises:
        InvalidInputError: The name is none of an image's file, or of another digest.
    """
    _, digits = _parsed(name)
    if digits.startswith("sha512-"):
        return OciDigest("sha512", digits.removeprefix("sha512-"))
    if not sha256.startswith(digits):
        raise InvalidInputError(f"{name} is not called by its sha256, {sha256}")
    return OciDigest("sha256", sha256)


def check_image_files(
    files: Sequence[ImageFile], *, version: str | None, contradicted: Mapping[str, Sha256]
) -> None:
    """Check what holds of every document about an image.

    Args:
        files: The entries of the document.
        version: The tag, or the digest that the root must then have.
        contradicted: Files that the upstream publishes with other bytes than a rebuild, by name:
            the root may be one of them, and the digest is then that of the published root.

    Raises:
        InvalidInputError: A name fits no file of an image; not exactly one root; another root.
    """
    digests = {each.name: str(named_digest(each.name, each.sha256)) for each in files}
    name = root_of(files).name
    published = contradicted.get(name)
    root = digests[name] if published is None else f"sha256:{published}"
    if version is not None and is_digest(version) and root != version:
        raise InvalidInputError(f"the root is {root}, the image was named by {version}")


def context_name(sha256: Sha256) -> str:
    """Return what the context of a rebuilt image is called: the files that its build may read."""
    return f"context-{sha256[:PREFIX_DIGITS]}.tar.gz"


def _parsed(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"{name!r:.200} is no file of an image: ROLE- and {PREFIX_DIGITS} digits of its sha256"
        )
    return match[1], match[2]
