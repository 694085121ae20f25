"""The door of ``/v2`` over a real database: who asks, tokens, refusals that tell nothing."""

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
from pyrsia_node.gateway.images.token_endpoint import (
    ACCESS_SECONDS,
    FORM_BYTES_MAX,
    REFRESH_SECONDS,
    TokenEndpoint,
)
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.ports.registry import Grant, Namespace, User
from pyrsia_node.registry.access import Action, AnonymousMode
from pyrsia_node.registry.accounts import FRESH_SECONDS, AccessBook, Accounts
from pyrsia_node.registry.passwords import PasswordChecker, PasswordCost, hash_password
from pyrsia_node.registry.shares import make_share
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
        return await self.gate.identify(_scope("GET", headers))

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
        scope = {**_scope(method, headers), "query_string": query.encode()}
        body = urlencode(form or {}).encode()
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.endpoint(scope, receive, send)
        shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], shown, json.loads(sent[1]["body"]))


def _scope(method: str, headers: list[tuple[bytes, bytes]]) -> Scope:
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


def test_accounts_do_what_their_grants_say_and_history_names_them(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        alice, bob = await door.rights(basic("alice")), await door.rights(basic("bob"))
        alice.check(Action.PUSH, "team/app")
        bob.check(Action.PULL, "team/app")
        assert (alice.actor, bob.actor) == ("alice", "bob")
        assert (await door.rights()).actor == "anonymous"
        refused = refusal(bob, Action.PUSH, "team/app")
        assert (refused.status, refused.code, refused.headers) == (403, "DENIED", [])
        assert "account bob has no right to push team/app" in str(refused)

    story(tmp_path, act)


def test_anonymous_client_is_told_where_to_log_in(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        refused = refusal(await door.rights(), Action.PULL, "team/app")
        assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
        realm, scope = "https://node:7888/v2/token", "repository:team/app:pull"
        challenge = f'Bearer realm="{realm}",service="pyrsia",scope="{scope}"'
        assert refused.headers == [("www-authenticate", challenge)]
        refused = refusal(await door.rights(), Action.PUSH, "open/app")
        assert 'scope="repository:open/app:pull,push"' in refused.headers[0][1]

    story(tmp_path, act)


def test_client_behind_a_proxy_is_sent_to_the_public_address(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        public = "https://registry.example"
        signer, checker = TokenSigner(b"k" * 32), PasswordChecker(lambda: 0.0, CHEAP)
        gate = AccessGate(door.accounts, checker, signer, door.now_ms, public)
        refused = refusal(await gate.identify(_scope("GET", [])), Action.PULL, "team/app")
        assert f'realm="{public}/v2/token"' in refused.headers[0][1]

    story(tmp_path, act)


def test_refusal_does_not_tell_whether_something_private_exists(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        rights = await door.rights()
        known, unknown = (refusal(rights, Action.PULL, f"team/{n}") for n in ("app", "nothing"))
        assert str(known).replace("app", "nothing") == str(unknown)
        assert rights.is_private("team/app")
        assert not rights.is_private("open/app")

    story(tmp_path, act)


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "wrong"), ("carol", PASSWORD), ("", ""), ("alice", "")]
)
def test_wrong_name_and_wrong_password_are_one_answer(
    tmp_path: Path, name: str, password: str
) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(AccessError, match=r"^name or password is wrong$") as caught:
            await door.rights(basic(name, password))
        assert caught.value.status == 401

    story(tmp_path, act)


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"a:" + b"x" * 2000).decode(),
        "Bearer",
        "Bearer pyr1.x.y",
        "Digest username=alice",
        "\xff",
    ],
)
def test_malformed_credentials_are_401_and_nothing_else_escapes(
    tmp_path: Path, authorization: str
) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(AccessError) as caught:
            await door.rights(authorization)
        assert caught.value.status == 401
        assert caught.value.headers[0][1].startswith("Bearer realm=")

    story(tmp_path, act)


def test_token_is_had_for_a_password_and_used_without_it(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        query = "service=pyrsia&scope=repository:team/app:pull,push&account=alice"
        issued = await door.token(query, authorization=basic("alice"))
        assert issued.status == 200
        assert issued.headers["cache-control"] == "no-store"
        assert issued.body["expires_in"] == ACCESS_SECONDS
        assert issued.body["issued_at"] == "1970-01-12T13:46:40Z"
        assert issued.body["token"] == issued.body["access_token"]
        assert "refresh_token" not in issued.body
        rights = await door.rights(f"Bearer {issued.body['token']}")
        rights.check(Action.PUSH, "team/app")
        assert rights.actor == "alice"

    story(tmp_path, act)


def test_token_is_good_for_its_scope_alone(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        issued = await door.token("scope=repository:team/app:pull", authorization=basic("alice"))
        rights = await door.rights(f"Bearer {issued.body['token']}")
        rights.check(Action.PULL, "team/app")
        rights.check(Action.PULL, "open/app")
        for action, repository in ((Action.PUSH, "team/app"), (Action.PULL, "team/other")):
            refused = refusal(rights, action, repository)
            assert refused.status == 401
            assert 'error="insufficient_scope"' in refused.headers[0][1]

    story(tmp_path, act)


def test_token_gives_no_right_that_its_account_has_not(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        issued = await door.token("scope=repository:team/app:push", authorization=basic("bob"))
        refused = refusal(
            await door.rights(f"Bearer {issued.body['token']}"), Action.PUSH, "team/app"
        )
        assert refused.status == 403

    story(tmp_path, act)


def test_right_that_is_taken_away_ends_tokens_that_are_out(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        issued = await door.token("scope=repository:team/app:pull", authorization=basic("bob"))
        bearer = f"Bearer {issued.body['token']}"
        (await door.rights(bearer)).check(Action.PULL, "team/app")
        await door.accounts.change(lambda db: db.put_user(User("bob", STORED, ())))
        assert refusal(await door.rights(bearer), Action.PULL, "team/app").status == 403

    story(tmp_path, act)


@pytest.mark.parametrize("change", ["password", "removal"])
def test_new_password_and_removal_end_tokens_that_are_out(tmp_path: Path, change: str) -> None:
    async def act(door: Door) -> None:
        query = "scope=repository:team/app:pull&offline_token=true"
        issued = (await door.token(query, authorization=basic("bob"))).body
        if change == "password":
            other = User("bob", hash_password("another one", CHEAP), ())
            await door.accounts.change(lambda db: db.put_user(other))
        else:
            await door.accounts.change(lambda db: db.remove_user("bob"))
        with pytest.raises(AccessError, match="gone or has a new password"):
            await door.rights(f"Bearer {issued['token']}")
        form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
        assert (await door.token(form=form)).status == 401

    story(tmp_path, act)


def test_token_ends_after_five_minutes(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        issued = await door.token(authorization=basic("bob"))
        bearer = f"Bearer {issued.body['token']}"
        door.now_s += ACCESS_SECONDS - 1
        await door.rights(bearer)
        door.now_s += 1
        with pytest.raises(AccessError, match="too old") as caught:
            await door.rights(bearer)
        assert 'error="invalid_token"' in caught.value.headers[0][1]

    story(tmp_path, act)


def test_refresh_token_is_had_on_wish_and_renews_access_without_a_password(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        query = "service=pyrsia&offline_token=true&client_id=docker&account=alice"
        issued = (await door.token(query, authorization=basic("alice"))).body
        form = {
            "grant_type": "refresh_token",
            "refresh_token": issued["refresh_token"],
            "scope": "repository:team/app:push",
            "service": "pyrsia",
        }
        door.now_s += REFRESH_SECONDS - 1
        renewed = (await door.token(form=form)).body
        (await door.rights(f"Bearer {renewed['access_token']}")).check(Action.PUSH, "team/app")
        with pytest.raises(AccessError):
            await door.rights(f"Bearer {issued['refresh_token']}")
        door.now_s += 1
        assert (await door.token(form=form)).status == 401

    story(tmp_path, act)


def test_form_of_oauth2_takes_name_and_password(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        form = {
            "grant_type": "password",
            "service": "pyrsia",
            "client_id": "containerd-client",
            "scope": "repository:team/app:pull",
            "username": "bob",
            "password": PASSWORD,
        }
        issued = await door.token(form=form)
        (await door.rights(f"Bearer {issued.body['token']}")).check(Action.PULL, "team/app")
        assert (await door.token(form=form | {"password": "wrong"})).status == 401

    story(tmp_path, act)


def test_login_with_a_wrong_password_fails(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        query = "service=pyrsia&account=alice&client_id=docker&offline_token=true"
        refused = await door.token(query, authorization=basic("alice", "wrong"))
        assert refused.status == 401
        assert refused.body["errors"][0]["code"] == "UNAUTHORIZED"
        assert refused.headers["www-authenticate"].startswith("Bearer")

    story(tmp_path, act)


def test_credentials_of_another_registry_do_not_close_what_is_public(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        strange = basic("somebody-elsewhere", "their password")
        issued = await door.token("scope=repository:library/alpine:pull", authorization=strange)
        assert issued.status == 200
        rights = await door.rights(f"Bearer {issued.body['token']}")
        assert rights.actor == "anonymous"
        rights.check(Action.PULL, "library/alpine")
        for scope in ("repository:team/app:pull", "repository:open/app:pull,push"):
            refused = await door.token(f"scope={scope}", authorization=strange)
            assert refused.status == 401, scope

    story(tmp_path, act)


def test_anybody_gets_an_anonymous_token_that_is_worth_nothing_private(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        issued = await door.token("scope=repository:team/app:pull&scope=repository:b:pull")
        rights = await door.rights(f"Bearer {issued.body['token']}")
        rights.check_ping()
        rights.check(Action.PULL, "b")
        assert refusal(rights, Action.PULL, "team/app").status == 401

    story(tmp_path, act)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("service=other", 400),
        ("scope=nonsense", 400),
        ("scope=" + "+".join(["repository:a:pull"] * 17), 400),
        ("service=pyrsia&service=pyrsia", 400),
        ("scope=%ff", 400),
        ("&".join(f"a{n}=1" for n in range(65)), 400),
        ("", 200),
    ],
)
def test_question_for_a_token_is_checked(tmp_path: Path, query: str, status: int) -> None:
    async def act(door: Door) -> None:
        assert (await door.token(query)).status == status

    story(tmp_path, act)


def test_form_is_checked_and_bounded(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        assert (await door.token(form={"grant_type": "implicit"})).status == 400
        assert (await door.token(form={"a": "x" * FORM_BYTES_MAX})).status == 400
        assert (await door.token(form={}, media="application/json")).status == 400
        assert (await door.token(method="DELETE")).status == 405

    story(tmp_path, act)


def test_ping_asks_for_credentials_only_where_there_are_accounts(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(AccessError) as caught:
            (await door.rights()).check_ping()
        assert caught.value.status == 401
        # Offered both, Docker's engine fails without credentials where an anonymous token would do.
        assert caught.value.headers == [
            ("www-authenticate", 'Bearer realm="https://node:7888/v2/token",service="pyrsia"')
        ]
        (await door.rights(basic("alice"))).check_ping()
        for name in ("alice", "bob"):
            await door.accounts.change(lambda db, name=name: db.remove_user(name))  # type: ignore[misc]
        (await door.rights()).check_ping()

    story(tmp_path, act)


def test_catalog_is_closed_to_anonymous_clients_where_they_may_do_nothing(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(AccessError) as caught:
            (await door.rights()).check_catalog()
        assert 'scope="registry:catalog:*"' in caught.value.headers[0][1]
        bob = await door.rights(basic("bob"))
        bob.check_catalog()
        names = [name for name in ("team/app", "other") if bob.may(Action.PULL, name)]
        assert names == ["team/app"]

    story(tmp_path, act, anonymous="none")


def test_what_this_nodes_credentials_fetched_is_for_those_with_a_grant_on_it(
    tmp_path: Path,
) -> None:
    async def act(door: Door) -> None:
        name = ImageName("registry.example:5000", "acme/app")
        with pytest.raises(AccessError) as caught:
            (await door.rights()).check_credentialed(name, "acme/app")
        assert 'scope="repository:acme/app:pull"' in caught.value.headers[0][1]
        grants = (Grant("f/registry.example:5000/acme", may_push=False),)
        await door.accounts.change(lambda db: db.put_user(User("bob", STORED, grants)))
        (await door.rights(basic("bob"))).check_credentialed(name, "acme/app")
        issued = await door.token("scope=repository:acme/app:pull", authorization=basic("bob"))
        rights = await door.rights(f"Bearer {issued.body['token']}")
        rights.check_credentialed(name, "acme/app")

    story(tmp_path, act)


def share_of(door: Door, book: AccessBook, owner: str, repository: str, hours: int = 8) -> str:
    signer = TokenSigner(b"k" * 32)
    now_s = int(door.now_s)
    return make_share(signer, book, owner=owner, repository=repository, hours=hours, now_s=now_s)[0]


def test_share_opens_one_repository_to_pull_and_nothing_else(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        share = share_of(door, await door.accounts.book(), "alice", "team/app")
        for shown in (f"Bearer {share}", basic("share", share)):
            rights = await door.rights(shown)
            rights.check_ping()
            rights.check(Action.PULL, "team/app")
            assert rights.actor == "anonymous"
            for action, repository in (
                (Action.PULL, "team/other"),
                (Action.PULL, "team"),
                (Action.PUSH, "team/app"),
                (Action.DELETE, "team/app"),
            ):
                refusal(rights, action, repository)
        for credentials in (basic("share"), basic("alice", share), basic("share", "pyr1.a.b")):
            with pytest.raises(AccessError):
                await door.rights(credentials)

    story(tmp_path, act)


def test_share_is_taken_where_tokens_are_had_and_gives_no_other_token(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        share = share_of(door, await door.accounts.book(), "alice", "team/app", hours=1)
        query = "scope=repository:team/other:pull,push&offline_token=true"
        form = {"grant_type": "password", "username": "share", "password": share}
        for issued in (
            await door.token(query, authorization=basic("share", share)),
            await door.token(form=form),
        ):
            assert issued.status == 200
            assert issued.body["token"] == share
            assert issued.body["scope"] == "repository:team/app:pull"
            assert "refresh_token" not in issued.body
        assert (await door.token(authorization=basic("share", "wrong"))).status == 401
        refresh = {"grant_type": "refresh_token", "refresh_token": share}
        assert (await door.token(form=refresh)).status == 401

    story(tmp_path, act)


def test_share_ends_with_its_time_and_with_its_owners_right(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        book = await door.accounts.book()
        first, second = (share_of(door, book, "alice", "team/app", hours=h) for h in (1, 2))
        door.now_s += 3600
        with pytest.raises(AccessError, match="too old"):
            await door.rights(f"Bearer {first}")
        (await door.rights(f"Bearer {second}")).check(Action.PULL, "team/app")
        await door.accounts.change(lambda db: db.put_user(User("alice", STORED, ())))
        refusal(await door.rights(f"Bearer {second}"), Action.PULL, "team/app")
        await door.accounts.change(lambda db: db.remove_user("alice"))
        with pytest.raises(AccessError, match="gone"):
            await door.rights(f"Bearer {second}")

    story(tmp_path, act)


def test_share_is_made_by_an_owner_alone_and_for_a_week_at_most(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        book = await door.accounts.book()
        with pytest.raises(InvalidInputError, match="bob may not push to team/app"):
            share_of(door, book, "bob", "team/app")
        with pytest.raises(NotFoundError, match="no account 'carol'"):
            share_of(door, book, "carol", "team/app")
        for hours in (0, 169):
            with pytest.raises(InvalidInputError, match="1 to 168 hours"):
                share_of(door, book, "alice", "team/app", hours=hours)
        with pytest.raises(InvalidInputError, match="not legal"):
            share_of(door, book, "alice", "Team")

    story(tmp_path, act)


def test_setting_that_another_gateway_changed_holds_within_a_second(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        other = Door(door.db, "pull")
        (await door.rights()).check(Action.PULL, "later/app")
        await other.accounts.change(
            lambda db: db.put_namespace(Namespace("later", is_private=True))
        )
        assert refusal(await other.rights(), Action.PULL, "later/app").status == 401
        door.now_s += FRESH_SECONDS
        assert refusal(await door.rights(), Action.PULL, "later/app").status == 401

    story(tmp_path, act)
