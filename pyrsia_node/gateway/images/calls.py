"""One request to ``/v2`` as its handlers see it, and the answers that they share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.gateway.images.access import Rights
from pyrsia_node.gateway.images.errors import FIELDS, JSON
from pyrsia_node.gateway.images.routes import Route, RouteError
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer, answer_empty, header

PAGE_MAX: Final = 1000
"""Longest page of a list; who wants more follows ``Link``."""

Fields = list[tuple[str, str]]


@dataclass(slots=True)
class Call:
    """A request: what it is about, who asks, and how to answer."""

    scope: Scope
    receive: Receive
    send: Send
    route: Route
    query: Sequence[tuple[str, str]]
    rights: Rights
    fields: Fields = field(default_factory=list)
    """Header fields that go with every good answer."""

    def header(self, name: bytes) -> str | None:
        """Return a request header."""
        return header(self.scope, name)

    def parameter(self, name: str) -> str | None:
        """Return the first value of a query field."""
        return next((value for key, value in self.query if key == name), None)

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return all values of a query field."""
        return tuple(value for key, value in self.query if key == name)

    async def answer_empty(self, status: int, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Answer without a body."""
        await answer_empty(self.scope, self.send, status, [*FIELDS, *self.fields, *fields])

    async def answer_json(
        self, value: object, fields: Iterable[tuple[str, str]] = (), *, media: str = JSON
    ) -> None:
        """Answer with a document."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        headers = [*FIELDS, ("cache-control", "no-cache"), *self.fields, *fields]
        await answer(self.scope, self.send, 200, body, media=media, headers=headers)


def digest_of(text: str) -> OciDigest:
    """Return a digest that a client sent; raises RouteError with ``DIGEST_INVALID``."""
    try:
        return OciDigest.parse(text)
    except InvalidInputError as error:
        raise RouteError(400, "DIGEST_INVALID", str(error)) from error


def page_size(call: Call) -> int:
    """Return how long a page may be; raises RouteError if ``n`` is no number."""
    text = call.parameter("n")
    if text is None:
        return PAGE_MAX
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RouteError(400, "UNSUPPORTED", f"n={text[:40]!r} is no number")
    return min(int(text), PAGE_MAX)
