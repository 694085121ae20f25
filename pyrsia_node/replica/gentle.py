"""Long proofs in short steps: votes, heartbeats and links get their turn between two of them.

An answer may hold 4,096 changes of the set with 67 signatures each: half a minute of work in the
thread that everything shares. What is proved, and how, is ``tlog.trust``'s.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from pyrsia_node.tlog.trust import SetChange, Trust


async def extended(trust: Trust, changes: Iterable[SetChange]) -> Trust:
    """Return ``trust`` with the sets that ``changes`` prove, as ``Trust.extended``.

    Gives way after each change, so that what is held may have grown meanwhile; cancelled or
    refused, it leaves nothing behind.

    Raises:
        InvalidInputError: A part is malformed.
        VerificationError: A certificate or a link does not hold, or an epoch was left out.
    """
    for change in changes:
        trust = trust.extended(change)
        await trio.lowlevel.checkpoint()
    return trust
