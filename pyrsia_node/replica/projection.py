"""Brings what is derived from the chain up to date: tiles, index, cosignatures, checkpoint.

Runs behind the commit, never in front of it. Order for each round: tiles (so that a published size
can be proved), certificates (so that it can be audited), index (rows exist from commit on), then
the checkpoint, which moves only at a quorum of cosignatures. A crash anywhere leaves files that
are behind; the next start catches up.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Final

import trio

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import Cosigner, Publisher
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError, VerificationError
from pyrsia_node.ports import Clock, PeerId, PeerRequests
from pyrsia_node.replica.frames import FrameKind, pack_frame
from pyrsia_node.replica.watch import HeightWatch
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint

_LOG = logging.getLogger("pyrsia.replica.projection")

PULL_INTERVAL_S: Final = 1.0
RECOSIGN_INTERVAL_S: Final = 600.0
"""How long after its cosignature a member cosigns a head again that has not changed."""

STALE_S: Final = 660.0
"""Age of a published head from which a node asks others for newer cosignatures."""

STALE_PULL_INTERVAL_S: Final = 30.0
"""How often it asks: perhaps there is no quorum that could cosign."""

NOTE_BYTES_MAX: Final = 64 * 1024


class Projection:
    """Derives files from committed blocks until cancelled.

    ``cosigner`` gives this node's cosigner for heads of a size, or None where it is no member of
    the set that signs them; ``broadcast`` sends to the other members.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        tiles: TileWriter,
        certificates: CertificateWriter,
        index: IndexWriter,
        publisher: Publisher,
        requests: PeerRequests,
        cosigner: Callable[[int], Cosigner | None],
        broadcast: Callable[[bytes], None],
        clock: Clock,
    ) -> None:
        """Derive from ``chain``."""
        self._chain = chain
        self._tiles = tiles
        self._certificates = certificates
        self._index = index
        self._publisher = publisher
        self._requests = requests
        self._cosigner = cosigner
        self._broadcast = broadcast
        self._clock = clock
        self._wanted = trio.Event()
        self._derived_size = -1
        self._cosigned_s: float | None = None
        self._asked_stale_s = -STALE_PULL_INTERVAL_S

    def catch_up(self) -> None:
        """Derive everything up to the tip. May run in a worker thread: it only reads the chain."""
        tip = self._chain.tip
        self._tiles.catch_up(self._chain, size=tip.size, root=tip.root)
        self._certificates.catch_up(self._chain, height=tip.height)
        self._index.catch_up(self._chain, size=tip.size)

    def cosign_tip(self) -> None:
        """Cosign the tip, which is durable, and tell the other members."""
        self._cosigned_s = self._clock.monotonic_s()
        tip = self._chain.tip
        cosigner = self._cosigner(tip.size)
        if cosigner is None or not self._chain.may_cosign(tip.size, tip.root):
            return
        head = Checkpoint(self._chain.genesis.origin, tip.size, tip.root)
        signed = cosigner.cosign(head, time_s=self._clock.now_ms() // 1000)
        self._publisher.add(signed)
        self._broadcast(pack_frame(FrameKind.COSIGNATURE, signed.encode()))

    async def run(self, watch: HeightWatch) -> None:
        """Follow ``watch`` for ever: derive, then publish what a quorum stands behind."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_on_growth, watch)
            nursery.start_soon(self._cosign_again)
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                await self._derive()
                await self._publish()

    async def _derive(self) -> None:
        """Catch up in a thread; cosignatures alone bring nothing to derive."""
        size = self._chain.tip.size
        if size != self._derived_size:
            await trio.to_thread.run_sync(self.catch_up)
            self._derived_size = size

    async def _wake_on_growth(self, watch: HeightWatch) -> None:
        height = -1
        while True:
            height = await watch.beyond(height)
            self._wanted.set()

    async def _cosign_again(self) -> None:
        """Cosign a head that does not change once more every ten minutes: "still the newest".

        What is cosigned is the tip, so the guard holds as ever: no smaller head, no other root.
        """
        while True:
            now_s = self._clock.monotonic_s()
            self._cosigned_s = now_s if self._cosigned_s is None else self._cosigned_s
            age = now_s - self._cosigned_s
            if age >= RECOSIGN_INTERVAL_S:
                self.cosign_tip()
                self._wanted.set()
            else:
                await trio.sleep(RECOSIGN_INTERVAL_S - age)

    async def _publish(self) -> None:
        """Move the checkpoint, its fsyncs in a thread; then partial tiles before it may go."""
        publication = self._publisher.prepare(tiles_size=self._tiles.size)
        if publication is not None:
            await trio.to_thread.run_sync(publication.write)
            self._publisher.wrote(publication)
            self._tiles.published(self._publisher.published_size)

    def cosignatures_held(self) -> None:
        """Look again whether a quorum stands behind the tip: the publisher got cosignatures."""
        self._wanted.set()

    def cosignature_arrived(self, payload: bytes) -> None:
        """Take a member's cosignature.

        Raises:
            InvalidInputError: it is malformed.
            VerificationError: it does not hold.
        """
        if len(payload) > NOTE_BYTES_MAX:
            raise InvalidInputError(f"cosignature of {len(payload)} bytes")
        self._take(payload)

    def _take(self, note: bytes) -> None:
        if self._publisher.add(SignedCheckpoint.parse(note)):
            self.cosignatures_held()

    async def pull(self) -> None:
        """Ask for the cosignatures that publishing lacks, for ever."""
        while True:
            await trio.sleep(PULL_INTERVAL_S * (0.5 + secrets.randbelow(1000) / 1000))
            tip = self._chain.tip
            connected = self._requests.connected()
            if connected and (self._publisher.published_size < tip.size or self._is_stale()):
                await self._pull_from(secrets.choice(connected), tip.size)

    def _is_stale(self) -> bool:
        """Tell whether the published head should have newer cosignatures; true now and then."""
        now_s = self._clock.monotonic_s()
        age = self._clock.now_ms() // 1000 - self._publisher.published_time_s
        if age < STALE_S or now_s < self._asked_stale_s + STALE_PULL_INTERVAL_S:
            return False
        self._asked_stale_s = now_s
        return True

    async def _pull_from(self, peer: PeerId, size: int) -> None:
        try:
            note = await self._requests.ask(
                peer,
                "cosignatures",
                size.to_bytes(8, "big"),
                timeout_s=5.0,
                answer_bytes_max=NOTE_BYTES_MAX,
            )
            self._take(note)
        except (InvalidInputError, VerificationError) as error:
            _LOG.warning("cosignatures from %s do not hold: %s", peer, error)
        except PyrsiaError as error:
            _LOG.debug("cosignatures from %s: %s", peer, error)
