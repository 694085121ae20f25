"""Where a peer's data listener is, read from its record. Pure.

The text comes from a peer, so exactly one form passes: ``https://HOST:PORT`` with a fingerprint
(``http://HOST:PORT`` in networks that switched TLS off). No path, no user, no query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import InvalidInputError

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<six>[0-9a-fA-F:.]{2,45})\]|(?P<host>[A-Za-z0-9.-]{1,253}))"
    r":(?P<port>[1-9][0-9]{0,4})/?"
)


@dataclass(frozen=True, slots=True)
class DataAddress:
    """Host, port and the SHA-256 of the certificate in hex; None means TLS is off."""

    host: str
    port: int
    fingerprint: str | None

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted and pinned."""
        return self.fingerprint is not None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"


def parse_data_url(url: str, fingerprint: str | None, *, allow_plain: bool) -> DataAddress:
    """Return the address that a record names.

    Raises:
        InvalidInputError: Malformed, or not encrypted where that is not allowed.
    """
    match = _URL.fullmatch(url)
    if match is None or int(match["port"]) > 65_535:
        raise InvalidInputError(f"data URL {url!r:.120} is not of the form https://HOST:PORT")
    if match["scheme"] == "http":
        if not allow_plain:
            raise InvalidInputError(f"data URL {url!r:.120} is not encrypted")
        fingerprint = None
    elif fingerprint is None or not is_hex(fingerprint, size=32):
        raise InvalidInputError(f"data URL {url!r:.120} has no certificate fingerprint")
    return DataAddress(match["six"] or match["host"], int(match["port"]), fingerprint)
