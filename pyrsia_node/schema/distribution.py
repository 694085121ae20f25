"""Bodies of ``/v2`` as the command reads them: errors, tags, steps of a tag's history.

The distribution specification's forms, and ours where docs/spec/registry-api.md says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, LongText, Text

DigestText = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")]


class DistributionError(Answer):
    """One error: a code of the specification, and a line for a person."""

    code: Text
    message: LongText = ""


class DistributionErrors(Answer):
    """The body of an answer of ``/v2`` that is not 2xx."""

    errors: Annotated[list[DistributionError], Field(min_length=1)]


class TagList(Answer):
    """``tags/list``: a page of tags."""

    name: Text
    tags: list[Text]


class Sighting(Answer):
    """A member, and when it saw a digest under a tag, by its own clock."""

    member: Text
    seen: Text


class TagStep(Answer):
    """``_oci/tag-history``: what a tag became, when, by whom; ``index`` is the log's leaf.

    ``deleted`` and ``deleted_by`` say that the tag was deleted before it became anything else.
    """

    media: Text = Field(alias="mediaType")
    digest: DigestText
    size: Count
    created: Text
    actor: Text = ""
    verified: Literal["log", "local"]
    deleted: Text | None = None
    deleted_by: Text | None = Field(default=None, alias="deletedBy")
    index: Count | None = None
    sightings: list[Sighting] = Field(default_factory=list)


class TagSteps(Answer):
    """A page of steps; on the wire it is the bare list."""

    steps: list[TagStep]
