"""``/v2/token``: where clients trade credentials for Bearer tokens.

``GET`` with Basic credentials as the distribution project's token specification has it, ``POST``
with a form as its OAuth2 variant: Docker sends the one, containerd tries the other first. Anybody
gets an anonymous token. An access token holds five minutes; a refresh token, for clients that ask
to stay logged in without keeping a password, ninety days or until the password changes.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.gateway.images.access import (
    SERVICE,
    AccessError,
    AccessGate,
    challenge,
    credentials_of,
    user_of,
)
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.ports.registry import User
from pyrsia_node.registry.access import SHARE, Action
from pyrsia_node.registry.accounts import AccessBook, Accounts
from pyrsia_node.registry.scopes import REPOSITORY, TokenScope, parse_scopes
from pyrsia_node.registry.tokens import InvalidTokenError, Token, TokenSigner, password_stamp
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer, header

ACCESS_SECONDS: Final = 300
REFRESH_SECONDS: Final = 90 * 86_400
FORM_BYTES_MAX: Final = 16 * 1024
FIELDS_MAX: Final = 64

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a client asks for: scopes, and whether it wants a refresh token."""

    scopes: tuple[TokenScope, ...]
    offline: bool


class TokenEndpoint:
    """The ASGI application at one path."""

    def __init__(
        self,
        gate: AccessGate,
        accounts: Accounts,
        signer: TokenSigner,
        now_ms: Callable[[], int],
    ) -> None:
        """Let ``gate`` check passwords; sign with ``signer``; ``now_ms`` is Unix time."""
        self._gate = gate
        self._accounts = accounts
        self._signer = signer
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if scope["method"] == "POST":
                issued = await self._by_form(scope, await _form(scope, receive))
            elif scope["method"] in {"GET", "HEAD"}:
                issued = await self._by_query(scope)
            else:
                await _answer(scope, send, 405, _error("UNSUPPORTED", "GET or POST"))
                return
        except AccessError as error:
            body = _error(error.code, str(error))
            await _answer(scope, send, error.status, body, error.headers)
        except PyrsiaError as error:
            code = "TOOMANYREQUESTS" if status_of(error) == 503 else "UNSUPPORTED"
            body = _error(code, text_of(error))
            await _answer(scope, send, status_of(error), body, headers_of(error))
        else:
            await _answer(scope, send, 200, issued)

    async def _by_query(self, scope: Scope) -> Mapping[str, object]:
        fields = _fields(scope["query_string"])
        wish = _Wish(
            parse_scopes(_all(fields, "scope")), offline=_one(fields, "offline_token") == "true"
        )
        _check_service(_one(fields, "service"))
        authorization = header(scope, b"authorization")
        if not authorization:
            return self._issue(None, wish)
        realm = self._gate.realm_of(scope)
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise AccessError("a token is had for Basic credentials", challenge=challenge(realm))
        name, password = credentials_of(value, realm)
        book = await self._accounts.book()
        if name == SHARE:
            return self._shared(book, password, realm)
        return await self._issue_to(book, wish, self._gate.log_in(book, name, password, scope))

    async def _by_form(
        self, scope: Scope, fields: Sequence[tuple[str, str]]
    ) -> Mapping[str, object]:
        wish = _Wish(
            parse_scopes(_all(fields, "scope")), offline=_one(fields, "access_type") == "offline"
        )
        _check_service(_one(fields, "service"))
        book = await self._accounts.book()
        realm = self._gate.realm_of(scope)
        match _one(fields, "grant_type"):
            case "password":
                name, password = _one(fields, "username"), _one(fields, "password")
                if name == SHARE:
                    return self._shared(book, password, realm)
                login = self._gate.log_in(book, name, password, scope)
            case "refresh_token":
                login = self._refreshed(book, _one(fields, "refresh_token"), realm)
            case other:
                raise InvalidInputError(f"grant_type {other!r:.40} is not password, refresh_token")
        return await self._issue_to(book, wish, login)

    async def _issue_to(
        self, book: AccessBook, wish: _Wish, login: Awaitable[User]
    ) -> Mapping[str, object]:
        try:
            user = await login
        except AccessError:
            # Docker sends a mirror the credentials that were meant for the default registry. They
            # are nobody's here, and what they are shown for is anybody's.
            if not is_open_to_all(book, wish.scopes):
                raise
            return self._issue(None, wish)
        return self._issue(user, wish)

    def _shared(self, book: AccessBook, text: str, realm: str) -> Mapping[str, object]:
        """Give a share back: it is a token already, and no other could say less."""
        now_s = self._now_ms() // 1000
        try:
            token = self._signer.read(text, "share", now_s=now_s)
            user_of(book, token)
        except InvalidTokenError as error:
            raise AccessError(str(error), challenge=challenge(realm)) from error
        left_s = min(token.expires_s - now_s, ACCESS_SECONDS)
        return _answered(text, token.scopes, now_s=now_s, expires_in=left_s)

    async def _refreshed(self, book: AccessBook, text: str, realm: str) -> User:
        try:
            token = self._signer.read(text, "refresh", now_s=self._now_ms() // 1000)
            user = user_of(book, token)
        except InvalidTokenError as error:
            raise AccessError(f"log in again: {error}", challenge=challenge(realm)) from error
        assert user is not None
        return user

    def _issue(self, user: User | None, wish: _Wish) -> Mapping[str, object]:
        now_s = self._now_ms() // 1000
        name = "" if user is None else user.name
        stamp = "" if user is None else password_stamp(user.password)
        access = Token("access", name, stamp, wish.scopes, now_s + ACCESS_SECONDS)
        text = self._signer.issue(access)
        issued = _answered(text, wish.scopes, now_s=now_s, expires_in=ACCESS_SECONDS)
        if wish.offline and user is not None:
            refresh = Token("refresh", name, stamp, (), now_s + REFRESH_SECONDS)
            issued["refresh_token"] = self._signer.issue(refresh)
        return issued


def _answered(
    text: str, scopes: Sequence[TokenScope], *, now_s: int, expires_in: int
) -> dict[str, object]:
    return {
        "token": text,
        "access_token": text,
        "expires_in": expires_in,
        "issued_at": dt.datetime.fromtimestamp(now_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "scope": " ".join(map(str, scopes)),
    }


def is_open_to_all(book: AccessBook, scopes: Sequence[TokenScope]) -> bool:
    """Tell whether scopes name something, and nothing but pulls of what may be public.

    No scope at all is a login: there the answer must say whether the password is right.
    """
    return bool(scopes) and all(
        each.type == REPOSITORY
        and each.actions <= {Action.PULL}
        and not book.rules.is_private(each.name)
        for each in scopes
    )


def _check_service(service: str) -> None:
    if service not in {"", SERVICE}:
        raise InvalidInputError(f"service {service!r:.100} is not this registry's: {SERVICE!r}")


async def _form(scope: Scope, receive: Receive) -> Sequence[tuple[str, str]]:
    media = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    if media != _FORM:
        raise InvalidInputError(f"the form's Content-Type is {media!r:.80}, not {_FORM}")
    data = bytearray()
    while True:
        message = await receive()
        data += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(data) > FORM_BYTES_MAX:
            raise InvalidInputError(f"the form is cut off, or longer than {FORM_BYTES_MAX} bytes")
        if not message.get("more_body", False):
            return _fields(bytes(data))


def _fields(text: bytes) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
        )
    except ValueError as error:
        raise InvalidInputError("the parameters are malformed or too many") from error


def _all(fields: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [value for key, value in fields if key == name]


def _one(fields: Sequence[tuple[str, str]], name: str) -> str:
    found = _all(fields, name)
    if len(found) > 1:
        raise InvalidInputError(f"parameter {name} stands there {len(found)} times")
    return found[0] if found else ""


def _error(code: str, message: str) -> Mapping[str, object]:
    return {"errors": [{"code": code, "message": message}]}


async def _answer(
    scope: Scope,
    send: Send,
    status: int,
    body: Mapping[str, object],
    headers: Sequence[tuple[str, str]] = (),
) -> None:
    # RFC 6749, 5.1: nobody may keep a token for another.
    kept = [("cache-control", "no-store"), *headers]
    await answer(scope, send, status, json.dumps(body).encode(), media=_JSON, headers=kept)
