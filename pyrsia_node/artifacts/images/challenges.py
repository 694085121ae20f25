"""What a registry demands in ``WWW-Authenticate``, and what a token server answers. Pure.

RFC 9110, section 11 (challenges), RFC 6750, section 3 (Bearer), and the token protocol that
registries share: ``realm`` is where the token is, ``service`` who wants it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

HEADER_LENGTH_MAX: Final = 8 * 1024
TOKEN_ANSWER_BYTES_MAX: Final = 256 * 1024
TOKEN_LENGTH_MAX: Final = 32 * 1024
LIFETIME_DEFAULT_S: Final = 60
"""How long a token lives whose server does not say (token protocol)."""

LIFETIME_MAX_S: Final = 3600

_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - the grammar's word
_PARAMETER: Final = re.compile(
    rf'\s*({_TOKEN})\s*=\s*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")\s*(?:,|$)', re.DOTALL
)
_SCHEME: Final = re.compile(rf"\s*({_TOKEN})(?:\s+|\s*,|$)")
_PRINTABLE: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One demand. ``scheme`` is lower case; ``realm`` and ``service`` as the server wrote them."""

    scheme: str
    realm: str
    service: str


def parse_challenges(fields: Sequence[str]) -> list[Challenge]:
    """Return the challenges of all fields of one answer; what is malformed is left out."""
    found: list[Challenge] = []
    for field in fields:
        found += _challenges(field[:HEADER_LENGTH_MAX])
    return found


def _challenges(field: str) -> Iterator[Challenge]:
    position = 0
    while position < len(field):
        scheme = _SCHEME.match(field, position)
        if scheme is None:
            return
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(field, position):
            name, bare, quoted = parameter.groups()
            value = bare if bare is not None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            position = parameter.end()
        yield _challenge(scheme[1].lower(), parameters)


def _challenge(scheme: str, parameters: Mapping[str, str]) -> Challenge:
    return Challenge(scheme, parameters.get("realm", ""), parameters.get("service", ""))


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and for how many seconds it may be used."""

    text: str
    lifetime_s: int


def parse_token(data: bytes) -> Token:
    """Return the token that a token server's answer holds.

    Raises:
        InvalidInputError: It holds none that may stand in a header; never shows the answer.
    """
    try:
        value = json.loads(data) if len(data) <= TOKEN_ANSWER_BYTES_MAX else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInputError("the token server's answer is no JSON object")
    text = value.get("token") or value.get("access_token")
    if not isinstance(text, str) or len(text) > TOKEN_LENGTH_MAX or not _PRINTABLE.fullmatch(text):
        raise InvalidInputError("the token server's answer holds no token")
    lifetime = value.get("expires_in", LIFETIME_DEFAULT_S)
    if not isinstance(lifetime, int) or isinstance(lifetime, bool) or lifetime <= 0:
        lifetime = LIFETIME_DEFAULT_S
    return Token(text, min(lifetime, LIFETIME_MAX_S))
