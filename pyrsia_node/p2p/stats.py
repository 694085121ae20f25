"""Counters of one network, for status, metrics and tests."""

from __future__ import annotations

from dataclasses import dataclass

from pyrsia_node.ports import PeerId


@dataclass(slots=True)
class Counters:
    """What happened since the start; only ever grows."""

    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped_out: int = 0
    """Oldest frames given up because a member's queue was full."""
    frames_dropped_in: int = 0
    """Oldest frames given up because the driver reads slower than a member sends."""
    links_reset: int = 0
    asks_sent: int = 0
    asks_failed: int = 0
    asks_answered: int = 0
    hints_sent: int = 0
    hints_received: int = 0
    hints_dropped: int = 0
    piece_bytes_sent: int = 0
    piece_bytes_received: int = 0


@dataclass(frozen=True, slots=True)
class NetworkStatistics:
    """A snapshot. ``refusals`` counts by reason what strangers and hostile peers were denied."""

    peers: int
    connections: int
    member_links_up: int
    member_rtt_s: dict[PeerId, float | None]
    records: int
    unread_bytes: int
    counters: Counters
    refusals: dict[str, int]
    foreign: dict[PeerId, str]
    """Peers of another network that were met, with their genesis hash."""
