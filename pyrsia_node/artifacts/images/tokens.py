"""Rights at one upstream registry: what stands in ``Authorization``, and for how long.

A registry says with 401 what it wants; that is learned once, and a token is fetched once for each
repository however many requests wait for it. Tokens ask for pull alone. The token server's address
comes from the registry, so it goes through the same checks as every other address.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from yarl import URL

from pyrsia_node.artifacts.images.challenges import (
    TOKEN_ANSWER_BYTES_MAX,
    Challenge,
    parse_challenges,
    parse_token,
)
from pyrsia_node.artifacts.images.credentials import CredentialFile, Login
from pyrsia_node.artifacts.safe_http import SafeHttp, parse_url
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.model.oci import ImageName

TOKENS_MAX: Final = 1024
_MARGIN_SECONDS: Final = 5.0
"""A token is not used in the last seconds of its life: it must outlive the way to the server."""


class DeniedError(NotFoundError):
    """The upstream does not show this to us: it is absent, or our rights do not suffice."""


@dataclass(frozen=True, slots=True)
class _Held:
    header: str
    until: float
    login: Login | None


class Authorizer:
    """Rights for the repositories of one registry."""

    def __init__(self, http: SafeHttp, credentials: CredentialFile, *, is_secure: bool) -> None:
        """Fetch tokens through ``http``.

        Args:
            http: The client of this upstream, with its rules of addresses.
            credentials: Who we are to it.
            is_secure: Whether the registry speaks HTTPS; its token server must then, too.
        """
        self._http = http
        self._credentials = credentials
        self._is_secure = is_secure
        self._challenge: Challenge | None = None
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Held]] = {}

    async def header(self, name: ImageName) -> str | None:
        """Return what to send, as far as the registry ever said what it wants.

        Raises:
            UnavailableError: No token can be had now.
            DeniedError: The token server gives none.
        """
        # Read first: with a file that cannot be read nothing is asked, not even without rights.
        login = self._credentials.login(name)
        if self._challenge is None:
            return None
        held = self._held.get(name.repository)
        now = asyncio.get_running_loop().time()
        if held is not None and held.until > now and held.login == login:
            self._held.move_to_end(name.repository)
            return held.header
        return (await self._ask_once(self._challenge, name, login)).header

    async def challenged(self, name: ImageName, fields: list[str], sent: str | None) -> str:
        """Return what to send after a 401 that carried these ``WWW-Authenticate`` fields.

        Raises:
            DeniedError: What was ``sent`` was fresh, or there is nothing that would help.
            UnavailableError: No token can be had now.
        """
        known = self._held.get(name.repository)
        if known is not None and known.header == sent:
            del self._held[name.repository]
        self._challenge = self._choose(parse_challenges(fields), name)
        return await self.header(name) or ""

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ inside

    def _choose(self, challenges: list[Challenge], name: ImageName) -> Challenge:
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.realm:
                return challenge
        for challenge in challenges:
            if challenge.scheme == "basic" and self._credentials.login(name) is not None:
                return challenge
        raise DeniedError(f"{name.host} wants credentials for {name} (see docker.auth_file)")

    async def _ask_once(self, challenge: Challenge, name: ImageName, login: Login | None) -> _Held:
        task = self._asking.get(name.repository)
        if task is None:
            task = asyncio.create_task(self._ask(challenge, name, login))
            self._asking[name.repository] = task
            task.add_done_callback(lambda _: self._asking.pop(name.repository, None))
        return await asyncio.shield(task)

    async def _ask(self, challenge: Challenge, name: ImageName, login: Login | None) -> _Held:
        now = asyncio.get_running_loop().time()
        if challenge.scheme == "basic":
            if login is None:
                raise DeniedError(f"{name.host} wants credentials for {name}")
            held = _Held(login.basic, float("inf"), login)
        else:
            token = parse_token(await self._fetch(challenge, name, login))
            until = now + max(1.0, token.lifetime_s - _MARGIN_SECONDS)
            held = _Held(f"Bearer {token.text}", until, login)
        self._held[name.repository] = held
        if len(self._held) > TOKENS_MAX:
            self._held.popitem(last=False)
        return held

    async def _fetch(self, challenge: Challenge, name: ImageName, login: Login | None) -> bytes:
        url = self._token_url(challenge, name)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        basic = None if login is None else login.basic
        async with self._http.send("GET", url, headers=headers, authorization=basic) as response:
            if response.status in {401, 403}:
                raise DeniedError(f"the token server of {name.host} gives no token for {name}")
            if response.status != 200:
                raise UnavailableError(
                    f"the token server of {name.host} answered {response.status}"
                )
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > TOKEN_ANSWER_BYTES_MAX:
                    raise UnavailableError(f"the token server of {name.host} sends too much")
            return bytes(body)

    def _token_url(self, challenge: Challenge, name: ImageName) -> str:
        try:
            realm = parse_url(challenge.realm)
        except InvalidInputError as error:
            raise UnavailableError(f"{name.host} names no token server: {error}") from error
        if self._is_secure and realm.scheme != "https":
            raise UnavailableError(f"{name.host} names a token server without encryption")
        wanted = {"service": challenge.service} if challenge.service else {}
        wanted["scope"] = f"repository:{name.repository}:pull"
        return str(URL(realm).with_user(None).update_query(wanted))
