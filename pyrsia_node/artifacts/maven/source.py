"""The port through which upstream repositories are asked for what the log does not know.

Apart from its implementation (``upstream``), because most nodes ask no upstream and need not load
an HTTP client for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyrsia_node.artifacts.maven.listings import Listing
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.maven import MavenFile
from pyrsia_node.ports.maven import KeptFile


@dataclass(frozen=True, slots=True)
class Sighting:
    """What upstreams list at a path. ``is_stale``: one of them could not be asked just now.

    An empty one that is stale says that there was nothing when they were last asked.
    """

    listing: Listing
    is_stale: bool = False


class MavenSource(Protocol):
    """Upstream repositories, as far as this node may ask them.

    All calls raise NotFoundError (no upstream has it), UnavailableError (one that comes first
    cannot be asked now) or VerificationError (bytes and checksum do not fit; nothing was kept).
    """

    async def file(self, file: MavenFile) -> KeptFile:
        """Return what was taken in under the file's path; takes it in where nothing was."""
        ...

    async def open(self, kept: KeptFile) -> Reader:
        """Return a reader of its bytes; they are fetched again if they left the cache."""
        ...

    async def signature(self, file: MavenFile, upstream: str | None) -> KeptFile:
        """Return the file's detached signature, of one upstream or of the first that has it."""
        ...

    async def listing(self, path: str) -> Sighting:
        """Return what all upstreams together list at the path of a ``maven-metadata.xml``."""
        ...
