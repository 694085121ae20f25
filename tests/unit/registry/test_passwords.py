"""Passwords: what is stored, what a login costs, and what a flood of logins may take."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports.registry import User
from pyrsia_node.registry import passwords
from pyrsia_node.registry.passwords import (
    REMEMBERED_SECONDS,
    WAITING_MAX,
    WAITING_PER_CLIENT_MAX,
    PasswordChecker,
    PasswordCost,
    check_password,
    hash_password,
    is_password,
    network_of,
)

CHEAP = PasswordCost(passes=1, memory_bytes=8192)
HERE = "192.0.2.1"
ALICE = User("alice", hash_password("correct horse", CHEAP), ())


class Watch:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every stored hash that was really worked on."""
    seen: list[str] = []

    def counted(stored: str, password: str) -> bool:
        seen.append(stored)
        return is_password(stored, password)

    monkeypatch.setattr(passwords, "is_password", counted)
    return seen


def test_what_is_stored_names_its_own_algorithm_and_cost() -> None:
    assert ALICE.password.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert is_password(ALICE.password, "correct horse")
    assert not is_password(ALICE.password, "correct horsf")


@pytest.mark.parametrize("stored", ["", "plain", "$argon2i$v=19$m=8", "$argon2id$broken", "ä"])
def test_anything_else_in_the_database_is_no_password(stored: str) -> None:
    assert not is_password(stored, stored)


@pytest.mark.parametrize(
    ("password", "reason"),
    [("dwarf", "shorter than 8"), ("x" * 257, "longer than 256"), ("line\nbreak", "printed")],
)
def test_password_that_cannot_be_chosen(password: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason) as caught:
        check_password(password)
    assert password not in str(caught.value)


def test_right_password_is_worked_on_once_in_a_while(checks: list[str]) -> None:
    async def story() -> None:
        watch = Watch()
        checker = PasswordChecker(watch, CHEAP)
        for _ in range(3):
            assert await checker.is_right("alice", "correct horse", ALICE, HERE)
        assert len(checks) == 1
        watch.now = REMEMBERED_SECONDS
        assert await checker.is_right("alice", "correct horse", ALICE, HERE)
        assert len(checks) == 2

    asyncio.run(story())


def test_new_password_ends_what_was_remembered() -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert await checker.is_right("alice", "correct horse", ALICE, HERE)
        changed = replace(ALICE, password=hash_password("another one", CHEAP))
        assert not await checker.is_right("alice", "correct horse", changed, HERE)

    asyncio.run(story())


def test_unknown_name_costs_as_much_work_as_a_wrong_password(checks: list[str]) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert not await checker.is_right("carol", "correct horse", None, HERE)
        assert len(checks) == 1
        assert not await checker.is_right("alice", "wrong", ALICE, HERE)
        assert len(checks) == 2
        # The hash of nobody has the cost of real ones.
        assert checks[0].split("$")[3] == checks[1].split("$")[3]

    asyncio.run(story())


class Slow:
    """Stands in for the thread: checks that end when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released = asyncio.Event()
        self.at_once = self.most = self.count = 0
        monkeypatch.setattr(asyncio, "to_thread", self.check)

    async def check(self, _function: object, *_arguments: object) -> bool:
        self.count += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.released.wait()
        self.at_once -= 1
        return False


def test_flood_of_logins_waits_in_a_short_queue_and_known_clients_pass_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert await checker.is_right("alice", "correct horse", ALICE, HERE)
        slow = Slow(monkeypatch)
        flood = [
            asyncio.create_task(checker.is_right("carol", str(n), None, f"198.51.100.{n}"))
            for n in range(WAITING_MAX)
        ]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="clients log in just now"):
            await checker.is_right("carol", "one more", None, HERE)
        assert await checker.is_right("alice", "correct horse", ALICE, HERE)
        slow.released.set()
        assert await asyncio.gather(*flood) == [False] * WAITING_MAX
        assert slow.most == 1

    asyncio.run(story())


def test_client_that_floods_waits_for_itself_and_a_first_login_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        slow = Slow(monkeypatch)
        flood = [
            asyncio.create_task(checker.is_right("carol", str(n), None, f"2001:db8::{n + 1}"))
            for n in range(WAITING_PER_CLIENT_MAX)
        ]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="this client"):
            await checker.is_right("carol", "one more", None, "2001:db8::ffff")
        other = asyncio.create_task(checker.is_right("alice", "first", ALICE, "2001:db8:0:1::1"))
        await asyncio.sleep(0)
        slow.released.set()
        assert await other is False
        await asyncio.gather(*flood)
        # Whoever waited is gone from the books.
        assert not checker._waiting
        assert not checker._under_way

    asyncio.run(story())


def test_same_login_many_times_at_once_is_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        slow = Slow(monkeypatch)
        many = [
            asyncio.create_task(checker.is_right("carol", "wrong", None, HERE)) for _ in range(50)
        ]
        await asyncio.sleep(0)
        many[0].cancel()
        slow.released.set()
        assert await asyncio.gather(*many[1:]) == [False] * 49
        assert slow.count == 1

    asyncio.run(story())


def test_wrong_login_that_is_repeated_is_worked_on_once_in_a_while(checks: list[str]) -> None:
    async def story() -> None:
        watch = Watch()
        checker = PasswordChecker(watch, CHEAP)
        for _ in range(3):
            assert not await checker.is_right("carol", "hub password", None, HERE)
            assert not await checker.is_right("alice", "wrong", ALICE, HERE)
        assert len(checks) == 2
        # An account that is made meanwhile is another matter.
        carol = User("carol", hash_password("hub password", CHEAP), ())
        assert await checker.is_right("carol", "hub password", carol, HERE)
        watch.now = REMEMBERED_SECONDS
        assert not await checker.is_right("alice", "wrong", ALICE, HERE)
        assert len(checks) == 4

    asyncio.run(story())


def test_addresses_that_one_machine_has_are_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("192.0.2.2") != network_of("192.0.2.1")
    assert network_of("") == ""


def test_endless_password_is_not_worked_on(checks: list[str]) -> None:
    endless = PasswordChecker(Watch(), CHEAP).is_right("alice", "x" * 100_000, ALICE, HERE)
    assert not asyncio.run(endless)
    assert checks == []
