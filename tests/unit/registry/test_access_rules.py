"""Who may do what: each rule once, by name."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.ports.registry import Grant, Namespace, User
from pyrsia_node.registry.access import (
    GRANTS_MAX,
    AccessRules,
    Action,
    AnonymousMode,
    anonymous_mode,
    check_prefix,
    check_user_name,
    may,
    with_grant,
    without_grant,
)

ALL = tuple(Action)


def rules(anonymous: AnonymousMode, *private: str) -> AccessRules:
    return AccessRules.make(anonymous, [Namespace(each, is_private=True) for each in private])


def user(**grants: bool) -> User:
    return User("alice", "", tuple(Grant(prefix, push) for prefix, push in grants.items()))


@pytest.mark.parametrize(
    ("setting", "host", "mode"),
    [
        ("auto", "127.0.0.1", "push"),
        ("auto", "127.3.2.1", "push"),
        ("auto", "::1", "push"),
        ("auto", "localhost", "push"),
        ("auto", "::", "pull"),
        ("auto", "192.0.2.7", "pull"),
        ("auto", "localhost.example", "pull"),
        ("none", "127.0.0.1", "none"),
        ("push", "192.0.2.7", "push"),
    ],
)
def test_auto_trusts_loopback_alone(setting: str, host: str, mode: str) -> None:
    assert anonymous_mode(setting, host) == mode


def test_anonymous_clients_do_what_the_mode_says() -> None:
    allowed = {
        mode: [action for action in ALL if may(rules(mode), None, action, "team/app")]
        for mode in ("push", "pull", "none")
    }
    assert allowed == {"push": list(ALL), "pull": [Action.PULL], "none": []}


def test_private_namespace_is_nothing_to_anonymous_clients_even_where_they_push() -> None:
    held = rules("push", "team")
    assert not any(may(held, None, action, "team/app") for action in ALL)
    assert not any(may(held, None, action, "team") for action in ALL)
    assert may(held, None, Action.PUSH, "teams/app")


def test_longest_namespace_decides_whether_a_repository_is_private() -> None:
    held = AccessRules.make(
        "pull", [Namespace("team", is_private=True), Namespace("team/open", is_private=False)]
    )
    assert held.is_private("team/app")
    assert not held.is_private("team/open/site")
    assert AccessRules.make("pull", [Namespace("", is_private=True)]).is_private("anything")


def test_longest_grant_of_an_account_holds() -> None:
    held = rules("none")
    alice = user(**{"team": True, "team/frozen": False})
    assert may(held, alice, Action.PUSH, "team/app")
    assert may(held, alice, Action.DELETE, "team/app")
    assert may(held, alice, Action.PULL, "team/frozen/app")
    assert not may(held, alice, Action.PUSH, "team/frozen/app")
    assert not may(held, alice, Action.PULL, "teams")
    assert not may(held, alice, Action.PULL, "tea")


def test_right_to_pull_is_no_right_to_delete() -> None:
    assert not may(rules("pull"), user(team=False), Action.DELETE, "team/app")


def test_account_has_never_fewer_rights_than_no_account() -> None:
    assert may(rules("push"), user(team=False), Action.PUSH, "team/app")
    assert may(rules("pull"), user(), Action.PULL, "team/app")


def test_what_credentials_bought_is_for_accounts_or_for_trusted_clients_alone() -> None:
    name = "f/registry.example:5000/acme/app"
    assert not may(rules("pull"), None, Action.PULL, name)
    assert may(rules("push"), None, Action.PULL, name)
    assert not may(rules("push"), None, Action.PUSH, name)
    granted = user(**{"f/registry.example:5000/acme": False})
    assert may(rules("none"), granted, Action.PULL, name)
    assert not may(rules("none"), granted, Action.PULL, "f/registry.example/acme/app")


def test_repository_of_this_node_may_begin_with_f() -> None:
    assert may(rules("pull"), None, Action.PULL, "f/team/app")
    assert may(rules("push"), None, Action.PUSH, "f/team/app")


@pytest.mark.parametrize("name", ["alice", "A", "ci+bot", "a.b@c.example", "x" * 64])
def test_names_of_accounts(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a:b", "-a", "a b", "x" * 65, "anonymous", "Anonymous", "share", "ä"]
)
def test_names_that_no_account_may_have(name: str) -> None:
    with pytest.raises(InvalidInputError, match="no name for an account"):
        check_user_name(name)


@pytest.mark.parametrize(
    "prefix", ["", "team", "f", "f/app", "f/localhost:5000", "f/r.example/a/b"]
)
def test_prefixes_that_rights_hang_on(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        "/",
        "team/",
        "Team",
        "f/",
        "f/h.example/",
        "f/H.example",
        "f/h.example/..",
        "a" * 256,
        "a//b",
    ],
)
def test_prefixes_that_are_refused(prefix: str) -> None:
    with pytest.raises(InvalidInputError):
        check_prefix(prefix)


def test_new_grant_takes_the_place_of_one_for_the_same_prefix() -> None:
    alice = with_grant(user(team=False, b=True), Grant("team", may_push=True))
    assert alice.grants == (Grant("b", may_push=True), Grant("team", may_push=True))
    assert without_grant(alice, "b").grants == (Grant("team", may_push=True),)


def test_account_has_a_bounded_number_of_grants() -> None:
    many = User("a", "", tuple(Grant(f"p{n}", may_push=False) for n in range(GRANTS_MAX)))
    assert len(with_grant(many, Grant("p0", may_push=True)).grants) == GRANTS_MAX
    with pytest.raises(InvalidInputError, match="256 grants"):
        with_grant(many, Grant("one-more", may_push=False))
