"""The door of ``/v2`` over a real database: who asks, and refusals that tell nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from pyrsia_node.gateway.images.access import AccessError, AccessGate
from pyrsia_node.model.oci import ImageName
from pyrsia_node.ports.registry import Grant, Namespace, User
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.accounts import FRESH_SECONDS
from pyrsia_node.registry.passwords import PasswordChecker
from pyrsia_node.registry.tokens import TokenSigner
from tests.fakes.registry_door import CHEAP, PASSWORD, STORED, Door, basic, refusal, scope_of, story


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
        refused = refusal(await gate.identify(scope_of("GET", [])), Action.PULL, "team/app")
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
