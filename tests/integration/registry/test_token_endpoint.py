"""``/v2/token`` over a real database: what tokens are had for, and what they are good for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.gateway.images.access import AccessError
from pyrsia_node.gateway.images.token_endpoint import (
    ACCESS_SECONDS,
    FORM_BYTES_MAX,
    REFRESH_SECONDS,
)
from pyrsia_node.ports.registry import User
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.passwords import hash_password
from tests.fakes.registry_door import CHEAP, PASSWORD, STORED, Door, basic, refusal, story


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
