"""Bearer tokens: what is read back, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.scopes import (
    SCOPE_LENGTH_MAX,
    SCOPES_MAX,
    TokenScope,
    allow,
    parse_scopes,
    scope_for,
)
from pyrsia_node.registry.tokens import (
    TOKEN_LENGTH_MAX,
    InvalidTokenError,
    Token,
    TokenSigner,
    password_stamp,
)

SIGNER = TokenSigner(b"k" * 32)
SCOPES = parse_scopes(["repository:team/app:pull,push repository:base:pull"])
TOKEN = Token("access", "alice", password_stamp("stored"), SCOPES, expires_s=1000)


def test_token_is_read_by_every_gateway_with_the_key() -> None:
    assert TokenSigner(b"k" * 32).read(SIGNER.issue(TOKEN), "access", now_s=999) == TOKEN


def test_token_of_another_node_is_refused() -> None:
    with pytest.raises(InvalidTokenError, match="not from this node"):
        TokenSigner(b"l" * 32).read(SIGNER.issue(TOKEN), "access", now_s=1)


def test_token_ends_in_the_second_that_it_says() -> None:
    with pytest.raises(InvalidTokenError, match="too old"):
        SIGNER.read(SIGNER.issue(TOKEN), "access", now_s=1000)


def test_refresh_token_opens_nothing_by_itself() -> None:
    refresh = SIGNER.issue(dataclasses.replace(TOKEN, kind="refresh"))
    with pytest.raises(InvalidTokenError, match="another use"):
        SIGNER.read(refresh, "access", now_s=1)


def test_no_character_of_a_token_can_be_changed() -> None:
    text = SIGNER.issue(TOKEN)
    for place in range(len(text)):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(InvalidTokenError):
            SIGNER.read(text[:place] + other + text[place + 1 :], "access", now_s=1)


def test_largest_token_fits_its_bound() -> None:
    name = "a" * (SCOPE_LENGTH_MAX - len("repository::pull,push,delete"))
    widest = TokenScope("repository", name, frozenset(Action))
    token = Token("access", "u" * 64, "0" * 16, (widest,) * SCOPES_MAX, expires_s=2**40)
    assert len(SIGNER.issue(token)) <= TOKEN_LENGTH_MAX
    assert SIGNER.read(SIGNER.issue(token), "access", now_s=1) == token


def test_stamp_changes_with_the_password_and_tells_nothing() -> None:
    assert password_stamp("a") != password_stamp("b")
    assert len(password_stamp("a")) == 16


def test_scopes_are_read_as_clients_send_them() -> None:
    scopes = parse_scopes(["repository:localhost:5000/a:push,pull registry:catalog:*", "x:y:z"])
    assert list(map(str, scopes)) == [
        "repository:localhost:5000/a:pull,push",
        "registry:catalog:pull,push,delete",
        "x:y:",
    ]


def test_scope_allows_what_it_names_and_nothing_else() -> None:
    assert allow(SCOPES, Action.PUSH, "team/app")
    assert not allow(SCOPES, Action.DELETE, "team/app")
    assert not allow(SCOPES, Action.PUSH, "base")
    assert not allow(SCOPES, Action.PULL, "team/app2")
    assert not allow(parse_scopes(["registry:base:pull"]), Action.PULL, "base")


def test_challenge_for_a_push_asks_for_pull_as_well() -> None:
    assert scope_for(Action.PUSH, "a") == "repository:a:pull,push"
    assert scope_for(Action.DELETE, "a") == "repository:a:delete"


@pytest.mark.parametrize(
    "text", ["", "repository", "repository:a", "Repository:a:pull", "repository::pull", 'a:"b:pull']
)
def test_malformed_scope_is_named(text: str) -> None:
    if not text:
        assert parse_scopes([text]) == ()
        return
    with pytest.raises(InvalidInputError, match="scope"):
        parse_scopes([text])


def test_number_and_length_of_scopes_are_bounded() -> None:
    with pytest.raises(InvalidInputError, match="17 scopes"):
        parse_scopes(["a:b:pull"] * (SCOPES_MAX + 1))
    with pytest.raises(InvalidInputError, match="scope"):
        parse_scopes([f"repository:{'a' * SCOPE_LENGTH_MAX}:pull"])
