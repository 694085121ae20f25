"""Bodies of the HTTP API (docs/spec/http-api.md) that no control link carries.

The rest stands in schema/links.py: ``BuildBody``, ``BuildStatus``, ``Builds``, ``Peers``,
``Status``. The gateway and the ``pyrsia`` command share both.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, LongText, Sha256, Text


class ErrorBody(Answer):
    """What went wrong: ``kind`` as on the links, ``message`` for a person."""

    kind: Literal[
        "invalid", "not_found", "verification", "peer", "unavailable", "corrupt", "internal"
    ]
    message: Text


class ErrorAnswer(Answer):
    """The body of every answer of ``/api/v1`` that is not 2xx."""

    error: ErrorBody


class ShortStatus(Answer):
    """``GET /status``: the short form that other nodes bootstrap from."""

    peers_count: Count
    peer_id: Text
    peer_addrs: list[Text]


class GatewayStatus(Answer):
    """The gateway's own part of ``GET /api/v1/status``."""

    uptime_s: float
    cache_bytes: Count
    cache_bytes_max: Count
    blobs: Count


class BlockPosition(Answer):
    """The block that carries a leaf."""

    height: Count
    time_ms: Count


class EntryFile(Answer):
    """A file that an entry vouches for."""

    name: Text
    size: Count
    sha256: Sha256


class Entry(Answer):
    """A leaf of the log. With ``proof=1`` it carries its ``.tlog-proof`` text."""

    index: Count
    type: Text
    leaf: dict[str, object]
    purl: Text | None = None
    status: Text | None = None
    block: BlockPosition
    files: list[EntryFile] = Field(default_factory=list)
    proof: LongText | None = None


class InspectLog(Answer):
    """``GET /api/v1/inspect-log``: every leaf about a purl, in log order, as of a checkpoint."""

    as_of: Count
    root: Sha256
    complete: bool
    entries: list[Entry]


class Search(Answer):
    """``GET /api/v1/search``: newest first; ``next`` is the cursor of the next page."""

    as_of: Count
    root: Sha256
    complete: bool
    hits: list[Entry]
    next: Count | None = None
