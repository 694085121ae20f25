"""Compares heads with other nodes, all the time: two histories of one log must not stay apart.

Every node gossips its newest published head with its cosignatures, and asks a random peer for its
own. A head that this chain has, or will have, is nothing; a head that it cannot have is a *split
view*: whoever cosigned it stands behind two histories. It is kept on disk, raised as an alarm, and
made into a proof that stands by itself (``tlog.split_view``).

* A head of a size that the chain has reached is compared with the chain: no question needed.
* Of a larger head the peer is asked for its header of a height that this node has published, proved
  under that head. The same header means the same past; another one, proved, is the split view.
* For a contradicting head of another size than any of ours both headers are added to the proof.
* Proofs are passed on: who never meets the other side learns of it all the same.

A peer that does not answer, or answers with what does not hold, proves nothing and is asked again
later. Wire form: docs/spec/peer-protocols.md, ``checkpoint``, ``header_proof``, "Hints".
"""

from __future__ import annotations

import itertools
import logging
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    VerificationError,
)
from pyrsia_node.model.leaves import Header
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.proof import PROOF_BYTES_MAX, EntryProof
from pyrsia_node.tlog.proofs import make_inclusion_proof
from pyrsia_node.tlog.split_view import SPLIT_VIEW_BYTES_MAX, SplitViewProof
from pyrsia_node.tlog.tile import TileHashReader
from pyrsia_node.tlog.trust import Trust

_LOG: Final = logging.getLogger("pyrsia.replica.gossip")

CHECKPOINT_HINT: Final = "checkpoint"
SPLIT_VIEW_METHOD: Final = "split_view"
GOSSIP_INTERVAL_S: Final = 2.0
"""Pause between two questions, and between two heads that a node gossips; jittered by half."""

HINT_NOTE_BYTES_MAX: Final = 4_000
"""A hint has 4 KiB; of a larger note only as many cosignatures travel as fit."""

SPLIT_VIEW_ROUNDS: Final = 5
"""A node asks for the proofs of others once in so many rounds."""

ASK_TIMEOUT_S: Final = 5.0
_WAITING_MAX: Final = 16
_PLACE: Final = struct.Struct(">QQ")


class HeadGossip:
    """Gossips, asks and compares until cancelled. Every node runs one, member or not."""

    def __init__(
        self,
        *,
        chain: CommittedChain,
        publisher: Publisher,
        log: Path,
        requests: PeerRequests,
        publish_hint: Callable[[str, bytes], None],
        trust: Callable[[], Trust],
        on_cosignatures: Callable[[], None],
    ) -> None:
        """Compare with ``chain`` and what ``publisher`` published of it.

        Args:
            chain: What this node has committed.
            publisher: Holds cosignatures, and the split views found.
            log: The folder of the tiles.
            requests: Asks other nodes.
            publish_hint: Gossips a payload under a topic.
            trust: Returns whose cosignatures count now.
            on_cosignatures: Called when the publisher got new ones, which may complete a quorum.
        """
        self._chain = chain
        self._publisher = publisher
        self._tiles = TileFiles(log)
        self._requests = requests
        self._publish_hint = publish_hint
        self._trust = trust
        self._on_cosignatures = on_cosignatures
        self._gossiped = 0
        self._send_hints, self._hints = trio.open_memory_channel[tuple[PeerId, bytes]](_WAITING_MAX)

    def serve_on(self, requests: PeerRequests) -> None:
        """Answer other nodes' questions about this node's heads."""
        requests.serve("checkpoint", self._checkpoint, request_bytes_max=0)
        requests.serve("header_proof", self._header_proof, request_bytes_max=_PLACE.size)
        requests.serve(SPLIT_VIEW_METHOD, self._split_view, request_bytes_max=0)

    def hint(self, source: PeerId, payload: bytes) -> None:
        """Take a head that was gossiped; too many at once are dropped, there will be more."""
        try:
            self._send_hints.send_nowait((source, payload))
        except trio.WouldBlock:
            _LOG.debug("head of %s dropped", source)

    async def run(self) -> None:
        """Compare for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_hints)
            for number in itertools.count():
                await trio.sleep(GOSSIP_INTERVAL_S * (0.5 + secrets.randbelow(1000) / 1000))
                self._announce()
                connected = self._requests.connected()
                if connected:
                    await self._ask_head(secrets.choice(connected))
                if connected and number % SPLIT_VIEW_ROUNDS == 0:
                    await self._ask_split_view(secrets.choice(connected))

    # ------------------------------------------------------------ answers

    async def _checkpoint(self, _peer: PeerId, _payload: bytes) -> bytes:
        note = self._publisher.published_note
        if note is None:
            raise NotFoundError("nothing is published yet")
        return note.encode()

    async def _header_proof(self, _peer: PeerId, payload: bytes) -> bytes:
        if len(payload) != _PLACE.size:
            raise InvalidInputError(f"header_proof: {len(payload)} bytes, {_PLACE.size} expected")
        height, size = _PLACE.unpack(payload)
        return (await self._prove_header(height, size)).encode()

    async def _split_view(self, _peer: PeerId, _payload: bytes) -> bytes:
        """Tell of a split view that others can judge, any of them."""
        views = self._publisher.contradictions
        incomplete = views.incomplete()
        whole = [each for each in views.proofs if each not in incomplete]
        if not whole:
            raise NotFoundError("no split view is known here")
        return secrets.choice(whole).encode()

    async def _prove_header(self, height: int, size: int) -> EntryProof:
        """Prove the header of ``height``, or of the last one before ``size``, under that head.

        Raises:
            NotFoundError: No head of this size with cosignatures, or no block, is here.
        """
        signed = SignedCheckpoint.parse(self._publisher.note_with_cosignatures(size))
        last, _ = self._chain.block_of_leaf(size - 1)
        height = min(height, last)
        if height == 0:
            raise NotFoundError("no block is in the log yet")
        index = self._chain.block(height).first_leaf
        reader = TileHashReader(self._tiles, size)
        hashes = await trio.to_thread.run_sync(
            partial(make_inclusion_proof, reader, index=index, size=size)
        )
        return EntryProof(extra=self._chain.leaf(index), index=index, hashes=hashes, signed=signed)

    # ------------------------------------------------------------ questions

    def _announce(self) -> None:
        note = self._publisher.published_note
        if note is None or note.checkpoint.size == self._gossiped:
            return
        self._gossiped = note.checkpoint.size
        self._publish_hint(CHECKPOINT_HINT, fitting(note, HINT_NOTE_BYTES_MAX))

    async def _take_hints(self) -> None:
        async for source, payload in self._hints:
            with told(source):
                await self.examine(source, payload)

    async def _ask_head(self, peer: PeerId) -> None:
        with told(peer):
            note = await self._requests.ask(
                peer,
                "checkpoint",
                b"",
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=NOTE_BYTES_MAX,
            )
            await self.examine(peer, note)

    async def _ask_split_view(self, peer: PeerId) -> None:
        with told(peer):
            data = await self._requests.ask(
                peer,
                SPLIT_VIEW_METHOD,
                b"",
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=SPLIT_VIEW_BYTES_MAX,
            )
            self.learn(SplitViewProof.decode(data))

    def learn(self, proof: SplitViewProof) -> None:
        """Keep another node's proof, seen from this node's side; later if it has neither head.

        Raises:
            VerificationError: It does not hold.
        """
        if self._has(proof.heads[1].checkpoint):
            proof = proof.reversed()
        if self._has(proof.heads[0].checkpoint):
            self._keep(proof)

    def _has(self, head: Checkpoint) -> bool:
        try:
            return self._chain.root_at(head.size) == head.root
        except NotFoundError:
            return False

    async def examine(self, source: PeerId, note: bytes) -> None:
        """Compare a head that ``source`` showed with this node's chain.

        Raises:
            InvalidInputError: It is malformed, or of another log.
            VerificationError: A member's signature does not hold.
            PyrsiaError: A question to the source failed.
        """
        theirs = SignedCheckpoint.parse(note)
        if self._publisher.add(theirs):
            self._on_cosignatures()
        if source not in self._requests.connected():
            return  # what contradicts by itself is kept already; nobody is there to be asked
        if theirs.checkpoint.size > self._chain.tip.size:
            await self._compare_pasts(source, theirs)
        for proof in self._publisher.contradictions.incomplete():
            if proof.heads[1].checkpoint == theirs.checkpoint:
                await self._compare_pasts(source, proof.heads[1])

    async def _compare_pasts(self, source: PeerId, theirs: SignedCheckpoint) -> None:
        """Compare the header of one height under their head with ours under ours."""
        ours = self._publisher.published_note
        if ours is None:
            return
        height, _ = self._chain.block_of_leaf(ours.checkpoint.size - 1)
        size = theirs.checkpoint.size
        answer = await self._requests.ask(
            source,
            "header_proof",
            _PLACE.pack(height, size),
            timeout_s=ASK_TIMEOUT_S,
            answer_bytes_max=PROOF_BYTES_MAX,
        )
        found = EntryProof.parse(answer)
        if found.extra is None or found.signed.checkpoint != theirs.checkpoint:
            raise VerificationError("the answer proves nothing under the head that was shown")
        found.verify_leaf(found.extra)
        header = Header.decode(found.extra)
        mine = await self._prove_header(min(header.height, height), ours.checkpoint.size)
        if mine.extra == found.extra:
            return  # the same header commits to the same past
        self._keep(SplitViewProof((ours, theirs), (mine, found)))

    def _keep(self, proof: SplitViewProof) -> None:
        """Keep a proof that holds, and of its lines only those that accuse somebody.

        Raises:
            VerificationError: It does not hold.
        """
        trust = self._trust()
        proof.judge(trust)
        self._publisher.contradictions.complete(proof.of_members(trust))


@contextmanager
def told(peer: PeerId) -> Iterator[None]:
    """Log what is wrong with a peer's answer, and go on; our own corruption passes through."""
    try:
        yield
    except CorruptStateError:
        raise
    except (InvalidInputError, VerificationError, PeerMisbehaviorError) as error:
        _LOG.warning("head of %s does not hold: %s", peer, error)
    except PyrsiaError as error:
        _LOG.debug("head of %s: %s", peer, error)


def fitting(note: SignedCheckpoint, bytes_max: int) -> bytes:
    """Return a note with as many of its signatures as fit into ``bytes_max``."""
    for count in range(len(note.signatures), 0, -1):
        data = SignedCheckpoint(note.checkpoint, note.signatures[:count]).encode()
        if len(data) <= bytes_max:
            return data
    raise AssertionError("one signature always fits")
