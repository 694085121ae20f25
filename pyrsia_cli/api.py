"""The node's HTTP API, as the command uses it. Everything that comes back is only a claim.

Errors are the node's own error tree again, so that exit codes mean the same everywhere.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self, TypeVar

import httpx
from pydantic import ValidationError

from pyrsia_cli.settings import Settings
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError, UnavailableError
from pyrsia_node.schema.distribution import DistributionErrors
from pyrsia_node.schema.fields import Answer
from pyrsia_node.schema.http import ErrorAnswer
from pyrsia_node.schema.links import error_of

TIMEOUT_S: Final = 30.0
_ERRORS_SHOWN: Final = 8
_KINDS: Final = {404: "not_found"} | dict.fromkeys((400, 401, 403, 405, 413), "invalid")
"""What a status of the distribution interface means; others are worth another try."""

_AnswerT = TypeVar("_AnswerT", bound=Answer)


class NodeApi:
    """A connection to one node. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        """Talk to the node that ``settings`` name."""
        self._settings = settings
        # The environment's proxies are not for a node on this machine.
        self._client = httpx.Client(
            base_url=settings.url, timeout=TIMEOUT_S, trust_env=False, verify=_trusted(settings)
        )

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connection."""
        self._client.close()

    def get(
        self, path: str, kind: type[_AnswerT], params: Mapping[str, str | int] | None = None
    ) -> _AnswerT:
        """Return the answer to GET ``path``, read as ``kind``.

        Raises:
            PyrsiaError: what the node answered, or UnavailableError when there is no node.
        """
        return self._read(self._send("GET", path, params=dict(params or {})), kind)

    def get_as_admin(self, path: str, kind: type[_AnswerT]) -> _AnswerT:
        """Return the answer to GET ``path``, asked with the admin token; raises as ``get``."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        return self._read(self._send("GET", path, headers=headers), kind)

    def get_text(self, path: str) -> bytes:
        """Return the bytes that GET ``path`` gives; raises as ``get``."""
        return self._send("GET", path).content

    def get_page(self, path: str) -> tuple[object, str]:
        """Return what GET ``path`` gives, and the path of the next page, "" at the last.

        Raises:
            PyrsiaError: as ``get``.
        """
        response = self._send("GET", path)
        following = response.links.get("next", {}).get("url", "")
        if following:
            # Another node's address would be asked with what is meant for this one.
            following = httpx.URL(response.url).join(following).raw_path.decode("ascii")
        return self._json(response), following

    def post(self, path: str, kind: type[_AnswerT], body: Mapping[str, object]) -> _AnswerT:
        """Return the answer to POST ``path``, made with the admin token; raises as ``get``."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        return self._read(self._send("POST", path, json=dict(body), headers=headers), kind)

    def _token(self) -> str:
        path = self._settings.token_file
        if not path:
            raise InvalidInputError(
                "this needs the node's admin token: `pyrsia config edit --token-file"
                " DATA/admin.token`"
            )
        try:
            return Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"admin token {path} cannot be read: {error}") from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str | int] | None = None,
        json: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._client.request(method, path, params=params, json=json, headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no node answers at {self._settings.url} ({error}); is `pyrsia-node run` up?"
            ) from error
        if response.is_error:
            raise _error_in(response)
        return response

    def _json(self, response: httpx.Response) -> object:
        try:
            value: object = response.json()
        except ValueError as error:
            raise UnavailableError(f"{response.url}: the answer is not JSON") from error
        return value

    def _read(self, response: httpx.Response, kind: type[_AnswerT]) -> _AnswerT:
        value = self._json(response)
        if not isinstance(value, dict):
            raise UnavailableError(f"{response.url}: the answer is not a JSON object")
        return kind.parse(value)


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """Return whose certificates count: those in the file that the settings name, or the system's.

    Raises:
        InvalidInputError: the file cannot be read or holds no certificate.
    """
    if not settings.tls or not settings.ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInputError(
            f"ca_file {settings.ca_file} holds no certificates that can be read: {error}"
        ) from error


def _error_in(response: httpx.Response) -> PyrsiaError:
    with contextlib.suppress(ValidationError):
        answer = ErrorAnswer.model_validate_json(response.content)
        return error_of(answer.error.kind, answer.error.message)
    with contextlib.suppress(ValidationError):
        errors = DistributionErrors.model_validate_json(response.content).errors
        text = "; ".join(f"{each.message} ({each.code})" for each in errors[:_ERRORS_SHOWN])
        return error_of(_KINDS.get(response.status_code, "unavailable"), text)
    return UnavailableError(f"{response.url} answered {response.status_code}")
