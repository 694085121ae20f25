"""Messages about members and motions: of the control link and, under the same names, of HTTP.

A *motion* is an operation that needs a quorum of approvals (a member more, a member less, other
keys, another parameter, a revocation), from the first admin's wish until a block holds it.
docs/spec/links.md, docs/spec/http-api.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.schema.fields import Answer, Count, LongText, Params, PeerIdText, Sha256, Text

HEIGHTS_DEFAULT = 10_000
"""Heights after which an approval lapses if nothing else is said."""

MotionOperation = Literal[
    "add_node", "remove_node", "rotate_key", "set_param", "withdraw", "revoke", "add_source"
]
AdviceOperation = Literal["deprecate", "vulnerable"]
Heights = Annotated[int, Field(ge=1, le=10_000_000)]


class MemberLine(Answer):
    """A member of the set in force."""

    id: PeerIdText
    label: Text
    connected: bool
    height: Count | None = None


class ApprovalLine(Answer):
    """A member's yes: it counts up to the height ``expiry``."""

    id: PeerIdText
    label: Text
    expiry: Count


class MotionLine(Answer):
    """An operation on its way. ``content`` is absent while no node has told what it is."""

    subject: Sha256
    op: Text
    title: Text
    content: JsonObject | None = None
    candidate: PeerIdText | None = None
    approvals: list[ApprovalLine]
    missing: list[Text]
    needed: Count
    is_own: bool
    detail: LongText = ""


class Members(Answer):
    """``members``: who votes, by which parameters, and what is under way."""

    height: Count
    epoch: Count
    members: list[MemberLine]
    n: Count
    f: Count
    q: Count
    note: Text
    params: JsonObject
    motions: list[MotionLine]


class MotionBody(Params):
    """``propose``: an operation and its content, as its transaction names them.

    The content of ``add_node`` is {peer} or {record}; that of ``rotate_key`` is empty.
    """

    op: MotionOperation
    content: dict[str, object]
    heights: Heights = HEIGHTS_DEFAULT


class ApproveParams(Params):
    """``approve``: a motion that somebody else has brought."""

    subject: Sha256
    heights: Heights = HEIGHTS_DEFAULT


class ApproveBody(Params):
    """The body of ``POST /api/v1/motions/{subject}/approve``."""

    heights: Heights = HEIGHTS_DEFAULT


class AdviceBody(Params):
    """``advise``: one member's word about a package."""

    op: AdviceOperation
    content: dict[str, object]


class MotionTaken(Answer):
    """``propose`` and ``approve``: this node's approval is on its way into the log."""

    subject: Sha256
    op: Text
    title: Text
    transaction: Sha256
    needed: Count


class AdviceTaken(Answer):
    """``advise``: the statement is on its way into the log."""

    transaction: Sha256
