"""What a network is opened with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.addresses import is_wildcard, parse_address, parse_peer_address
from pyrsia_node.p2p.hardening.measures import Limits, Measure
from pyrsia_node.p2p.hello import ROLES
from pyrsia_node.p2p.pieces import PieceLimits
from pyrsia_node.p2p.requests import AskLimits

_HEX: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Settings of one node's network; checked when made.

    Attributes:
        genesis: The network id: SHA-256 of genesis, lowercase hex.
        listen: TCP multiaddresses; port 0 means any.
        announce: What to advertise instead of the addresses listened on; needed where those are
            wildcards or behind a translation of addresses.
        bootstrap: Addresses with ``/p2p/PEER-ID``, tried for ever.
        label: Name in the node record: 1 to 64 of ``[a-z0-9.-]``.
        role: ``authorized`` or ``regular``; a claim that decides nothing.
        version: Shown to peers.
        data_url: Of the data listener, or empty.
        fingerprint: SHA-256 of the data listener's certificate, hex, or empty.
        gossip: Whether to use gossip for hints.
        refused: Peer ids that are never talked to.
        company: How many connections to keep at least, as far as known peers allow.
        limits: Bounds of connections and streams.
        ask: Bounds of answering.
        pieces: Bounds of serving pieces.
        measures_off: For regression tests alone.

    Raises:
        InvalidInputError: A value is not allowed; the text names the setting.
    """

    genesis: str
    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    label: str = "node"
    role: str = "regular"
    version: str = ""
    data_url: str = ""
    fingerprint: str = ""
    gossip: bool = True
    refused: frozenset[str] = frozenset()
    company: int = 8
    limits: Limits = field(default_factory=Limits)
    ask: AskLimits = field(default_factory=AskLimits)
    pieces: PieceLimits = field(default_factory=PieceLimits)
    measures_off: frozenset[Measure] = frozenset()

    def __post_init__(self) -> None:
        if not _HEX.fullmatch(self.genesis):
            raise InvalidInputError("genesis: 64 lowercase hex digits are needed")
        if self.role not in ROLES:
            raise InvalidInputError(f"role: {self.role!r} is none of {', '.join(ROLES)}")
        for address in self.listen:
            if parse_address(address)[0] is not None or address.startswith("/dns"):
                raise InvalidInputError(f"listen: {address!r} is no address of this machine")
        for address in self.announce:
            if is_wildcard(address) or parse_address(address)[1].endswith("/tcp/0"):
                raise InvalidInputError(f"announce: {address!r} cannot be dialled")
        for address in self.bootstrap:
            parse_peer_address(address)

    @property
    def prefix(self) -> str:
        """Start of this network's protocol ids and topics."""
        return f"/pyrsia/{self.genesis[:16]}"
