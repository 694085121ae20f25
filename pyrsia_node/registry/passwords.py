"""Passwords of accounts: stored as Argon2id, checked so that a flood of logins starves nobody.

A check costs 64 MiB and a tenth of a second on purpose. So one runs at a time, few wait in all and
fewer for one client, the same login twice is one check, and what was right or wrong a moment ago is
not checked again: clients log in before each request, also with a password that is wrong.
A name that nobody has costs the same as a wrong password, so that time tells no names.

The hash is libsodium's text form (``$argon2id$…``), which names its own cost.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from collections import Counter, OrderedDict
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
WAITING_MAX: Final = 64
"""Checks that may wait for their turn: the last of them waits some seconds."""

WAITING_PER_CLIENT_MAX: Final = 4
"""Of one address; the same login many times at once counts once."""

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
        """Remember answers for a while, by a key that lives as long as this process."""
        self._monotonic_s = monotonic_s
        self._cost = cost or PasswordCost()
        self._key = secrets.token_bytes(32)
        self._right = _Marks(REMEMBERED_MAX)
        self._wrong = _Marks(REMEMBERED_MAX)
        self._turn = asyncio.Lock()
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}
        self._waiting = Counter[str]()
        self._nobody = ""

    async def is_right(self, name: str, password: str, user: User | None, client: str) -> bool:
        """Tell whether ``password`` is the account's.

        Args:
            name: As the client gave it.
            password: Likewise.
            user: The account of that name; None if nobody has it.
            client: Where the request comes from; who asks much waits for itself.

        Raises:
            UnavailableError: Too many checks wait already, in all or for this client.
        """
        if len(password.encode(errors="surrogatepass")) > PASSWORD_BYTES_MAX:
            return False
        stored = "" if user is None else user.password
        mark, now_s = self._mark(name, password, stored), self._monotonic_s()
        if self._right.holds(mark, now_s):
            return True
        if self._wrong.holds(mark, now_s):
            return False
        task = self._under_way.get(mark)
        if task is None:
            task = self._begin(mark, password, user, network_of(client))
        # A client that leaves does not take the answer from others who gave the same.
        return await asyncio.shield(task)

    def _begin(
        self, mark: bytes, password: str, user: User | None, client: str
    ) -> asyncio.Task[bool]:
        if self._waiting[client] >= WAITING_PER_CLIENT_MAX:
            raise UnavailableError("this client has too many logins under way; try again")
        if self._waiting.total() >= WAITING_MAX:
            raise UnavailableError("too many clients log in just now; try again")
        self._waiting[client] += 1
        task = asyncio.create_task(self._in_turn(mark, password, user))
        self._under_way[mark] = task
        task.add_done_callback(lambda _: self._end(mark, client))
        return task

    def _end(self, mark: bytes, client: str) -> None:
        del self._under_way[mark]
        self._waiting[client] -= 1
        if not self._waiting[client]:
            del self._waiting[client]

    async def _in_turn(self, mark: bytes, password: str, user: User | None) -> bool:
        async with self._turn:
            right = await asyncio.to_thread(self._check, user, password)
        marks = self._right if right else self._wrong
        marks.add(mark, self._monotonic_s() + REMEMBERED_SECONDS)
        return right

    def _check(self, user: User | None, password: str) -> bool:
        # Made at the first check, whoever it is for, so that it tells nothing of names either.
        if not self._nobody:
            self._nobody = hash_password(secrets.token_hex(16), self._cost)
        stored = self._nobody if user is None else user.password
        return is_password(stored, password) and user is not None

    def _mark(self, *parts: str) -> bytes:
        """Return what stands for a login; it changes with the stored password."""
        encoded = [part.encode(errors="surrogatepass") for part in parts]
        text = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.digest(self._key, text, "sha256")


class _Marks:
    """Logins that were judged, each until a time; the oldest go first."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def holds(self, mark: bytes, now_s: float) -> bool:
        return self._until.get(mark, now_s) > now_s

    def add(self, mark: bytes, until_s: float) -> None:
        self._until[mark] = until_s
        self._until.move_to_end(mark)
        while len(self._until) > self._count_max:
            self._until.popitem(last=False)


def network_of(client: str) -> str:
    """Return whom an address belongs to: itself, for IPv6 its /64, all of which one machine has."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
