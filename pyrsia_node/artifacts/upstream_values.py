"""What an upstream index says, as values, and the port through which it is asked.

Apart from the implementation, because most nodes have no upstream and need not load an HTTP client
and an HTML parser for it (about 20 MB and a quarter of a second).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyrsia_node.ports import BlobInfo


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """A file that the upstream's page lists with a SHA-256."""

    name: str
    version: str | None
    url: str
    sha256: str
    size: int | None
    requires_python: str | None
    yanked: str | None
    """The reason, perhaps empty; None if the file is not yanked."""
    upload_time: str | None


@dataclass(frozen=True, slots=True)
class UpstreamProject:
    """A project's page. ``is_stale``: the upstream could not be asked just now."""

    name: str
    files: dict[str, UpstreamFile]
    is_stale: bool = False


class UpstreamIndex(Protocol):
    """An index that may be asked for what the log does not know."""

    async def project(self, name: str) -> UpstreamProject:
        """Return a project's page; raises NotFoundError or UnavailableError."""
        ...

    async def fetch(self, file: UpstreamFile) -> BlobInfo:
        """Return when the file is in the store, checked against the page's SHA-256.

        Raises VerificationError or UnavailableError.
        """
        ...
