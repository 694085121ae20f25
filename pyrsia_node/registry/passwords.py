"""Passwords of accounts: stored as Argon2id, checked so that a flood of logins starves nobody.

A check costs 64 MiB and a tenth of a second on purpose. So one runs at a time, few wait, and a
client that was right a moment ago is not checked again: clients log in before each request.
A name that nobody has costs the same as a wrong password, so that time tells no names.

The hash is libsodium's text form (``$argon2id$…``), which names its own cost.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nacl.exceptions
import nacl.pwhash.argon2id

from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports.registry import User

PASSWORD_BYTES_MAX: Final = 256
PASSWORD_LENGTH_MIN: Final = 8

REMEMBERED_MAX: Final = 256
REMEMBERED_SECONDS: Final = 300.0
WAITING_MAX: Final = 16
"""Checks that may wait for their turn: the last of them waits about two seconds."""

_ARGON2ID: Final = "$argon2id$"


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """What one guess costs: passes over so many bytes of memory. By default "interactive"."""

    passes: int = nacl.pwhash.argon2id.OPSLIMIT_INTERACTIVE
    memory_bytes: int = nacl.pwhash.argon2id.MEMLIMIT_INTERACTIVE


def check_password(password: str) -> str:
    """Return ``password`` if an account may have it; raises InvalidInputError, never showing it."""
    if len(password) < PASSWORD_LENGTH_MIN:
        raise InvalidInputError(f"the password is shorter than {PASSWORD_LENGTH_MIN} characters")
    if len(password.encode(errors="surrogatepass")) > PASSWORD_BYTES_MAX:
        raise InvalidInputError(f"the password is longer than {PASSWORD_BYTES_MAX} bytes")
    if not password.isprintable():
        raise InvalidInputError("the password holds a character that cannot be printed")
    return password


def hash_password(password: str, cost: PasswordCost | None = None) -> str:
    """Return what is stored of a password; blocks for the time of a check."""
    chosen = cost or PasswordCost()
    return nacl.pwhash.argon2id.str(
        password.encode(), opslimit=chosen.passes, memlimit=chosen.memory_bytes
    ).decode("ascii")


def is_password(stored: str, password: str) -> bool:
    """Tell whether ``password`` is the one that was stored; blocks for the time of a check."""
    if not stored.startswith(_ARGON2ID):
        return False
    try:
        return nacl.pwhash.argon2id.verify(
            stored.encode("ascii"), password.encode(errors="surrogatepass")
        )
    except (nacl.exceptions.CryptoError, UnicodeError):
        return False


class PasswordChecker:
    """Checks passwords for one gateway."""

    def __init__(self, monotonic_s: Callable[[], float], cost: PasswordCost | None = None) -> None:
        """Remember right passwords for a while, by a key that lives as long as this process."""
        self._monotonic_s = monotonic_s
        self._cost = cost or PasswordCost()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._nobody = ""

    async def is_right(self, user: User | None, password: str) -> bool:
        """Tell whether ``password`` is the account's; None is a name that nobody has.

        Raises:
            UnavailableError: Too many clients wait for this already.
        """
        if len(password.encode(errors="surrogatepass")) > PASSWORD_BYTES_MAX:
            return False
        mark = b"" if user is None else self._mark(user, password)
        if mark and self._is_remembered(mark):
            return True
        if self._waiting >= WAITING_MAX:
            raise UnavailableError("too many clients log in just now; try again")
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(self._check, user, password)
        finally:
            self._waiting -= 1
        if right:
            self._remember(mark)
        return right

    def _check(self, user: User | None, password: str) -> bool:
        # Made at the first check, whoever it is for, so that it tells nothing of names either.
        if not self._nobody:
            self._nobody = hash_password(secrets.token_hex(16), self._cost)
        stored = self._nobody if user is None else user.password
        return is_password(stored, password) and user is not None

    def _mark(self, user: User, password: str) -> bytes:
        """Return what stands for a right login; it changes with the stored password."""
        parts = (user.name, user.password, password)
        text = b"".join(
            len(part).to_bytes(8, "big") + part
            for part in (each.encode(errors="surrogatepass") for each in parts)
        )
        return hmac.digest(self._key, hashlib.sha256(text).digest(), "sha256")

    def _is_remembered(self, mark: bytes) -> bool:
        until = self._right.get(mark)
        if until is None:
            return False
        if self._monotonic_s() < until:
            return True
        del self._right[mark]
        return False

    def _remember(self, mark: bytes) -> None:
        self._right[mark] = self._monotonic_s() + REMEMBERED_SECONDS
        self._right.move_to_end(mark)
        while len(self._right) > REMEMBERED_MAX:
            self._right.popitem(last=False)
