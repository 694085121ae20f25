"""Who there is: node records, exchanged on welcome and pulled from a random peer regularly."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from pyrsia_node.model.errors import NotFoundError, PeerMisbehaviorError, PyrsiaError
from pyrsia_node.p2p.doors import Doors
from pyrsia_node.p2p.frames import decode_list, encode_list
from pyrsia_node.p2p.records import (
    RECORD_BYTES_MAX,
    RECORDS_MAX,
    NodeRecord,
    RecordStore,
    parse_record,
)
from pyrsia_node.p2p.requests import ANSWER_BYTES_MAX, Asker
from pyrsia_node.ports import PeerId

PULL_S: Final = 10.0
_ASK_S: Final = 5.0
_LIST_BYTES_MAX: Final = ANSWER_BYTES_MAX // 2
_LOG: Final = logging.getLogger("pyrsia.p2p")


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A node of this network as this node knows it. Unknown texts are empty, heights -1."""

    peer: PeerId
    label: str
    role: str
    addresses: tuple[str, ...]
    data_url: str
    fingerprint: str
    height: int
    version: str
    connected: bool


class Directory:
    """Keeps and exchanges node records."""

    def __init__(
        self,
        doors: Doors,
        asker: Asker,
        network: str,
        own: Callable[[], NodeRecord],
        is_kept: Callable[[PeerId], bool],
    ) -> None:
        self._doors = doors
        self._asker = asker
        self._network = network
        self._own = own
        self._is_kept = is_kept
        self._configured: dict[PeerId, tuple[str, ...]] = {}
        self.records = RecordStore()
        asker.serve("introduce", self._introduced, request_bytes_max=RECORD_BYTES_MAX)
        asker.serve("record", self._one, request_bytes_max=64)
        asker.serve("records", self._all, request_bytes_max=0)

    def configure(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Remember addresses that an operator gave; they are tried before announced ones."""
        known = self._configured.get(peer, ())
        self._configured[peer] = tuple(dict.fromkeys((*known, *addresses)))

    def addresses_of(self, peer: PeerId) -> list[str]:
        """Return where a peer may be reached, the most trusted first."""
        record = self.records.get(peer)
        announced = record.addresses if record else ()
        return list(dict.fromkeys((*self._configured.get(peer, ()), *announced)))

    def learn(self, raw: bytes) -> NodeRecord:
        """Take in a record from anywhere.

        Raises:
            InvalidInputError, VerificationError: As ``parse_record``.
        """
        record = parse_record(raw, network=self._network)
        if record.peer != self._own().peer:
            self.records.add(record, is_kept=self._is_kept)
        return record

    async def introduce(self, peer: PeerId) -> None:
        """Give a welcomed peer our record, take its own, and ask it for all that it knows."""
        try:
            theirs = await self._asker.ask(
                peer,
                "introduce",
                self._own().raw,
                timeout_s=_ASK_S,
                answer_bytes_max=RECORD_BYTES_MAX,
            )
            self._learn_from(peer, theirs)
            await self._pull(peer)
        except PyrsiaError as error:
            _LOG.debug("no introduction to %s: %s", peer, error)

    async def introduce_everywhere(self, peers: Sequence[PeerId]) -> None:
        """Tell connected peers that our record has changed."""
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(self.introduce, peer)

    async def run(self, connected: Callable[[], list[PeerId]]) -> None:
        """Pull records from a random connected peer every ten seconds until cancelled."""
        while True:
            await trio.sleep(PULL_S * (0.5 + self._doors.chance()))
            peers = connected()
            if peers:
                await self.introduce(peers[int(self._doors.chance() * len(peers))])

    async def _pull(self, peer: PeerId) -> None:
        answer = await self._asker.ask(
            peer, "records", b"", timeout_s=_ASK_S, answer_bytes_max=_LIST_BYTES_MAX
        )
        try:
            raws = decode_list(answer, items_max=RECORDS_MAX, item_bytes_max=RECORD_BYTES_MAX)
        except PyrsiaError as error:
            raise PeerMisbehaviorError(peer, str(error)) from error
        for raw in raws:
            self._learn_from(peer, raw)
            await trio.lowlevel.checkpoint()

    def _learn_from(self, peer: PeerId, raw: bytes) -> None:
        # Known bytes are skipped before the signature check, which is most of the cost.
        if self.records.has(raw):
            return
        try:
            self.learn(raw)
        except PyrsiaError as error:
            raise PeerMisbehaviorError(peer, str(error)) from error

    async def _introduced(self, peer: PeerId, payload: bytes) -> bytes:
        record = parse_record(payload, network=self._network)
        if record.peer != peer:
            raise PeerMisbehaviorError(peer, f"introduced itself as {record.peer}")
        self.records.add(record, is_kept=self._is_kept)
        return self._own().raw

    async def _one(self, _peer: PeerId, payload: bytes) -> bytes:
        wanted = PeerId(payload.decode("ascii", "replace"))
        if not wanted or wanted == self._own().peer:
            return self._own().raw
        record = self.records.get(wanted)
        if record is None:
            raise NotFoundError(f"no record of {wanted} is known here")
        return record.raw

    async def _all(self, _peer: PeerId, _payload: bytes) -> bytes:
        newest = reversed([*self.records.all(), self._own()])
        chosen: list[bytes] = []
        room = _LIST_BYTES_MAX
        for record in newest:
            room -= len(record.raw) + 4
            if room < 0:
                break
            chosen.append(record.raw)
        return encode_list(chosen)
