"""Messages about mappings, ``sources``: of the control link and, under the same names, of HTTP.

docs/spec/links.md, docs/spec/http-api.md; what a mapping is: ``pyrsia_node.model.mappings``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.schema.fields import Answer, Count, Params, PeerIdText, Text

SOURCES_MAX = 50
"""Mappings of one answer: the largest, which 88 members approved, have some 17 kB."""


class SourcesParams(Params):
    """``sources``: the mapping that counts for ``purl``; without one all, those behind ``after``.

    Both "" is the first page.
    """

    purl: Annotated[str, Field(max_length=512)] = ""
    after: Annotated[str, Field(max_length=512)] = ""


class ApproverLine(Answer):
    """A member whose approval carried a mapping; its label is "" once it has left the set."""

    id: PeerIdText
    label: Text


class SourceLine(Answer):
    """A mapping that counts, and the leaf that says so."""

    pattern: Text
    repository: Text
    tag: Text
    recipe: JsonObject
    reason: Text
    leaf: Count
    approved_by: list[ApproverLine]


class Sources(Answer):
    """``sources``: in order of pattern; ``is_last`` says that no more follow."""

    sources: list[SourceLine]
    is_last: bool
