"""How a watch hands over its events: JSON lines on standard output, or signed POSTs.

A delivery returns only when the receiver has the event: the line is flushed, or the answer was
2xx. Everything else is UnavailableError, which the watch tries again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import urlsplit

import httpx

from pyrsia_cli.output import json_text
from pyrsia_node.model.errors import InvalidInputError, UnavailableError

TIMEOUT_S: Final = 20.0
SECRET_BYTES_MAX: Final = 4096
SECRET_BYTES_MIN: Final = 16
_OTHERS_BITS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Event:
    """An entry that matched: its leaf index, and the entry as ``search`` shows it.

    ``statement`` is the leaf that made an older entry match, if one did.
    """

    index: int
    entry: dict[str, object]
    statement: int | None = None

    @property
    def name(self) -> str:
        """What tells it from all other events about the same log."""
        return f"{self.index}" if self.statement is None else f"{self.index}@{self.statement}"

    def encode(self) -> bytes:
        """Return one line of JSON without its end."""
        return json_text(self.entry, compact=True).encode()


Deliver = Callable[[Event], None]
"""Hands over one event; raises UnavailableError if it may not have arrived."""


def to_stdout(out: TextIO) -> Deliver:
    """Return what prints each event as a line."""

    def deliver(event: Event) -> None:
        out.write(event.encode().decode() + "\n")
        out.flush()

    return deliver


class Webhook:
    """Posts events to one address."""

    def __init__(self, url: str, origin: str, secret: bytes | None) -> None:
        """Post to ``url`` about the log ``origin``; sign with ``secret`` if there is one.

        Raises:
            InvalidInputError: the address is none for HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInputError(f"--webhook {url!r:.200} is no http:// or https:// address")
        self._url = url
        self._origin = origin
        self._secret = secret
        # Redirects are not followed: the body and its signature are for this address alone.
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def __call__(self, event: Event) -> None:
        """Deliver one event; raises UnavailableError."""
        body = event.encode()
        headers = {
            "Content-Type": "application/json",
            "X-Pyrsia-Delivery": f"{self._origin}#{event.name}",
        }
        if self._secret is not None:
            headers["X-Pyrsia-Signature"] = sign(body, self._secret)
        try:
            answer = self._client.post(self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(f"webhook {self._url}: {error}") from error
        if not answer.is_success:
            raise UnavailableError(f"webhook {self._url} answered {answer.status_code}")


def sign(body: bytes, secret: bytes) -> str:
    """Return the value of ``X-Pyrsia-Signature``: HMAC-SHA256 of the body (RFC 2104)."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def read_secret(path: Path) -> bytes:
    """Return the key in a file, without white space around it.

    Raises:
        InvalidInputError: it cannot be read, others may read it, or it is too short or long.
    """
    try:
        if path.stat().st_mode & _OTHERS_BITS:
            raise InvalidInputError(f"{path} can be read by others: chmod 600 {path}")
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise InvalidInputError(
            f"{path} holds {len(secret)} bytes; a key has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
        )
    return secret
