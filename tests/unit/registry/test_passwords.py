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
    PasswordChecker,
    PasswordCost,
    check_password,
    hash_password,
    is_password,
)

CHEAP = PasswordCost(passes=1, memory_bytes=8192)
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
            assert await checker.is_right(ALICE, "correct horse")
        assert len(checks) == 1
        watch.now = REMEMBERED_SECONDS
        assert await checker.is_right(ALICE, "correct horse")
        assert len(checks) == 2

    asyncio.run(story())


def test_new_password_ends_what_was_remembered() -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert await checker.is_right(ALICE, "correct horse")
        changed = replace(ALICE, password=hash_password("another one", CHEAP))
        assert not await checker.is_right(changed, "correct horse")

    asyncio.run(story())


def test_unknown_name_costs_as_much_work_as_a_wrong_password(checks: list[str]) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert not await checker.is_right(None, "correct horse")
        assert len(checks) == 1
        assert not await checker.is_right(ALICE, "wrong")
        assert len(checks) == 2
        # The hash of nobody has the cost of real ones.
        assert checks[0].split("$")[3] == checks[1].split("$")[3]

    asyncio.run(story())


def test_flood_of_logins_waits_in_a_short_queue_and_known_clients_pass_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        checker = PasswordChecker(Watch(), CHEAP)
        assert await checker.is_right(ALICE, "correct horse")
        at_once = most = 0

        async def slow(check: object, *_arguments: object) -> bool:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await released.wait()
            at_once -= 1
            return False

        released = asyncio.Event()
        monkeypatch.setattr(asyncio, "to_thread", slow)
        flood = [asyncio.create_task(checker.is_right(None, str(n))) for n in range(WAITING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="log in just now"):
            await checker.is_right(None, "one more")
        assert await checker.is_right(ALICE, "correct horse")
        released.set()
        assert await asyncio.gather(*flood) == [False] * WAITING_MAX
        assert most == 1

    asyncio.run(story())


def test_endless_password_is_not_worked_on(checks: list[str]) -> None:
    assert not asyncio.run(PasswordChecker(Watch(), CHEAP).is_right(ALICE, "x" * 100_000))
    assert checks == []
