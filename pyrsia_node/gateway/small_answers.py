"""Answers that the services of packages share: computed bodies, and what is said of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import islice
from typing import Final

from pyrsia_node.artifacts.statements import ProvedStatement
from pyrsia_node.transfer.asgi import Scope, Send, answer, answer_empty, header
from pyrsia_node.transfer.conditions import http_date, is_known

IMMUTABLE: Final = ("cache-control", "public, max-age=31536000, immutable")
"""With what never changes under its name."""

STATEMENTS_SHOWN: Final = 8


async def send_small(
    scope: Scope,
    send: Send,
    body: bytes,
    *,
    media: str,
    headers: Iterable[tuple[str, str]] = (),
    modified_s: int | None = None,
) -> None:
    """Send a computed body with an ETag, or 304; ``modified_s`` is its time in Unix seconds."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    fields = [("etag", etag), *headers]
    if modified_s is not None:
        fields.append(("last-modified", http_date(modified_s)))
    conditions = header(scope, b"if-none-match"), header(scope, b"if-modified-since")
    if is_known(*conditions, etag=etag, modified_s=modified_s):
        await answer_empty(scope, send, 304, fields)
        return
    await answer(scope, send, 200, body, media=media, headers=fields)


def statement_fields(said: Iterable[ProvedStatement]) -> list[tuple[str, str]]:
    """Return what was said of a file, one header field for each statement."""
    # A reason is text from a member: a header takes printable ASCII and nothing else.
    return [
        ("x-pyrsia-statement", "".join(c if " " <= c <= "~" else "?" for c in each.text))
        for each in islice(said, STATEMENTS_SHOWN)
    ]
