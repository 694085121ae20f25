"""Who may make calls that change something: a client on this machine with the admin token.

The token stands in a file of the data directory that only the node's user can read. It is read at
each call, so a new one counts at once; it is compared in constant time and never logged.
"""

from __future__ import annotations

import hmac
import ipaddress
import stat
from pathlib import Path
from typing import Final

from pyrsia_node.gateway.errors import ForbiddenError
from pyrsia_node.model.errors import UnavailableError

TOKEN_BYTES_MAX: Final = 1024
TOKEN_LENGTH_MIN: Final = 16


class AdminGate:
    """Admits calls by token and address."""

    def __init__(self, token_file: Path) -> None:
        """Read the token from ``token_file`` whenever it is needed."""
        self._token_file = token_file

    def check(self, *, authorization: str | None, address: str | None) -> None:
        """Return if the call may be made.

        Raises:
            ForbiddenError: Not from this machine, or without the right token.
            UnavailableError: There is no usable token; says how to get one.
        """
        if not is_loopback(address):
            raise ForbiddenError("this call is taken from the node's own machine only")
        scheme, _, given = (authorization or "").partition(" ")
        expected = self._read()
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode(), expected.encode()
        ):
            raise ForbiddenError(
                f"this call needs 'Authorization: Bearer TOKEN' with the token in "
                f"{self._token_file}"
            )

    def _read(self) -> str:
        try:
            with self._token_file.open("rb") as file:
                status = self._token_file.stat()
                text = file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError(
                f"{self._token_file} cannot be read ({error}); `pyrsia-node init` makes it"
            ) from error
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise UnavailableError(f"{self._token_file} must be readable by its owner alone: 0600")
        if len(text) < TOKEN_LENGTH_MIN:
            raise UnavailableError(
                f"{self._token_file} is shorter than {TOKEN_LENGTH_MIN} characters"
            )
        return text


def is_loopback(address: str | None) -> bool:
    """Tell whether a client's address is on this machine."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback
