"""The doctor's look at a member's votes: does it vote, and if not, which way leads back.

A running node is asked for its alarms. Of a stopped one the mark of a silence is read, which its
last life left beside its log of votes; whether that log is whole only the next start can say, for
it compares log, chain and what the other members remember.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import trio

from pyrsia_node.cli.findings import Finding, fail, ok, warn
from pyrsia_node.core.link_client import call_once
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.replica.silence import Silence, SilenceFile
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Status

GUIDE: Final = "docs/guides/recover.md"
_LINK_TIMEOUT_S: Final = 3.0


def examine_votes(layout: Layout, *, is_running: bool) -> Iterator[Finding]:
    """Yield whether this node keeps its word and may go on voting."""
    if is_running:
        yield from _of_alarms(_alarms(layout))
        return
    mark = SilenceFile(layout.wal).read_any()
    yield ok("votes", "no silence is marked") if mark is None else judge_silence(mark)


def judge_silence(mark: Silence) -> Finding:
    """Say what the mark of an earlier life means for the next start."""
    if mark.is_doubled:
        advice = (
            "stop the other machine that runs with this key, then rotate the key"
            f" ({GUIDE}, 'The same key on two machines')"
        )
        return fail("votes", f"KEY IN USE TWICE: {mark.reason}", advice)
    if mark.first_height is None:
        advice = f"start the node and let it run ({GUIDE}, 'A member that lost its votes')"
        return warn("votes", f"it may have forgotten votes: {mark.reason}", advice)
    found = f"it forgot votes, and votes again from height {mark.first_height} on"
    return warn("votes", found, "start the node and let it run")


def _alarms(layout: Layout) -> list[str]:
    try:
        answer = trio.run(
            lambda: call_once(layout.core_socket, "status", {}, timeout_s=_LINK_TIMEOUT_S)
        )
        return Status.parse(answer).alarms
    except PyrsiaError as error:
        return [f"the core does not answer: {error}"]


def _of_alarms(alarms: list[str]) -> Iterator[Finding]:
    if not alarms:
        yield ok("alarms", "none")
    for alarm in alarms:
        # Of an ordinary start, and of a silence that ends by itself, nothing has to be done.
        is_passing = "Nothing is to be done" in alarm or "after its start" in alarm
        judge = warn if is_passing else fail
        yield judge("alarms", alarm, "wait" if is_passing else f"see {GUIDE}")
