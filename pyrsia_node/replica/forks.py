"""Notices that the network has decided a height twice, stops this node, and names the makers.

A final certificate of another block than ours, at a height that is committed here, is proof that
more than f members are traitors. It may come in any frame, and it stands inside every block that
continues the other branch. Order when one is found: both certificates and all that is known of
the height go to disk; then this node stops voting and committing; then the others are asked for
their transcripts, until at least f + 1 culprits are named. The record outlives every restart: only
people can say which branch is to live (docs/guides/recover.md).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from consensus import wire
from consensus.errors import DecodeError
from consensus.ingress import verify_certificate
from consensus.judge import TRANSCRIPT_BYTES_MAX, Verdict, decode_transcript, judge
from consensus.quorum import faults
from consensus.types import Certificate, Digest, Height, VoteKind
from consensus.wire import MessageKind
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import CorruptStateError, PyrsiaError
from pyrsia_node.ports import KeyValueStore, PeerId, PeerRequests
from pyrsia_node.replica.budget import CheckCounter
from pyrsia_node.replica.evidence import EvidenceReporter
from pyrsia_node.replica.transcripts import Transcripts, encode_question

_LOG = logging.getLogger("pyrsia.replica.forks")

ASK_INTERVAL_S: Final = 30.0
ASK_TIMEOUT_S: Final = 10.0
FORKS_MAX: Final = 16
"""Forked heights that are kept; the first is the one that matters."""

LOOK_CHECKS: Final = 10
"""What a certificate of another block than ours costs its sender beside the signatures in it: a
set may have to be read. No correct node has any."""

_PREFIX: Final = b"replica/fork/"
_HEAD: Final = struct.Struct(">BQI32s")
"""Kind, height, view and block of an encoded certificate (docs/spec/consensus-wire.md)."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watch works with.

    ``checks`` is the verifier that counts what a member's frames cost. ``halted`` is called once,
    when a fork was found and kept.
    """

    store: KeyValueStore
    chain: Chain
    transcripts: Transcripts
    evidence: EvidenceReporter
    requests: PeerRequests
    chain_id: Digest
    checks: CheckCounter
    halted: Callable[[], None]


class ForkWatch:
    """Looks at certificates of committed heights; remembers the forks of this chain."""

    def __init__(self, watched: Watched) -> None:
        """Read what an earlier life found."""
        self._watched = watched
        self._forks = sorted(
            int.from_bytes(key.removeprefix(_PREFIX), "big")
            for key, _ in watched.store.scan(_PREFIX)
        )
        self._woken = trio.Event()
        self._verdicts: dict[int, tuple[int, Verdict]] = {}

    @property
    def forks(self) -> tuple[int, ...]:
        """The heights that were decided twice, lowest first."""
        return tuple(self._forks)

    @property
    def words(self) -> str:
        """What an operator must know, or ""."""
        if not self._forks:
            return ""
        verdict = self.verdict(self._forks[0])
        named = ", ".join(verdict.culprits) or "the others are being asked who"
        return (
            f"FORK: two blocks of height {self._forks[0]} are final. This node has stopped voting"
            f" and committing and serves what it has. Signed for both: {named}. Keep the data"
            " directory, show 'pyrsia evidence' to the other admins, and decide together how to"
            " go on (docs/guides/recover.md)"
        )

    def verdict(self, height: int) -> Verdict:
        """Return what everything known of a height proves.

        Costs the check of every signature once, and again only when something was added.
        """
        watched = self._watched
        additions, known = self._verdicts.get(height, (-1, None))
        if known is not None and additions == watched.transcripts.additions:
            return known
        found = judge(
            watched.transcripts.certificates(height),
            height=Height(height),
            members=watched.transcripts.members_of(height),
            chain_id=watched.chain_id,
            verify=watched.checks,
        )
        if height in self._forks:
            self._verdicts[height] = (watched.transcripts.additions, found)
        return found

    # ------------------------------------------------------------ looking

    def look_at_frame(self, frame: bytes) -> None:
        """Look at a consensus frame of a member; nothing escapes for any bytes."""
        try:
            kind, height, _ = wire.peek(frame)
            if height > self._watched.chain.tip.height:
                # The core's to take in; a block that does not fit our tip comes back by its check.
                return
            if kind is MessageKind.CERTIFICATE:
                self._look_at(frame[1:])
            elif kind is MessageKind.DECISION:
                self._look_at(wire.split_decision(frame[1:])[1])
        except DecodeError:
            # Whether a frame is well formed is the gate's to judge.
            return

    def look_at_block(self, block: bytes) -> None:
        """Look at what a block that cannot follow our tip says was final before it."""
        try:
            self._look_at(wire.split_block(block).parent_certificate)
        except DecodeError:
            return

    def look_at_core(self, height: int, certificates: Iterable[Certificate]) -> None:
        """Take the certificates with which the core has halted."""
        self._keep(height, certificates)

    def _look_at(self, encoded: bytes) -> None:
        """Compare a certificate with what is committed at its height.

        Costs a read for a final certificate of a committed height. Sets and signatures are looked
        at only for one that names another block. All of it is charged to whoever sent it.
        """
        watched = self._watched
        if len(encoded) < _HEAD.size:
            return
        kind, height, _, name = _HEAD.unpack_from(encoded)
        if kind != VoteKind.FINALIZE or height in self._forks:
            return
        if not 0 < height <= watched.chain.tip.height:
            return
        # A read costs about half of what a signature check costs.
        watched.checks.charge(1)
        if name.hex() == watched.chain.block(height).hash:
            return
        watched.checks.charge(LOOK_CHECKS)
        members = watched.transcripts.members_of(height)
        certificate = wire.decode_certificate(encoded, n=len(members.members))
        if verify_certificate(certificate, members, watched.chain_id, watched.checks):
            self._keep(height, [certificate])

    def _keep(self, height: int, certificates: Iterable[Certificate]) -> None:
        if height in self._forks or len(self._forks) == FORKS_MAX:
            return
        self._watched.transcripts.keep(height, certificates)
        self._watched.store.write([(_PREFIX + height.to_bytes(8, "big"), b"")], sync=True)
        self._forks = sorted((*self._forks, height))
        self._accuse(height)
        _LOG.critical("%s", self.words)
        self._watched.halted()
        self._woken.set()

    def _accuse(self, height: int) -> Verdict:
        verdict = self.verdict(height)
        for proof in verdict.contradictions:
            self._watched.evidence.keep(proof)
        return verdict

    # ------------------------------------------------------------ asking

    async def run(self) -> None:
        """Ask others for their transcripts of forked heights until enough culprits are named."""
        while True:
            self._woken = trio.Event()
            open_forks = [height for height in self._forks if not self._is_solved(height)]
            for height in open_forks:
                for peer in self._watched.requests.connected():
                    await self._ask(peer, height)
            with trio.move_on_after(ASK_INTERVAL_S if open_forks else float("inf")):
                await self._woken.wait()

    def _is_solved(self, height: int) -> bool:
        n = len(self._watched.transcripts.members_of(height).members)
        return len(self._accuse(height).culprits) > faults(n)

    async def _ask(self, peer: PeerId, height: int) -> None:
        watched = self._watched
        members = watched.transcripts.members_of(height)
        try:
            answer = await watched.requests.ask(
                peer,
                "transcript",
                encode_question(height),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=TRANSCRIPT_BYTES_MAX,
            )
            found = []
            for certificate in self._news(
                height, decode_transcript(answer, n=len(members.members))
            ):
                # Thousands of signatures may be in one answer; votes must not wait for them.
                await trio.lowlevel.checkpoint()
                if verify_certificate(certificate, members, watched.chain_id, watched.checks):
                    found.append(certificate)
            watched.transcripts.keep(height, found)
        except CorruptStateError:
            raise
        except (PyrsiaError, DecodeError) as error:
            _LOG.debug("transcript of height %d from %s: %s", height, peer, error)

    def _news(self, height: int, certificates: Iterable[Certificate]) -> list[Certificate]:
        """Return those of a height that a member signed of whom we do not know it yet."""
        known = {
            (one.kind, one.view, one.block_hash): frozenset(one.signers)
            for one in self._watched.transcripts.certificates(height)
        }
        return [
            one
            for one in certificates
            if one.height == height
            and not known.get((one.kind, one.view, one.block_hash), frozenset()).issuperset(
                one.signers
            )
        ]
