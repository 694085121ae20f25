"""The door of ``/v2`` over a real database, with time that the test moves: who asks, and tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pyrsia_node.gateway.images.access import AccessError, AccessGate, Rights
from pyrsia_node.gateway.images.token_endpoint import TokenEndpoint
from pyrsia_node.ports.registry import Grant, Namespace, User
from pyrsia_node.registry.access import Action, AnonymousMode
from pyrsia_node.registry.accounts import Accounts
from pyrsia_node.registry.passwords import PasswordChecker, PasswordCost, hash_password
from pyrsia_node.registry.tokens import TokenSigner
from pyrsia_node.store.registry_db import SqliteRegistryDb
from pyrsia_node.transfer.asgi import Message, Scope

CHEAP = PasswordCost(passes=1, memory_bytes=8192)
PASSWORD = "correct horse"
STORED = hash_password(PASSWORD, CHEAP)


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Door:
    """Gate and token endpoint of one gateway, with time that the test moves."""

    db: SqliteRegistryDb
    anonymous: AnonymousMode
    now_s: float = 1_000_000.0
    accounts: Accounts = field(init=False)
    gate: AccessGate = field(init=False)
    endpoint: TokenEndpoint = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.db, self.anonymous, lambda: self.now_s)
        signer = TokenSigner(b"k" * 32)
        checker = PasswordChecker(lambda: self.now_s, CHEAP)
        self.gate = AccessGate(self.accounts, checker, signer, self.now_ms)
        self.endpoint = TokenEndpoint(self.gate, self.accounts, signer, self.now_ms)

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    async def rights(self, authorization: str | None = None) -> Rights:
        headers = [] if authorization is None else [(b"authorization", authorization.encode())]
        return await self.gate.identify(scope_of("GET", headers))

    async def token(
        self,
        query: str = "",
        *,
        authorization: str | None = None,
        form: dict[str, str] | None = None,
        media: str = "application/x-www-form-urlencoded",
        method: str = "",
    ) -> Answered:
        """Ask for a token: GET with a query, or POST with a form."""
        headers = [] if authorization is None else [(b"authorization", authorization.encode())]
        headers.append((b"content-type", media.encode()))
        method = method or ("GET" if form is None else "POST")
        scope = {**scope_of(method, headers), "query_string": query.encode()}
        body = urlencode(form or {}).encode()
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.endpoint(scope, receive, send)
        shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], shown, json.loads(sent[1]["body"]))


def scope_of(method: str, headers: list[tuple[bytes, bytes]]) -> Scope:
    known = [(b"host", b"node:7888"), *headers]
    return {"type": "http", "scheme": "https", "method": method, "headers": known}


def basic(name: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@contextmanager
def _database(folder: Path) -> Iterator[SqliteRegistryDb]:
    db = SqliteRegistryDb(folder / "registry.sqlite", create=True)
    try:
        db.put_user(User("alice", STORED, (Grant("team", may_push=True),)))
        db.put_user(User("bob", STORED, (Grant("team", may_push=False),)))
        db.put_namespace(Namespace("team", is_private=True))
        yield db
    finally:
        db.close()


def story(
    folder: Path, act: Callable[[Door], Awaitable[None]], anonymous: AnonymousMode = "pull"
) -> None:
    """Act at a door with alice (push), bob (pull) and a private namespace ``team``."""
    with _database(folder) as db:
        asyncio.run(_awaited(act(Door(db, anonymous))))


async def _awaited(act: Awaitable[None]) -> None:
    await act


def refusal(rights: Rights, action: Action, repository: str) -> AccessError:
    with pytest.raises(AccessError) as caught:
        rights.check(action, repository)
    return caught.value
