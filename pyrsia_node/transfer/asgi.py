"""The few ASGI types and answers that the raw routes share.

Routes that carry bytes or are asked thousands of times a second are plain ASGI callables
(docs/ARCHITECTURE.md 2 has the measurements); this module keeps them short. ASGI 3.0, HTTP only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WHOLE: Final = "pyrsia.whole"
"""ASGI extension for answers that are asked for thousands of times a second: a call
(status, header lines, body) that sends all at once and tells whether it did. If it did not, because
the client does not take what came before, the ordinary way waits for that client."""

AnswerWhole = Callable[[int, bytes, bytes | bytearray], bool]


def header(scope: Scope, name: bytes) -> str | None:
    """Return the values of a request header joined by commas, or None.

    One client sends six ``Accept`` lines in random order; RFC 9110 5.3 says that they mean one
    comma-separated list.
    """
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values).decode("latin-1") if values else None


async def start(send: Send, status: int, headers: Iterable[tuple[str, str]]) -> None:
    """Send the head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": encoded(headers)})


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return header fields as the server takes them."""
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes,
    *,
    media: str,
    headers: Iterable[tuple[str, str]] = (),
) -> None:
    """Send a whole answer; for HEAD the length alone."""
    base = [("content-type", media), ("content-length", str(len(body)))]
    await answer_at_once(scope, send, status, encoded([*base, *headers]), body)


async def answer_at_once(
    scope: Scope, send: Send, status: int, headers: Headers, body: bytes | bytearray
) -> None:
    """Send a small answer with all its headers, in one write where the server offers that.

    ``content-length`` is among the headers; for HEAD the body is left out. What stands between the
    server and the application for pages of other origins has to see the answer: those go the
    ordinary way.
    """
    whole: AnswerWhole | None = (scope.get("extensions") or {}).get(WHOLE)
    shown = b"" if scope["method"] == "HEAD" else body
    if whole is not None and not any(name == b"origin" for name, _ in scope["headers"]):
        lines = b"".join([b"%b: %b\r\n" % field for field in headers])
        if not lines.count(b"\n") == lines.count(b"\r") == len(headers):
            raise ValueError("a header value may not end its line and begin another one")
        if whole(status, lines, shown):
            return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": shown, "more_body": False})


async def answer_text(
    scope: Scope, send: Send, status: int, text: str, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Send a line of plain text."""
    body = (text + "\n").encode()
    await answer(scope, send, status, body, media="text/plain; charset=utf-8", headers=headers)


async def answer_empty(
    scope: Scope, send: Send, status: int, headers: Iterable[tuple[str, str]] = ()
) -> None:
    """Send an answer without a body (redirects, 304)."""
    del scope
    length = [] if status in {204, 304} else [("content-length", "0")]
    await start(send, status, [*length, *headers])
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def may_read(scope: Scope) -> bool:
    """Tell whether the method is GET or HEAD."""
    return scope["method"] in {"GET", "HEAD"}
