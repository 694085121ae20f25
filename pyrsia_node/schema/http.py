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


class NodeStatus(Answer):
    """``GET /api/v1/status``: where ``core`` is up, the fields of ``links.Status`` as well."""

    core: Literal["up", "down"]
    reason: Text = ""


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


class StatementRef(Answer):
    """A statement about an entry: its leaf, and ``withdraw``, ``revoke`` and so on."""

    index: Count
    type: Text


class Entry(Answer):
    """A leaf of the log. With ``proof=1`` it carries its ``.tlog-proof`` text."""

    index: Count
    type: Text
    leaf: dict[str, object]
    purl: Text | None = None
    status: Text | None = None
    block: BlockPosition
    files: list[EntryFile] = Field(default_factory=list)
    statements: list[StatementRef] = Field(default_factory=list)
    proof: LongText | None = None


class Stamped(Answer):
    """What an answer holds for: the first ``as_of`` leaves of the log of ``size`` and ``root``.

    ``complete`` is False if something may be missing: the index is behind, or a row was dropped.
    """

    as_of: Count
    size: Count
    root: Sha256
    complete: bool


class InspectLog(Stamped):
    """``GET /api/v1/inspect-log``: every leaf about a purl, in log order."""

    entries: list[Entry]


class Search(Stamped):
    """``GET /api/v1/search``: a page in ``order``; ``next`` is the cursor of the next page.

    ``matches`` is how many hits were ranked. A ranked answer has the best of them and no ``next``.
    """

    order: Literal["newest", "log", "rank"]
    hits: list[Entry]
    next: Count | None = None
    matches: Count | None = None


class Entries(Stamped):
    """``GET /api/v1/entries``: leaves in a row; ``next`` is the first of the next page."""

    entries: list[Entry]
    next: Count | None = None


class BlockLine(Answer):
    """A block: leaves [first, end), the header at ``first``."""

    height: Count
    first: Count
    end: Count
    time_ms: Count
    header: Entry


class Blocks(Stamped):
    """``GET /api/v1/blocks``: newest first."""

    blocks: list[BlockLine]
