"""Bearer tokens of the registry: short texts that say who a client is and what it asked for.

``pyr1.PAYLOAD.MAC``: base64url without padding; PAYLOAD is JSON, MAC is HMAC-SHA256 over
``pyr1.PAYLOAD``. The key is derived from the node's seed (``store.keys``), so every gateway of a
node takes the tokens of the others, a restart changes nothing, and new keys end all tokens.

A token is an identity and a limit, never a right: what its account may do is looked up when it is
used. It carries a fingerprint of the stored password, so a new password ends it at once.

Three kinds: *access* for requests, *refresh* for new access tokens, and *share*, a capability to
pull one repository that its owner gives to somebody without an account, such as another node.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Final, Literal

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.scopes import TokenScope, parse_scopes

TOKEN_LENGTH_MAX: Final = 12_000
"""Characters; the scopes of the largest token that is issued fit."""

KEY_SIZE: Final = 32
NAME_LENGTH_MAX: Final = 64

TokenKind = Literal["access", "refresh", "share"]

VERIFIED_MAX: Final = 1024
"""Tokens that are remembered to be ours; the same one comes with each request of a pull."""

_PREFIX: Final = "pyr1"
_SECONDS_MAX: Final = 2**40


class InvalidTokenError(InvalidInputError):
    """The token is malformed, not ours, of another kind, or too old."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    ``user`` is "" for anonymous clients; ``stamp`` is the fingerprint of the password that was
    given for it. Times are Unix seconds.
    """

    kind: TokenKind
    user: str
    stamp: str
    scopes: tuple[TokenScope, ...]
    expires_s: int


def password_stamp(stored: str) -> str:
    """Return 16 hex digits that change with the stored password and tell nothing about it."""
    return hashlib.blake2b(stored.encode(), digest_size=8, person=b"pyrsia/stamp").hexdigest()


class TokenSigner:
    """Makes and reads tokens."""

    def __init__(self, key: bytes) -> None:
        """Sign with a 32-byte ``key`` that no client knows."""
        assert len(key) == KEY_SIZE
        self._key = key
        self._verified: dict[str, Token] = {}

    def issue(self, token: Token) -> str:
        """Return the token's text."""
        claims = {
            "k": token.kind,
            "p": token.stamp,
            "s": [str(scope) for scope in token.scopes],
            "u": token.user,
            "x": token.expires_s,
        }
        payload = json.dumps(claims, separators=(",", ":"), sort_keys=True).encode()
        signed = f"{_PREFIX}.{_encode(payload)}"
        text = f"{signed}.{_encode(self._mac(signed))}"
        assert len(text) <= TOKEN_LENGTH_MAX
        return text

    def read(self, text: str, *kinds: TokenKind, now_s: int) -> Token:
        """Return what a token of one of ``kinds`` says, if it is ours and still holds.

        Raises:
            InvalidTokenError: It is not; the text says why, as far as a stranger may know.
        """
        token = self._verified.get(text) or self._verify(text)
        if token.kind not in kinds:
            raise InvalidTokenError(f"this is the token of another use: {token.kind}")
        if now_s >= token.expires_s:
            raise InvalidTokenError("the token is too old")
        return token

    def _verify(self, text: str) -> Token:
        if len(text) > TOKEN_LENGTH_MAX:
            raise InvalidTokenError(f"a token of {len(text)} characters is none of this node's")
        signed, _, mac = text.rpartition(".")
        if not hmac.compare_digest(_encode(self._mac(signed)).encode(), mac.encode()):
            raise InvalidTokenError("the token is not from this node, or it was changed")
        token = _decode(signed.removeprefix(f"{_PREFIX}."))
        if len(self._verified) >= VERIFIED_MAX:
            self._verified.clear()
        self._verified[text] = token
        return token

    def _mac(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode("utf-8", errors="surrogatepass"), "sha256")


def _decode(payload: str) -> Token:
    """Read a payload that carried our MAC; one of another version may still be another's form."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        match claims:
            case {
                "k": ("access" | "refresh" | "share") as kind,
                "p": str(stamp),
                "s": list(scopes),
                "u": str(user),
                "x": int(expires_s),
            } if 0 <= expires_s <= _SECONDS_MAX and len(user) <= NAME_LENGTH_MAX:
                return Token(kind, user, stamp, parse_scopes(map(str, scopes)), expires_s)
            case _:
                raise InvalidTokenError("the token has another version's form")
    except (binascii.Error, ValueError, RecursionError, InvalidInputError) as error:
        raise InvalidTokenError("the token has another version's form") from error


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
