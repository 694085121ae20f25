"""Errors as the distribution specification wants them: ``{"errors":[{code, message, detail}]}``.

One table from our errors to statuses and codes ("Error Codes", specification 1.1); what is in no
row of it is answered as everywhere else (gateway/errors.py), with a code that says least.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pyrsia_node.artifacts.statements import RefusedError
from pyrsia_node.gateway.errors import headers_of, status_of, text_of
from pyrsia_node.gateway.images.access import AccessError
from pyrsia_node.gateway.images.routes import RouteError
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, PyrsiaError, UnavailableError
from pyrsia_node.ports.registry import ImmutableTagError, InUseError, QuotaExceededError
from pyrsia_node.registry.errors import (
    BlobUnknownError,
    ContentMissingError,
    DigestMismatchError,
    ManifestInvalidError,
    ManifestUnknownError,
    NameUnknownError,
    OutOfOrderError,
    ReadOnlyError,
    SizeMismatchError,
    TooLargeError,
    UnsupportedError,
    UploadUnknownError,
)
from pyrsia_node.transfer.asgi import Scope, Send, answer

JSON: Final = "application/json"
FIELDS: Final = (("docker-distribution-api-version", "registry/2.0"),)
"""With every answer, besides what the client port adds to all (``gateway.client_front``)."""

_Entry = tuple[str, str, dict[str, str] | None]
"""Code, message, detail."""

_CODES: Final[tuple[tuple[type[PyrsiaError], int, str], ...]] = (
    (NameUnknownError, 404, "NAME_UNKNOWN"),
    (ManifestUnknownError, 404, "MANIFEST_UNKNOWN"),
    (BlobUnknownError, 404, "BLOB_UNKNOWN"),
    (UploadUnknownError, 404, "BLOB_UPLOAD_UNKNOWN"),
    (ContentMissingError, 400, "MANIFEST_BLOB_UNKNOWN"),
    (ManifestInvalidError, 400, "MANIFEST_INVALID"),
    (DigestMismatchError, 400, "DIGEST_INVALID"),
    (SizeMismatchError, 400, "SIZE_INVALID"),
    (OutOfOrderError, 416, "BLOB_UPLOAD_INVALID"),
    (TooLargeError, 413, "SIZE_INVALID"),
    (ReadOnlyError, 403, "DENIED"),
    (RefusedError, 403, "DENIED"),
    (ImmutableTagError, 403, "DENIED"),
    (QuotaExceededError, 403, "DENIED"),
    (InUseError, 405, "DENIED"),
    (UnsupportedError, 405, "UNSUPPORTED"),
    (UnavailableError, 503, "TOOMANYREQUESTS"),
    (NotFoundError, 404, "MANIFEST_UNKNOWN"),
    (InvalidInputError, 400, "UNSUPPORTED"),
)


async def answer_error(scope: Scope, send: Send, error: PyrsiaError) -> None:
    """Send an error as the specification words it."""
    status, code = _status_and_code(error)
    fields = [*headers_of(error), *_fields(error)]
    errors: list[_Entry] = [(code, text_of(error), None)]
    if isinstance(error, ContentMissingError):
        errors = [(code, "not in the repository", {"digest": each}) for each in error.digests]
    body = _body(errors)
    await answer(scope, send, status, body, media=JSON, headers=[*FIELDS, *fields])


def _body(errors: Sequence[_Entry]) -> bytes:
    listed: list[dict[str, object]] = []
    for code, message, detail in errors:
        listed.append({"code": code, "message": message})
        if detail is not None:
            listed[-1]["detail"] = detail
    return json.dumps({"errors": listed}, separators=(",", ":")).encode()


def _status_and_code(error: PyrsiaError) -> tuple[int, str]:
    if isinstance(error, RouteError | AccessError):
        return error.status, error.code
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return status, code
    return status_of(error), "UNSUPPORTED"


def _fields(error: PyrsiaError) -> list[tuple[str, str]]:
    if isinstance(error, AccessError):
        return list(error.headers)
    if isinstance(error, RouteError):
        return error.fields
    if isinstance(error, OutOfOrderError):
        return [("range", f"0-{max(error.offset - 1, 0)}")]
    return []
