"""The terms of every local link: limits, how errors cross it, what answers a call.

Apart from the messages (schema/links.py), so that a small process can speak on a link without
loading their models. Format: docs/spec/links.md.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.model.errors import (
    CorruptStateError,
    DiskError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)

CALL_TIMEOUT_S: Final = 30.0
"""How long a call may take unless the caller, or the server's table, says otherwise."""

STALL_TIMEOUT_S: Final = 30.0
"""How long the other side may take to finish a frame that it began, or to read what it gets."""

CONNECTIONS_MAX: Final = 64
CALLS_PER_CONNECTION_MAX: Final = 128
"""Calls of one connection that may be open, unread answers included; reading stops above it."""

INTERNAL_ERROR: Final = "internal error; the node's output has the details"

Handler = Callable[[JsonObject], Awaitable[Mapping[str, object]]]
"""Answers one call. A PyrsiaError becomes an error answer with the error's kind and text."""

_PEER_MESSAGE = re.compile(r"peer (\S{1,80}): (.*)", re.DOTALL)
_KINDS: Final[tuple[tuple[type[PyrsiaError], str], ...]] = (
    (InvalidInputError, "invalid"),
    (NotFoundError, "not_found"),
    (VerificationError, "verification"),
    (PeerMisbehaviorError, "peer"),
    (UnavailableError, "unavailable"),
    # The caller of a node whose disk was full may try again; what is durable there is whole.
    (DiskError, "unavailable"),
    (CorruptStateError, "corrupt"),
)


def kind_of(error: Exception) -> str:
    """Return the wire's word for an error; whatever is not of the error tree is "internal"."""
    return next((kind for cls, kind in _KINDS if isinstance(error, cls)), "internal")


def error_of(kind: str, message: str) -> PyrsiaError:
    """Return the error that an error answer stands for; the inverse of :func:`kind_of`."""
    if kind == "peer":
        named = _PEER_MESSAGE.match(message)
        return PeerMisbehaviorError(*named.groups()) if named else PyrsiaError(message)
    for cls, word in _KINDS:
        if word == kind:
            return cls(message)
    return PyrsiaError(message)
