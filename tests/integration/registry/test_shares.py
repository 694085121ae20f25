"""Shares at the door of ``/v2``: one repository, to pull, by the right of an owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.gateway.images.access import AccessError
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.ports.registry import User
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.accounts import AccessBook
from pyrsia_node.registry.shares import make_share
from pyrsia_node.registry.tokens import TokenSigner
from tests.fakes.registry_door import STORED, Door, basic, refusal, story


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
