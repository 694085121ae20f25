"""``joining``, ``closed``, ``find``, ``entries``: what a gateway asks before there is history."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from pyrsia_node.schema.fields import Answer, Count, LongText, Params

CLOSED_PAGE_MAX: Final = 4_000
"""Most keys in one page."""

ENTRIES_ASKED_MAX: Final = 64
FRAME_TEXT_MAX: Final = 700_000
"""Most characters of placed leaves in one answer, so that a frame holds it."""

Word = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z]+/[0-9a-f]+$", max_length=100)]
Base64 = Annotated[str, StringConstraints(max_length=200_000)]


class JoiningState(Answer):
    """``joining``: the head under which entries are proved; ``log/trust`` says whose it is."""

    note: LongText


class ClosedParams(Params):
    """``closed``: keys after this one; empty for the first page."""

    after: Annotated[str, Field(max_length=100)] = ""


class Closing(Answer):
    """``withdrawn/<leaf>`` or ``revoked/<sha256>``, and the leaf of the statement."""

    key: Key
    leaf: Count


class ClosedPage(Answer):
    """``closed``: in order of key; ``is_last`` says that no more follow."""

    closed: list[Closing]
    is_last: bool


class FindParams(Params):
    """``find``: a package."""

    ecosystem: Word
    name: Word


class FoundLeaves(Answer):
    """``find``: where its accepted entries, and statements about it, stand: hints."""

    entries: list[Count]
    statements: list[Count]


class EntriesParams(Params):
    """``entries``: leaves to be proved."""

    leaves: Annotated[list[Count], Field(min_length=1, max_length=ENTRIES_ASKED_MAX)]


class PlacedLeaves(Answer):
    """``entries``: as many of them, from the first on, as fit; base64 of their wire form."""

    placed: list[Base64]
