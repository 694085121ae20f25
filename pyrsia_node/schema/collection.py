"""Bodies of the HTTP API about garbage collection (docs/spec/http-api.md).

``CollectionReport`` and ``Explanation`` are also what the collector itself returns.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, LongText, Params, Sha256, Text

DIGESTS_NAMED_MAX = 1000
"""Digests that a report names; the counts tell all of them."""

Stage = Literal["idle", "uploads", "orphans", "links", "cache", "blobs"]


class CollectionOrder(Params):
    """``POST /api/v1/gc``."""

    dry_run: bool = False


class CollectionReport(Answer):
    """What a collection did, or with ``dry_run`` would have done.

    ``links`` are blobs taken out of repositories that did not need them, ``blobs`` and ``bytes``
    what left the store, ``evicted`` those of them that left the cache for want of space,
    ``orphans`` those that no row of the registry named, ``busy`` those that somebody was just
    reading, which go another time.
    """

    number: Count
    dry_run: bool
    started_ms: Count
    ended_ms: Count
    uploads: Count = 0
    links: Count = 0
    orphans: Count = 0
    evicted: Count = 0
    blobs: Count = 0
    bytes: Count = 0
    busy: Count = 0
    digests: Annotated[list[Sha256], Field(max_length=DIGESTS_NAMED_MAX)] = Field(
        default_factory=list
    )
    error: LongText = ""


class CollectionStatus(Answer):
    """``GET /api/v1/gc``: what is under way, the last report, when the next one begins.

    ``number`` counts collections since the start, the one under way included; ``done`` is how many
    things its stage has looked at. ``next_ms`` is 0 where only people begin one.
    """

    number: Count
    stage: Stage
    done: Count
    next_ms: Count
    last: CollectionReport | None = None


class KeptBecause(Answer):
    """One reason why a blob is kept; ``until_ms`` where time alone ends it."""

    kind: Literal[
        "tag",
        "manifest",
        "subject",
        "stored",
        "blob",
        "proxied",
        "used",
        "closing",
        "orphan",
        "pinned",
        "cached",
        "leased",
    ]
    text: LongText
    repository: Text = ""
    name: Text = ""
    until_ms: Count | None = None


class Explanation(Answer):
    """``GET /api/v1/gc/explain``: why the bytes of a digest are here, and when they go."""

    digest: Text
    sha256: Text
    present: bool
    size: Count = 0
    shared: bool = False
    local: bool = False
    reasons: list[KeptBecause]
    verdict: LongText
