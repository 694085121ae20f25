"""What is told of an entry's explanations, on the control link and over HTTP. Pure.

An explanation is one member's comparison of its own build with what is published
(docs/design/maven.md, "Explained"). ``document`` is passed on as it is: its canonical bytes have
the digest that the member's item in the log names, so whoever reads it can check it.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, Params, PeerIdText, Sha256, Text

DOCUMENTS_MAX: Final = 8
"""Explanations that one answer holds; others are named by their digests."""


class LeafParams(Params):
    """``explained``: which outcome in the log."""

    leaf: Count


class ExplanationParams(Params):
    """``explanation``: which document, of those that the items about a leaf name."""

    leaf: Count
    sha256: Sha256


class Explainer(Answer):
    """A member that built, and which explanation its item names.

    ``leaf`` is where the item's batch stands in the log, ``number`` which of the batch it is.
    """

    id: PeerIdText
    label: Text
    level: Annotated[int, Field(ge=0, le=3)]
    leaf: Count
    number: Count
    explained: Sha256 | None = None


class Explained(Answer):
    """``explained``: who built what an outcome is about."""

    leaf: Count
    request: Sha256
    purl: Text
    members: list[Explainer]


class ExplanationAnswer(Answer):
    """``explanation``: the document, or why it is not to be had."""

    sha256: Sha256
    document: dict[str, object] | None = None
    problem: Text = ""


class EntryExplanations(Explained):
    """``GET /api/v1/entries/{leaf}/explanations``: each different explanation once."""

    explanations: list[ExplanationAnswer]


# ------------------------------------------------------------- the document itself


class Content(Answer):
    """Bytes by digest; ``size`` in bytes."""

    sha256: Sha256
    size: Count


class Counts(Answer):
    """How many entries are equal to the byte, differ, or are on one side alone."""

    equal: Count
    differ: Count
    built_only: Count
    published_only: Count


class Difference(Answer):
    """One thing that differs: what of which entry, where the difference ends, and by which rule."""

    path: Text
    attribute: Text
    built: Text
    published: Text
    level: Annotated[int, Field(ge=1, le=3)]
    rule: Text


class ComparedFile(Answer):
    """The comparison of one file; ``level`` -1 is "nothing is published"."""

    name: Text
    level: Annotated[int, Field(ge=-1, le=3)]
    built: Content
    published: Content | None = None
    entries: Counts
    classes: Counts
    differences: list[Difference]
    more: Count


class ExplanationDocument(Answer):
    """One member's comparison of all files of a build."""

    purl: Text
    rules: Sha256
    tool: Text
    files: list[ComparedFile]
