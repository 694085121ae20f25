"""The doctor's look at the clock: steered by a time service, and near the clocks of peers.

Deadlines and block times are Unix time; a member whose clock is far off has its blocks refused.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import CERT_NONE, create_default_context
from typing import Final
from urllib.parse import urlsplit

import trio

from pyrsia_node.cli.findings import Finding, fail, ok, warn
from pyrsia_node.core.link_client import call_once
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.ports import Clock
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Peers

_LINK_TIMEOUT_S: Final = 3.0
_PEER_TIMEOUT_S: Final = 3.0
_PEERS_ASKED_MAX: Final = 5
_SKEW_WARN_S: Final = 2.0
_SKEW_FAIL_S: Final = 10.0
"""How far a block's time may be from the clocks of a quorum (CONSENSUS.md 3.10)."""

_EARLIEST_MS: Final = 1_735_689_600_000  # 2025: this program did not exist before.
_ADJTIMEX_BYTES: Final = 208
_TIME_ERROR: Final = 5


def examine_clock(layout: Layout, clock: Clock, *, is_running: bool) -> Iterator[Finding]:
    """Yield what can be said about the clock; peers are asked only when the node runs."""
    if clock.now_ms() < _EARLIEST_MS:
        advice = "set the clock: certificates and deadlines depend on it"
        yield fail("clock", "it shows a time before 2025", advice)
        return
    if not _is_disciplined():
        advice = "run chrony, ntpd or systemd-timesyncd"
        yield warn("clock", "nothing keeps it right", advice)
    else:
        yield ok("clock", "kept right by a time service")
    skews = list(_skews_s(layout, clock)) if is_running else []
    if skews:
        yield judge_skew(sorted(skews)[len(skews) // 2], len(skews))


def judge_skew(skew_s: float, peers: int) -> Finding:
    """Say what a difference of ``skew_s`` seconds from the median of ``peers`` clocks means."""
    found = f"{skew_s:+.1f} s against the median of {peers} peers"
    if abs(skew_s) > _SKEW_FAIL_S:
        return fail("clock", found, "set the clock: this node's blocks will be refused")
    if abs(skew_s) > _SKEW_WARN_S:
        return warn("clock", found, "let a time service keep it right")
    return ok("clock", found)


def _is_disciplined() -> bool:
    """Ask the kernel whether a time service steers the clock (adjtimex(2))."""
    request = ctypes.create_string_buffer(_ADJTIMEX_BYTES)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(request)
    return bool(0 <= state != _TIME_ERROR)


def _skews_s(layout: Layout, clock: Clock) -> Iterator[float]:
    """Yield how far our clock is ahead of peers' data listeners, by their Date header."""
    try:
        answer = trio.run(
            lambda: call_once(layout.core_socket, "peers", {}, timeout_s=_LINK_TIMEOUT_S)
        )
        peers = Peers.parse(answer).peers
    except PyrsiaError:
        return
    urls = [peer.data_url for peer in peers if peer.connected and peer.data_url]
    for url in urls[:_PEERS_ASKED_MAX]:
        skew_s = _skew_s(url, clock)
        if skew_s is not None:
            yield skew_s


def _skew_s(url: str, clock: Clock) -> float | None:
    parts = urlsplit(url)
    if parts.hostname is None:
        return None
    connection: HTTPConnection
    if parts.scheme == "https":
        # Only a hint about clocks is read here, from a header; who answers does not matter.
        context = create_default_context()
        context.check_hostname = False
        context.verify_mode = CERT_NONE
        connection = HTTPSConnection(
            parts.hostname, parts.port, timeout=_PEER_TIMEOUT_S, context=context
        )
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=_PEER_TIMEOUT_S)
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().getheader("Date")
        seen_ms = clock.now_ms()
        # The header has whole seconds: half of one is the best guess for the rest.
        return (
            None if date is None else seen_ms / 1000 - parsedate_to_datetime(date).timestamp() - 0.5
        )
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
