"""What a joining node can serve by while its history is still on its way.

It has the network's newest published head, proved by the set changes since the genesis, and from
the snapshot what the network withdrew and revoked: all of it, because a quorum signed the root over
it. The entries of a package it does not have; peers say where they stand, and each is proved under
the head before it counts. So a liar can hide an entry, and a statement younger than the snapshot,
from a node that asks nobody else; several peers are asked, and what any of them shows counts.
Design: docs/design/catchup.md, "Serving while joining".
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from pyrsia_node.ledger.storage import StateReader
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.ports import KeyValueReader, PeerId, PeerRequests
from pyrsia_node.replica import catchup_wire, gentle
from pyrsia_node.replica.catchup_wire import ANSWER_BYTES_MAX, split_prefixed
from pyrsia_node.replica.entry_wire import (
    ENTRIES_MAX,
    Found,
    decode_found,
    encode_entries,
    encode_find,
)
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.placed import PlacedLeaf
from pyrsia_node.tlog.trust import SetChange, Trust, TrustFile

_LOG = logging.getLogger("pyrsia.replica.head_start")

ASK_TIMEOUT_S: Final = 5.0
ASKED_MAX: Final = 4
"""Peers that are asked where a package's entries stand."""

FIRST_LEAF: Final = 2
"""Before it stand the genesis and the first set, which no block holds and nobody proves so."""

CLOSED_KINDS: Final = (b"withdrawn/", b"revoked/")


def closed_of(store: KeyValueReader) -> dict[str, int]:
    """Return what the state in ``store`` says is closed: the key, and the statement's leaf."""
    state = StateReader(store)
    return {
        key.decode("ascii"): int(value) for kind in CLOSED_KINDS for key, value in state.scan(kind)
    }


class HeadStart:
    """Finds and proves entries under one head, by asking peers."""

    def __init__(
        self,
        requests: PeerRequests,
        *,
        trust: Trust,
        head: SignedCheckpoint,
        closed: Mapping[str, int],
    ) -> None:
        """Prove under ``head``, which ``trust`` has checked; ``closed`` as of the snapshot."""
        self._requests = requests
        self.trust = trust
        self.head = head
        self.closed = dict(sorted(closed.items()))

    def over(self, requests: PeerRequests) -> HeadStart:
        """Return the same, asking over another network: that of the node that has joined."""
        return HeadStart(requests, trust=self.trust, head=self.head, closed=self.closed)

    async def find(self, ecosystem: str, name: str) -> Found:
        """Return where the entries of a package, and statements about it, stand; all hints.

        Raises:
            UnavailableError: Nobody answered.
        """
        answers: list[Found] = []
        async with trio.open_nursery() as nursery:
            for peer in self._requests.connected()[:ASKED_MAX]:
                nursery.start_soon(self._ask_where, peer, encode_find(ecosystem, name), answers)
        if not answers:
            raise UnavailableError("this node is joining, and no peer answers: try again")
        places = range(FIRST_LEAF, self.head.checkpoint.size)
        entries = {leaf for found in answers for leaf in found.entries if leaf in places}
        statements = {leaf for found in answers for leaf in found.statements if leaf in places}
        said = [self.closed.get(f"withdrawn/{leaf}") for leaf in entries]
        statements |= {leaf for leaf in said if leaf is not None}
        # Nothing is cut off here: a liar's numbers must not push out what others show.
        return Found(tuple(sorted(entries)), tuple(sorted(statements)))

    async def entries(self, leaves: Sequence[int]) -> list[PlacedLeaf]:
        """Return leaves with their proofs, checked, at least the first; a prefix of what is asked.

        Raises:
            UnavailableError: No peer has a proof that holds.
        """
        for peer in self._requests.connected():
            try:
                return await self._ask_entries(peer, list(leaves[:ENTRIES_MAX]))
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                _LOG.warning("entries from %s: %s", peer, error)
        raise UnavailableError("this node is joining, and no peer proves the entry: try again")

    async def _ask_where(self, peer: PeerId, request: bytes, answers: list[Found]) -> None:
        try:
            answers.append(decode_found(await self._ask(peer, "find", request)))
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.debug("find from %s: %s", peer, error)

    async def _ask_entries(self, peer: PeerId, leaves: list[int]) -> list[PlacedLeaf]:
        head = self.head.checkpoint
        answer = await self._ask(peer, "entries", encode_entries(leaves, size=head.size))
        found = [PlacedLeaf.decode(part) for part in split_prefixed(answer, items_max=len(leaves))]
        if not found or [each.index for each in found] != leaves[: len(found)]:
            raise InvalidInputError("entries: other leaves than were asked for")
        for each in found:
            each.check(size=head.size, root=head.root)
        return found

    async def _ask(self, peer: PeerId, method: str, payload: bytes) -> bytes:
        return await self._requests.ask(
            peer, method, payload, timeout_s=ASK_TIMEOUT_S, answer_bytes_max=2 * ANSWER_BYTES_MAX
        )


class HeadFinder:
    """Finds the newest published head among the peers of a node that knows the genesis alone."""

    def __init__(self, requests: PeerRequests, genesis: Genesis) -> None:
        """Ask the connected peers."""
        self._requests = requests
        self._file = TrustFile(genesis.encode())
        self._trust = Trust.establish(self._file)

    async def find(self, *, size_min: int) -> tuple[TrustFile, Trust, SignedCheckpoint]:
        """Return the largest head that is proved, with the set changes that prove it.

        Raises:
            NotFoundError: No peer shows one of at least ``size_min`` leaves.
        """
        best: SignedCheckpoint | None = None
        for peer in self._requests.connected()[:ASKED_MAX]:
            try:
                head = await self._proved(peer)
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                _LOG.info("head of %s: %s", peer, error)
                continue
            if best is None or head.checkpoint.size > best.checkpoint.size:
                best = head
        if best is None or best.checkpoint.size < size_min:
            raise NotFoundError(f"no peer shows a published head of at least {size_min} leaves")
        return self._file, self._trust, best

    async def _proved(self, peer: PeerId) -> SignedCheckpoint:
        note = await self._requests.ask(
            peer, "checkpoint", b"", timeout_s=ASK_TIMEOUT_S, answer_bytes_max=NOTE_BYTES_MAX
        )
        head = SignedCheckpoint.parse(note)
        # Changes first: under the sets known so far the head of a later epoch looks unsigned.
        await self._follow(peer)
        self._trust.check(head)
        return head

    async def _follow(self, peer: PeerId) -> None:
        while changes := await self._ask_changes(peer):
            self._trust = await gentle.extended(self._trust, changes)
            self._file = TrustFile(self._file.genesis, (*self._file.changes, *changes))

    async def _ask_changes(self, peer: PeerId) -> list[SetChange]:
        request = catchup_wire.encode_first_epoch(self._trust.current.epoch + 1)
        answer = await self._requests.ask(
            peer, "changes", request, timeout_s=ASK_TIMEOUT_S, answer_bytes_max=2 * ANSWER_BYTES_MAX
        )
        return catchup_wire.decode_changes(answer)
