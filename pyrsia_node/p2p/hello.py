"""The first message on every connection: which network, how far, in which role. Pure.

Every other protocol id carries the network id, so nodes of different networks could not even tell
each other why they do not talk; this one does not, and so it can say both genesis hashes.
Specification: docs/spec/peer-protocols.md "hello".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.canonical import INTEGER_MAX, dumps, loads
from pyrsia_node.model.errors import InvalidInputError

HELLO_BYTES_MAX: Final = 1024
ROLES: Final = ("authorized", "regular")
VERSION_CHARACTERS_MAX: Final = 64

_HEX32 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself; only the genesis hash decides anything."""

    genesis: str
    height: int
    role: str
    version: str


def encode_hello(hello: Hello) -> bytes:
    """Return the canonical bytes; raises InvalidInputError as ``decode_hello``."""
    _check(hello)
    return dumps(
        {
            "t": "hello",
            "v": 1,
            "genesis": hello.genesis,
            "height": hello.height,
            "role": hello.role,
            "version": hello.version,
        }
    )


def decode_hello(data: bytes) -> Hello:
    """Return what canonical bytes say.

    Raises:
        InvalidInputError: Not a hello of this version; the text names the member.
    """
    value = loads(data, bytes_max=HELLO_BYTES_MAX)
    names = {"t", "v", "genesis", "height", "role", "version"}
    if not isinstance(value, dict) or set(value) != names:
        raise InvalidInputError(f"a hello has exactly the members {sorted(names)}")
    if value["t"] != "hello" or value["v"] is True or value["v"] != 1:
        raise InvalidInputError("not a hello of version 1")
    genesis, height = value["genesis"], value["height"]
    role, version = value["role"], value["version"]
    if not (isinstance(genesis, str) and isinstance(role, str) and isinstance(version, str)):
        raise InvalidInputError("hello: genesis, role and version are texts")
    if not isinstance(height, int) or isinstance(height, bool):
        raise InvalidInputError("hello: height is an integer")
    hello = Hello(genesis, height, role, version)
    _check(hello)
    return hello


def _check(hello: Hello) -> None:
    if not _HEX32.fullmatch(hello.genesis):
        raise InvalidInputError("hello: genesis is 64 lowercase hex digits")
    if not 0 <= hello.height <= INTEGER_MAX:
        raise InvalidInputError("hello: height is not negative and below 2^53")
    if hello.role not in ROLES:
        raise InvalidInputError(f"hello: role is one of {', '.join(ROLES)}")
    if len(hello.version) > VERSION_CHARACTERS_MAX or not hello.version.isprintable():
        raise InvalidInputError("hello: version is at most 64 printable characters")
