"""What the image service answers: manifests, blobs, steps of a tag. Values only.

Apart from the service, so that who serves them (``gateway.images``) loads no HTTP client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyrsia_node.model.oci import OciDigest

Vouched = Literal["log", "upstream"]
"""Who vouches for it: the log's quorum, or an upstream registry."""

OCTETS = "application/octet-stream"
"""The media type of a blob of which nothing else is known."""


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest or index. ``data`` are its exact bytes, ``media`` its type without parameters.

    ``digest`` is the one that was asked for, else SHA-256. ``headers`` go to the client as they
    are. ``is_private``: it was fetched with credentials; only who may pull it gets it.
    """

    data: bytes
    media: str
    digest: OciDigest
    vouched: Vouched
    headers: tuple[tuple[str, str], ...] = ()
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """A blob that can be opened; ``size`` in bytes. Other members as of ``FoundManifest``."""

    size: int
    media: str
    vouched: Vouched
    headers: tuple[tuple[str, str], ...] = ()
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A step of a tag in the log: the entry at leaf ``index``, in the block of ``time_ms``.

    ``sightings`` are (member, when it saw this digest under the tag, by its own clock).
    """

    digest: str
    media: str
    size: int
    time_ms: int
    index: int
    actor: str
    sightings: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LogWord:
    """What the log says of one reference: the manifest that it means, by which entry.

    ``index`` is the entry's leaf, ``claim`` the manifest's class. ``closed`` says why the network
    wants it served no more, "" if nothing does.
    """

    digest: str
    index: int
    claim: str
    closed: str = ""
