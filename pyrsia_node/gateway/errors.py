"""From the error tree to HTTP, once for all services. docs/spec/http-api.md.

==================== ======================================================
400 invalid          the client is wrong
403 invalid          the client may not do this: no admin token, or from elsewhere; the network
                     withdrew or revoked the file
404 not_found        honest absence
502 verification     what somebody else sent does not hold
502 peer             another node broke the protocol
503 unavailable      try again; ``Retry-After`` says when
500 corrupt,internal our state or our code is wrong
==================== ======================================================
"""

from __future__ import annotations

from typing import Final

from pyrsia_node.artifacts.statements import RefusedError
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.schema.http import ErrorAnswer, ErrorBody
from pyrsia_node.schema.links import INTERNAL_ERROR, kind_of

RETRY_AFTER_SECONDS: Final = 2


class ForbiddenError(InvalidInputError):
    """The caller may not do this; the text says what is needed."""


_STATUSES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (ForbiddenError, 403),
    (RefusedError, 403),
    (InvalidInputError, 400),
    (NotFoundError, 404),
    (VerificationError, 502),
    (PeerMisbehaviorError, 502),
    (UnavailableError, 503),
    (CorruptStateError, 500),
)


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error; 500 for what is not of the error tree."""
    return next((status for cls, status in _STATUSES if isinstance(error, cls)), 500)


def headers_of(error: Exception) -> list[tuple[str, str]]:
    """Return the header fields that go with an error."""
    if isinstance(error, UnavailableError):
        return [("retry-after", str(RETRY_AFTER_SECONDS))]
    return []


def text_of(error: Exception) -> str:
    """Return what a user may read; defects of ours are not spelled out."""
    return INTERNAL_ERROR if kind_of(error) == "internal" else str(error)


def body_of(error: Exception) -> bytes:
    """Return the JSON body that ``/api/v1`` answers with."""
    kind = kind_of(error)
    body = ErrorAnswer(error=ErrorBody.model_validate({"kind": kind, "message": text_of(error)}))
    return body.model_dump_json().encode()
