"""Messages about tags that a node follows, on the core's link and in the HTTP API.

Bodies of ``/api/v1/follows`` and parameters of ``follow``, ``unfollow`` and ``follows``
(docs/spec/links.md, docs/spec/http-api.md).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, LongText, Params, Text
from pyrsia_node.schema.mirroring import PLATFORMS_MAX, Platform

EVERY_S_MIN: Final = 10
EVERY_S_MAX: Final = 30 * 86_400
EVERY_S_DEFAULT: Final = 3600


class UnfollowBody(Params):
    """A tag to look at no more; ``name`` and ``version`` as in ``BuildBody``."""

    ecosystem: Literal["docker", "pypi"] = "docker"
    name: Annotated[str, Field(min_length=1, max_length=512)]
    version: Annotated[str, Field(min_length=1, max_length=200)]


class FollowBody(UnfollowBody):
    """A tag to look at every ``every_s`` seconds; what it becomes is imported."""

    platforms: Annotated[list[Platform], Field(max_length=PLATFORMS_MAX)] = Field(
        default_factory=list
    )
    every_s: Annotated[int, Field(ge=EVERY_S_MIN, le=EVERY_S_MAX)] = EVERY_S_DEFAULT


class Followed(Answer):
    """One tag that a node follows: what was seen there last, and what the log says.

    ``node`` is the label or id of the authorized node that looks, ``by`` the node that asked it
    to, "" for its own user. ``seen_ms`` is since when the tag is seen to be ``seen``. Times are
    Unix ms, 0 for never. ``problem`` says why the last look or import brought nothing.
    """

    purl: Text
    platforms: list[Text]
    every_s: Count
    node: Text
    by: Text
    looked_ms: Count
    seen: Text
    seen_ms: Count
    logged: Text
    logged_leaf: Count | None = None
    build_id: Text = ""
    problem: LongText = ""


class Follows(Answer):
    """The tags that this node follows, or has others follow; ``away`` are those not asked."""

    follows: list[Followed]
    away: list[Text] = Field(default_factory=list)
