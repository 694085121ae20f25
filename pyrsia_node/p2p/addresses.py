"""Multiaddresses of this network: TCP over IPv4, IPv6 or a DNS name. Pure.

A strict subset of libp2p's addresses, so that nothing from the wire reaches its parser unchecked.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.identity import public_key_of
from pyrsia_node.ports import PeerId

ADDRESS_CHARACTERS_MAX: Final = 256
_FORM: Final = "/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/PEER-ID]"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")


def parse_address(text: str) -> tuple[PeerId | None, str]:
    """Split an address into the peer id at its end (None if there is none) and the rest.

    Raises:
        InvalidInputError: Not of the form above; the text names the address.
    """
    if len(text) > ADDRESS_CHARACTERS_MAX:
        raise InvalidInputError(f"an address of more than {ADDRESS_CHARACTERS_MAX} characters")
    parts = text.split("/")
    if len(parts) not in (5, 7) or parts[0] or parts[3] != "tcp":
        raise InvalidInputError(f"address {text!r} is not of the form {_FORM}")
    if not (_is_host(parts[1], parts[2]) and _PORT.fullmatch(parts[4]) and int(parts[4]) < 65536):
        raise InvalidInputError(f"address {text!r} is not of the form {_FORM}")
    rest = "/".join(parts[:5])
    if len(parts) == 5:
        return None, rest
    if parts[5] != "p2p":
        raise InvalidInputError(f"address {text!r} is not of the form {_FORM}")
    public_key_of(parts[6])
    return PeerId(parts[6]), rest


def parse_peer_address(text: str) -> tuple[PeerId, str]:
    """Split an address that must name its peer, as everything that is dialled does.

    Raises:
        InvalidInputError: As ``parse_address``, or the peer id is missing.
    """
    peer, rest = parse_address(text)
    if peer is None:
        raise InvalidInputError(f"address {text!r} lacks /p2p/PEER-ID, so nobody could prove it")
    return peer, rest


def is_wildcard(address: str) -> bool:
    """Return whether an address listens everywhere, and so names no place to dial."""
    return address.startswith(("/ip4/0.0.0.0/", "/ip6/::/"))


def _is_host(kind: str, host: str) -> bool:
    if kind.startswith("dns"):
        return kind in ("dns", "dns4", "dns6") and _NAME.fullmatch(host) is not None
    try:
        match kind:
            case "ip4":
                return str(ipaddress.IPv4Address(host)) == host
            case "ip6":
                return "%" not in host and bool(ipaddress.IPv6Address(host))
            case _:
                return False
    except ValueError:
        return False
