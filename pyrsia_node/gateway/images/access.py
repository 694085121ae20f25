"""Who asks, and what the client may do: the door of ``/v2``.

``Authorization`` may be absent (anonymous), ``Basic`` (name and password at each request) or
``Bearer`` (a token of ``/v2/token``, gateway/images/token_endpoint.py). A share, which lets its
holder pull one repository, is shown as a Bearer token or as the password of ``share``, which every
client can send. A refusal is 401 with a
Bearer challenge where logging in could help, else 403. The challenge never offers Basic as well:
Docker's engine, once offered both, fails without credentials even where anonymous tokens would do.

The decision itself is ``registry.access``; it is made before anything is looked up, so that an
answer never tells whether something private exists.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.ports.registry import User
from pyrsia_node.registry.access import ANONYMOUS, SHARE, Action, may
from pyrsia_node.registry.accounts import AccessBook, Accounts
from pyrsia_node.registry.passwords import PasswordChecker
from pyrsia_node.registry.scopes import TokenScope, allow, scope_for
from pyrsia_node.registry.tokens import (
    InvalidTokenError,
    Token,
    TokenKind,
    TokenSigner,
    password_stamp,
)
from pyrsia_node.transfer.asgi import Scope, header

SERVICE: Final = "pyrsia"
TOKEN_PATH: Final = "/v2/token"  # noqa: S105 - a path
CREDENTIALS_LENGTH_MAX: Final = 4096
"""Characters of Basic credentials; a share is the longest password there is."""

_CATALOG_SCOPE: Final = "registry:catalog:*"


class AccessError(InvalidInputError):
    """The client may not do this, or must say first who it is.

    ``status`` is 401 or 403, ``code`` that of the distribution specification; ``headers`` go with
    the answer.
    """

    def __init__(self, text: str, *, challenge: str = "") -> None:
        """Say why; with a ``challenge`` the client is asked to log in."""
        super().__init__(text)
        self.status = 401 if challenge else 403
        self.code = "UNAUTHORIZED" if challenge else "DENIED"
        self.headers = [("www-authenticate", challenge)] if challenge else []


@dataclass(frozen=True, slots=True)
class Rights:
    """What one request may do. ``scopes`` limit it where a token came; None is no limit.

    The holder of a share uses the rights of ``user``, its owner, and is not that user.
    """

    book: AccessBook
    realm: str
    user: User | None = None
    scopes: tuple[TokenScope, ...] | None = None
    shows_credentials: bool = field(default=False)
    is_share: bool = field(default=False)

    @property
    def actor(self) -> str:
        """What the history of tags calls this client."""
        return ANONYMOUS if self.user is None or self.is_share else self.user.name

    def may(self, action: Action, repository: str) -> bool:
        """Tell whether the client may do something to a repository of this node."""
        return self._may(action, repository, repository)

    def is_private(self, repository: str) -> bool:
        """Tell whether nobody without a grant may learn anything of a repository."""
        return self.book.rules.is_private(repository)

    def check(self, action: Action, repository: str) -> None:
        """Return if the client may do something to a repository of this node.

        Raises:
            AccessError: 401 or 403.
        """
        self._check(action, repository, repository)

    def check_credentialed(self, name: ImageName, asked: str) -> None:
        """Return if the client may have what this node's own credentials fetched.

        Args:
            name: The image at its registry; rights hang on ``f/HOST/REPOSITORY``.
            asked: The repository as the client named it: what its token is for.

        Raises:
            AccessError: 401 or 403.
        """
        self._check(Action.PULL, f"f/{name}", asked)

    def check_ping(self) -> None:
        """Return unless the client should show credentials, if it has any.

        Docker asks ``GET /v2/`` once and, if that is answered, never logs in anywhere. So where
        there are accounts, who shows nothing is told of them; anonymous tokens are for everybody.

        Raises:
            AccessError: 401.
        """
        if self.book.users and not self.shows_credentials:
            raise AccessError("show credentials, or take an anonymous token", challenge=self._ask())

    def check_catalog(self) -> None:
        """Return if the client may list repositories at all; each is then judged by ``may``.

        Raises:
            AccessError: 401.
        """
        if self.user is None and self.book.rules.anonymous == "none":
            raise AccessError(
                "only accounts may list repositories here", challenge=self._ask(_CATALOG_SCOPE)
            )

    def _may(self, action: Action, repository: str, asked: str) -> bool:
        # A token limits only what its account may do: what anybody may do needs no token.
        if may(self.book.rules, None, action, repository):
            return True
        within = self.scopes is None or allow(self.scopes, action, asked)
        return within and may(self.book.rules, self.user, action, repository)

    def _check(self, action: Action, repository: str, asked: str) -> None:
        if self._may(action, repository, asked):
            return
        scope = scope_for(action, asked)
        if self.user is None:
            raise AccessError(
                f"log in to {action} {repository}: clients without an account may not",
                challenge=self._ask(scope),
            )
        if may(self.book.rules, self.user, action, repository):
            raise AccessError(
                f"the token is not for this: ask for one with the scope {scope}",
                challenge=self._ask(scope, "insufficient_scope"),
            )
        raise AccessError(f"account {self.user.name} has no right to {action} {repository}")

    def _ask(self, scope: str = "", error: str = "") -> str:
        return challenge(self.realm, scope, error)


class AccessGate:
    """Tells who asks."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: PasswordChecker,
        signer: TokenSigner,
        now_ms: Callable[[], int],
        public_url: str = "",
    ) -> None:
        """Judge by these settings.

        Args:
            accounts: Users and namespaces.
            passwords: Checks passwords.
            signer: Reads tokens.
            now_ms: Unix time.
            public_url: ``http.public_url``: where clients find the node, "" by their ``Host``.
        """
        self._public_url = public_url
        self._accounts = accounts
        self._passwords = passwords
        self._signer = signer
        self._now_ms = now_ms

    async def identify(self, scope: Scope) -> Rights:
        """Return what the client of a request may do.

        Raises:
            AccessError: 401: the credentials are wrong, or the token is not valid (any more).
            UnavailableError: Too many clients log in just now, or the database is busy.
        """
        book = await self._accounts.book()
        realm = self.realm_of(scope)
        authorization = header(scope, b"authorization")
        if not authorization:
            return Rights(book, realm)
        scheme, _, value = authorization.partition(" ")
        match scheme.lower():
            case "basic":
                name, password = credentials_of(value, realm)
                if name == SHARE:
                    return self._by_token(book, realm, password, "share")
                user = await self.log_in(book, name, password, scope)
                return Rights(book, realm, user, shows_credentials=True)
            case "bearer":
                return self._by_token(book, realm, value.strip(), "access", "share")
            case _:
                raise AccessError(
                    "Authorization is neither Basic nor Bearer", challenge=challenge(realm)
                )

    async def log_in(self, book: AccessBook, name: str, password: str, scope: Scope) -> User:
        """Return the account of that name, if the password is its own.

        Raises:
            AccessError: There is no such account, or it has another password: one text for both.
            UnavailableError: Too many clients log in just now.
        """
        user, client = book.users.get(name), scope.get("client")
        address = client[0] if client else ""
        if not await self._passwords.is_right(name, password, user, address):
            raise AccessError(
                "name or password is wrong", challenge=challenge(self.realm_of(scope))
            )
        assert user is not None
        return user

    def realm_of(self, scope: Scope) -> str:
        """Return where tokens are to be had: this node, by the name that the client calls it by."""
        if self._public_url:
            return f"{self._public_url}{TOKEN_PATH}"
        host = header(scope, b"host") or "localhost"
        return f"{scope.get('scheme', 'http')}://{host}{TOKEN_PATH}"

    def _by_token(self, book: AccessBook, realm: str, text: str, *kinds: TokenKind) -> Rights:
        try:
            token = self._signer.read(text, *kinds, now_s=self._now_ms() // 1000)
            user = user_of(book, token)
        except InvalidTokenError as error:
            raise AccessError(
                str(error), challenge=challenge(realm, error="invalid_token")
            ) from error
        is_share = token.kind == "share"
        return Rights(book, realm, user, token.scopes, shows_credentials=True, is_share=is_share)


def user_of(book: AccessBook, token: Token) -> User | None:
    """Return the account that a token is for, None for an anonymous one.

    Raises:
        InvalidTokenError: The account is gone, or it has another password since.
    """
    if not token.user:
        return None
    user = book.users.get(token.user)
    if user is None or password_stamp(user.password) != token.stamp:
        raise InvalidTokenError("the account is gone or has a new password")
    return user


def credentials_of(value: str, realm: str) -> tuple[str, str]:
    """Return name and password out of ``Basic`` credentials (RFC 7617, UTF-8).

    Raises:
        AccessError: They are malformed or too long.
    """
    try:
        if len(value) > CREDENTIALS_LENGTH_MAX:
            raise ValueError(len(value))  # noqa: TRY301 - one place says it
        text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise AccessError("Basic credentials are malformed", challenge=challenge(realm)) from error
    name, colon, password = text.partition(":")
    if not colon:
        raise AccessError("Basic credentials are malformed", challenge=challenge(realm))
    return name, password


def challenge(realm: str, scope: str = "", error: str = "") -> str:
    """Return a Bearer challenge (RFC 6750, section 3).

    All three come from grammars without quotes: the Host check, names of repositories, our words.
    """
    fields = [("realm", realm), ("service", SERVICE), ("scope", scope), ("error", error)]
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in fields if value)
