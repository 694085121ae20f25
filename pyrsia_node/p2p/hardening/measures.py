"""Which measures are in force, within which bounds, and what they refused.

See the package's docstring for the measures themselves.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from pyrsia_node.model.errors import UnavailableError

LIBP2P_VERSION: Final = "0.8.1"
_LOG: Final = logging.getLogger("pyrsia.p2p")


class Measure(Enum):
    """A measure that a test may switch off, to show that the defect is still there."""

    CONTAIN_STREAMS = "K1 K2 K3 W2"
    CONTAIN_MESSAGES = "K4 K5 K6"
    RELEASE_INBOUND = "W1"
    CAP_UNREAD = "M1"
    LIMIT_UPGRADES = "D1"
    WHOLE_FRAMES = "F1"
    NO_AUTODIAL = "A1"
    KEEP_OWN_KEY = "S1"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one host. Seconds and bytes; counts are of live things."""

    connections: int = 256
    strangers: int = 192
    """Inbound connections of peers that are neither members nor configured."""
    upgrades_per_address: int = 32
    upgrade_s: float = 5.0
    inbound_streams_per_connection: int = 64
    """Being served; more are reset unread."""
    streams_per_connection: int = 512
    """Known to the muxer, half-closed ones too; a peer with more is disconnected."""
    streams_per_s: float = 150.0
    """Of one connection on average; the burst is four seconds' worth, more are reset unread."""
    refused_streams: int = 2000
    """Refused on one connection before it is closed."""
    unread_bytes_per_connection: int = 16 * 1024 * 1024
    unread_bytes: int = 256 * 1024 * 1024
    """Of all connections together, looked at once a connection holds more than 1 MiB."""
    write_s: float = 10.0
    health_check_s: float = 5.0
    ping_s: float = 10.0
    """Members are watched by their own heartbeats, which are quicker. Of others, a node that has
    too little processor time must not lose the connections that it could not make again."""


class Muxer(Protocol):
    """What the bound over all connections needs of one connection."""

    @property
    def unread_bytes(self) -> int:
        """Bytes received that no reader has taken yet."""
        ...


@dataclass(slots=True)
class Guard:
    """What the parts of one host share: bounds, who may connect, and what was refused."""

    limits: Limits
    is_welcome: Callable[[str], bool]
    is_expected: Callable[[str], bool]
    off: frozenset[Measure] = frozenset()
    refusals: Counter[str] = field(default_factory=Counter)
    muxers: set[Muxer] = field(default_factory=set)

    def has(self, measure: Measure) -> bool:
        """Return whether the measure is in force."""
        return measure not in self.off

    def refuse(self, why: str, peer: object) -> None:
        """Count and log (at debug: a stranger must not fill the log) one refusal."""
        self.refusals[why] += 1
        _LOG.debug("refused %s: %s", peer, why)


def check_version() -> None:
    """Refuse a libp2p that these measures were not written against.

    Raises:
        UnavailableError: Another release is installed.
    """
    found = importlib.metadata.version("libp2p")
    if found != LIBP2P_VERSION:
        raise UnavailableError(
            f"libp2p {found} is installed, but this node is hardened for {LIBP2P_VERSION} alone"
        )
