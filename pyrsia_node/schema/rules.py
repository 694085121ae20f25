"""What a value in the configuration may be: one rule per key, used to check, explain and document.

A rule says whether a value fits and, in words, what would. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import check_host

INTEGER_MAX: Final = 2**53 - 1

_LABEL = re.compile(r"[a-z0-9.-]{1,64}\Z")
_PEER_ID = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}\Z")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_-]+)*\Z"
)
_RESERVED = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*-?\*?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*\Z")
_USER = re.compile(r"([a-z_][a-z0-9_-]{0,31}|[0-9]{1,9})\Z")
_TEXT_CHARACTERS_MAX: Final = 1024
_LIST_ITEMS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """What one key may hold.

    Attributes:
        allowed: the rule in words, to stand after "allowed: ".
        fits: whether a value parsed from TOML obeys the rule.
        read: the value that the configuration holds for one that fits; lists become tuples.
    """

    allowed: str
    fits: Callable[[object], bool]
    read: Callable[[object], object] = lambda value: (
        tuple(value) if isinstance(value, list) else value
    )


def boolean() -> Rule:
    """Return the rule of a switch."""
    return Rule("true or false", lambda value: isinstance(value, bool))


def integer(low: int, high: int, unit: str = "") -> Rule:
    """Return the rule of an integer from ``low`` to ``high``, both included."""
    words = f"an integer from {low} to {high}" + (f" ({unit})" if unit else "")
    return Rule(words, lambda value: type(value) is int and low <= value <= high)


def one_of(*choices: str) -> Rule:
    """Return the rule of a text out of a closed set."""
    return Rule(" or ".join(f'"{choice}"' for choice in choices), lambda value: value in choices)


def label() -> Rule:
    """Return the rule of a node's label: it names the node's cosignatures (docs/spec/leaves.md)."""
    return _text("1 to 64 characters of a-z, 0-9, dot and hyphen", lambda v: bool(_LABEL.match(v)))


def host() -> Rule:
    """Return the rule of an address to listen on."""
    return _text("an IP address or a host name", is_host)


def file_path() -> Rule:
    """Return the rule of a path chosen by the operator."""
    return _text(
        "a path, relative to the data directory or absolute", lambda v: bool(v) and v.isprintable()
    )


def optional_path() -> Rule:
    """Return the rule of a path that may be left empty."""
    return _text('"", or a path, relative to the data directory or absolute', str.isprintable)


def url(*schemes: str, may_be_empty: bool = True) -> Rule:
    """Return the rule of a URL without query and fragment."""
    words = " or ".join(f"{scheme}://HOST[:PORT][/PATH]" for scheme in schemes)
    if may_be_empty:
        return _text(f'"" or {words}', lambda v: v == "" or is_url(v, schemes))
    return _text(words, lambda v: is_url(v, schemes))


def pipeline_url() -> Rule:
    """Return the rule of another's build pipeline; credentials would reach its every log."""
    return _text(
        '"" or http(s)://HOST[:PORT][/PATH] without a user, or unix:///PATH',
        lambda v: (
            v == ""
            or (v.startswith("unix:///") and v.isprintable() and len(v) > len("unix:///"))
            or (is_url(v, ("http", "https")) and "@" not in v)
        ),
    )


def near_address() -> Rule:
    """Return the rule of a numeric address and a port that only near machines reach."""
    return _text(
        '"" or ADDRESS:PORT, a loopback or private address by its number',
        lambda v: v == "" or is_near_address(v),
    )


def user() -> Rule:
    """Return the rule of a system account, "" meaning the product's own choice."""
    return _text('"", a user name or a numeric user id', lambda v: v == "" or bool(_USER.match(v)))


def peer_ids(*, may_be_star: bool = False) -> Rule:
    """Return the rule of a list of peer ids; ``may_be_star`` also allows "*", which means all."""
    words = "a list of peer ids" + (', or ["*"] for all' if may_be_star else "")
    return _list(words, lambda v: bool(_PEER_ID.match(v)) or (may_be_star and v == "*"))


def registry_host() -> Rule:
    """Return the rule of a container registry's name."""
    return _text("HOST[:PORT] in lower case", is_registry_host)


def hosts() -> Rule:
    """Return the rule of a list of other machines."""
    return _list("a list of HOST[:PORT] in lower case", is_registry_host)


def repository_prefixes() -> Rule:
    """Return the rule of paths that repositories may begin with."""
    return _list(
        'a list of repository paths ("team", "team/tools")', lambda v: bool(_REPOSITORY.match(v))
    )


def origin() -> Rule:
    """Return the rule of a URL without a path, which may be left empty."""
    return _text(
        '"" or https://HOST[:PORT] or http://HOST[:PORT]', lambda v: v == "" or _is_origin(v)
    )


def origins() -> Rule:
    """Return the rule of web origins, "*" meaning any."""
    return _list(
        'a list of origins ("https://ui.example"), or ["*"] for any',
        lambda v: v == "*" or _is_origin(v),
    )


def reserved_names() -> Rule:
    """Return the rule of package names in normal form (PEP 503), "*" at the end for a prefix."""
    return _list(
        'a list of normalised package names ("acme-tools") or prefixes ("acme-*")',
        lambda v: bool(_RESERVED.match(v)),
    )


def multiaddrs(*, with_peer: bool) -> Rule:
    """Return the rule of a list of TCP multiaddrs; ``with_peer`` demands /p2p/PEER at the end."""
    words = "a list of multiaddrs like /ip4/192.0.2.1/tcp/44000" + "/p2p/PEER" * with_peer
    return _list(words, lambda v: is_multiaddr(v, with_peer=with_peer))


def is_registry_host(value: str) -> bool:
    """Tell whether ``value`` is HOST[:PORT] in lower case."""
    try:
        check_host(value)
    except InvalidInputError:
        return False
    return True


def is_host(value: str) -> bool:
    """Tell whether ``value`` is an IP address or a host name (RFC 1123, underscores tolerated)."""
    if is_ip(value):
        return True
    # A name of digits and dots alone is a mistyped address, never a name.
    return bool(_HOST_NAME.match(value)) and not re.fullmatch(r"[0-9.]+", value)


def is_ip(value: str) -> bool:
    """Tell whether ``value`` is an IPv4 or IPv6 address without a zone."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def is_near_address(value: str) -> bool:
    """Tell whether ``value`` is ADDRESS:PORT with a loopback or private address; IPv6 in []."""
    host, _, port = value.rpartition(":")
    is_v6 = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if is_v6 else host)
    except ValueError:
        return False
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535 or "%" in host:
        return False
    return (address.version == 6) == is_v6 and address.is_private and not address.is_unspecified


def is_url(value: str, schemes: tuple[str, ...]) -> bool:
    """Tell whether ``value`` is an absolute URL of one of ``schemes``; no query, no fragment."""
    if not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in schemes or parts.query or parts.fragment or "?" in value or "#" in value:
        return False
    return parts.hostname is not None and is_host(parts.hostname) and port != 0


def _is_origin(value: str) -> bool:
    return is_url(value, ("https", "http")) and value.count("/") == 2


def is_multiaddr(value: str, *, with_peer: bool) -> bool:
    """Tell whether ``value`` is /ip4|ip6|dns…/HOST/tcp/PORT[/p2p/PEER][/p2p-circuit[/p2p/PEER]].

    Only the form is checked; the network layer resolves and dials.
    """
    match value.split("/"):
        case ["", kind, address, "tcp", port, *rest]:
            return (
                _is_multiaddr_host(kind, address)
                and port.isascii()
                and port.isdecimal()
                and int(port) <= 65535
                and _is_peer_suffix(rest, with_peer=with_peer)
            )
        case _:
            return False


def _is_multiaddr_host(kind: str, address: str) -> bool:
    match kind:
        case "ip4":
            return is_ip(address) and ":" not in address
        case "ip6":
            return is_ip(address) and ":" in address
        case "dns" | "dns4" | "dns6":
            return is_host(address)
        case _:
            return False


def _is_peer_suffix(rest: list[str], *, with_peer: bool) -> bool:
    match rest:
        case []:
            return not with_peer
        case ["p2p", peer]:
            return bool(_PEER_ID.match(peer))
        case ["p2p", relay, "p2p-circuit"]:
            return not with_peer and bool(_PEER_ID.match(relay))
        case ["p2p", relay, "p2p-circuit", "p2p", peer]:
            return bool(_PEER_ID.match(relay)) and bool(_PEER_ID.match(peer))
        case _:
            return False


def _text(allowed: str, fits: Callable[[str], bool]) -> Rule:
    return Rule(
        allowed,
        lambda value: isinstance(value, str) and len(value) <= _TEXT_CHARACTERS_MAX and fits(value),
    )


def _list(allowed: str, fits: Callable[[str], bool]) -> Rule:
    item = _text(allowed, fits)
    return Rule(
        allowed,
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) <= _LIST_ITEMS_MAX
            and all(item.fits(entry) for entry in value)
        ),
    )
