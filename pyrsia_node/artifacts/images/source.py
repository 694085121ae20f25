"""The port through which upstream registries are asked for what the log does not know.

Apart from its implementation (``proxy``), because most nodes ask no upstream and need not load an
HTTP client for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.oci import ImageName, OciDigest


@dataclass(frozen=True, slots=True)
class HeldManifest:
    """A manifest that an upstream gave, now in the blob store as ``sha256``.

    ``is_stale``: the upstream could not be asked just now what the tag means.
    """

    data: bytes
    media: str
    digest: OciDigest
    sha256: str
    is_private: bool
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class HeldBlob:
    """A blob that an upstream has. ``sha256`` is None until it is known."""

    size: int
    sha256: str | None
    is_private: bool


class ImageSource(Protocol):
    """Upstream registries, as far as this node may ask them.

    All calls raise NotFoundError (the upstream says that there is no such thing, or none may be
    asked about the name), UnavailableError (it cannot be asked now) or VerificationError (it sent
    other bytes than the digest says; nothing was kept).
    """

    def may_ask(self, name: ImageName) -> bool:
        """Tell whether the configuration allows to ask the registry of this image."""
        ...

    def is_private(self, name: ImageName) -> bool:
        """Tell whether credentials are configured for the image: then only some may pull it."""
        ...

    async def manifest(self, name: ImageName, reference: str) -> HeldManifest:
        """Return what a tag or digest means."""
        ...

    async def stat(self, name: ImageName, digest: OciDigest) -> HeldBlob:
        """Tell a blob's size without fetching it."""
        ...

    async def open(self, name: ImageName, digest: OciDigest) -> tuple[Reader, str]:
        """Return a reader, which may be ahead of the fetch, and the blob's SHA-256."""
        ...

    async def tags(self, name: ImageName) -> list[str]:
        """Return the repository's tags."""
        ...

    async def knows(self, name: ImageName) -> bool:
        """Tell whether the upstream has the repository; raises UnavailableError alone."""
        ...
