"""Drives the consensus core of an authorized node: frames, timers, disk, chain.

One task owns the replica and the chain; everything else talks to it through a bounded queue of
inputs. Effects are performed in list order; ``Persist`` is over only after fdatasync, so nothing
that depends on a record leaves before it is durable. When the queue is full, frames from peers wait
in the network's queues, of which each member has its own: one that floods loses its own frames.
What a member may cost is bounded (``budget``); retransmission (R8) brings back what mattered.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, assert_never

import trio

from consensus import wire
from consensus.effects import (
    Broadcast,
    BuildBody,
    CheckBody,
    Commit,
    Effect,
    Persist,
    ReportEvidence,
    RequestBody,
    Send,
    ServeDecisions,
    SetTimer,
    StartCatchup,
)
from consensus.errors import DecodeError
from consensus.events import (
    BodyBuilt,
    BodyReceived,
    DecisionApplied,
    Event,
    MessageReceived,
    TimerFired,
    TimerKind,
    ViewMeasured,
    WorkLapsed,
    WorkPending,
)
from consensus.ingress import Ingress
from consensus.replica import Replica
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Height,
    Message,
    NodeId,
    Proposal,
    Status,
    View,
)
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import CorruptStateError, PyrsiaError, UnavailableError
from pyrsia_node.ports import Clock, MemberLinks, PeerId, PeerRequests
from pyrsia_node.replica.amnesia import VotingGate
from pyrsia_node.replica.apply import apply_decision
from pyrsia_node.replica.budget import CHECKS_PER_S, Budget, CheckCounter
from pyrsia_node.replica.evidence import EvidenceReporter
from pyrsia_node.replica.forks import ForkWatch
from pyrsia_node.replica.frames import FrameKind, pack_frame
from pyrsia_node.replica.pending import PendingTransactions
from pyrsia_node.replica.persisting import RecordWriter
from pyrsia_node.replica.timers import Timers
from pyrsia_node.replica.transcripts import Transcripts
from pyrsia_node.replica.wal import WriteAheadLog

_LOG = logging.getLogger("pyrsia.replica")

QUEUE_MAX: Final = 64
"""Inputs that wait here; a frame may have 2 MiB."""

DECISIONS_PER_HELP: Final = 4
DECISION_BYTES_PER_S: Final = 4 * 1024 * 1024
"""Decisions sent to all members together; who needs more pulls them."""

PUSHED_COUNT_MAX: Final = 16
PUSHED_BYTES_MAX: Final = 256 * 1024
"""Transactions that one retry pushes: more would crowd out votes in the links' queues."""

_EVERYBODY: Final = NodeId("")
BODY_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Frame:
    sender: NodeId
    frame: bytes


@dataclass(frozen=True, slots=True)
class _DecisionFound:
    decision: bytes
    is_proved: bool
    done: trio.Event
    answer: list[bool | PyrsiaError]


_Input = Event | _Frame | _DecisionFound


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the driver works with; all of it made by the composition root.

    ``checks`` is the verifier that the ingress uses. ``gate`` keeps the signer silent until this
    node may vote; ``forks`` stops it when the chain has forked. ``peer_of`` maps a member to the
    peer id of its current p2p key. ``committed`` is called once for every block, in order, after
    it is durable.
    """

    chain: Chain
    mempool: Mempool
    pending: PendingTransactions
    wal: WriteAheadLog
    links: MemberLinks
    requests: PeerRequests
    checks: CheckCounter
    gate: VotingGate
    forks: ForkWatch
    evidence: EvidenceReporter
    transcripts: Transcripts
    clock: Clock
    peer_of: Callable[[NodeId], PeerId]
    committed: Callable[[Committed], None]


class MemberDriver:
    """Runs the replica of one member until cancelled."""

    def __init__(
        self, *, me: NodeId, replica: Replica, ingress: Ingress, around: Surroundings
    ) -> None:
        """Drive ``replica``, whose working height is the chain's tip + 1."""
        self._me = me
        self._replica = replica
        self._ingress = ingress
        self._around = around
        around.gate.resumed = self.voting_resumed
        if around.forks.forks:
            replica.halt()
        self._timers = Timers()
        self._send, self._receive = trio.open_memory_channel[_Input](QUEUE_MAX)
        self._checks = Budget(per_s=CHECKS_PER_S, burst=CHECKS_PER_S)
        self._helped = Budget(per_s=1.0, burst=1.0)
        self._told = Budget(per_s=1.0, burst=2.0)
        self._decision_bytes = Budget(per_s=DECISION_BYTES_PER_S, burst=DECISION_BYTES_PER_S)
        self._fetching: set[Digest] = set()
        self._nursery: trio.Nursery | None = None
        self._proposed_at: dict[View, float] = {}
        self._said_work = False
        self._records = RecordWriter(around.wal)
        self.refused_frames = 0
        self.on_catchup: Callable[[PeerId, int], None] = lambda _peer, _height: None

    # ------------------------------------------------------------ inputs

    async def frame_arrived(self, sender: NodeId, frame: bytes) -> None:
        """Queue a consensus frame of a member; waits while the queue is full."""
        await self._send.send(_Frame(sender, frame))

    def work_arrived(self) -> None:
        """Say that the mempool holds a valid transaction or that an outcome is due."""
        # With a full queue nothing is lost: the loop looks for work after each input.
        with contextlib.suppress(trio.WouldBlock):
            self._send.send_nowait(WorkPending(self._replica.height))

    def voting_resumed(self) -> None:
        """Let the core look at its height again, now that its signer signs."""
        # With a full queue nothing is lost: the next input has the same effect.
        retry = TimerFired(TimerKind.RETRY, self._replica.height, self._replica.view)
        with contextlib.suppress(trio.WouldBlock):
            self._send.send_nowait(retry)

    async def apply_decision(self, decision: bytes, *, is_proved: bool = False) -> bool:
        """Commit a decision found by catch-up; True if it was the next height.

        ``is_proved`` says that its header and certificates are known to hold.

        Raises:
            VerificationError: its certificate or its block does not hold.
            InvalidInputError: it is malformed.
        """
        found = _DecisionFound(decision, is_proved, trio.Event(), [])
        await self._send.send(found)
        await found.done.wait()
        answer = found.answer[0]
        if isinstance(answer, PyrsiaError):
            raise answer
        return answer

    async def run(self, first_effects: list[Effect]) -> None:
        """Perform ``first_effects``, then handle inputs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._run_timers)
            await self._work_through(deque[Event](), first_effects)
            # What an earlier run left pending is work too, and nobody may ever send us a frame.
            await self._tell_work()
            async for item in self._receive:
                await self._handle(item)

    async def _run_timers(self) -> None:
        while True:
            await self._send.send(await self._timers.next())

    # ------------------------------------------------------------ the loop

    async def _handle(self, item: _Input) -> None:
        if isinstance(item, _Frame):
            await self._work_through(deque(self._admit(item)))
        elif isinstance(item, _DecisionFound):
            await self._handle_decision(item)
        else:
            if isinstance(item, TimerFired) and item.kind is TimerKind.RETRY:
                self._push_some()
            await self._work_through(deque([item]))
        await self._tell_work()

    def _admit(self, item: _Frame) -> list[Event]:
        """Return what a frame says, unless its sender has had its share of our time."""
        now, checks = trio.current_time(), self._around.checks
        if self._checks.left(item.sender, now) <= 0:
            self.refused_frames += 1
            return []
        before = checks.count
        self._around.forks.look_at_frame(item.frame)
        events = self._ingress.admit(item.sender, item.frame)
        self._checks.spend(item.sender, checks.count - before, now)
        for event in events:
            if isinstance(event, MessageReceived):
                self._note_proposal(event.sender, event.message)
        return events

    async def _tell_work(self) -> None:
        """Tell the core when work appears or lapses at its height; it arms timers by that."""
        has_work = self._has_work()
        if has_work != self._said_work:
            self._said_work = has_work
            height = self._replica.height
            event = WorkPending(height) if has_work else WorkLapsed(height)
            await self._work_through(deque([event]))

    async def _work_through(
        self, events: deque[Event], effects: list[Effect] | None = None
    ) -> None:
        """Step through ``events`` and those that performing their effects brings."""
        for effect in effects or []:
            events.extend(await self._perform(effect))
        while events:
            event = events.popleft()
            self._look_through(event)
            for effect in self._replica.step(event):
                events.extend(await self._perform(effect))
        if self._replica.fork:
            self._around.forks.look_at_core(self._replica.height, self._replica.fork)
        self._ingress.set_view(self._replica.view)

    def _look_through(self, event: Event) -> None:
        """Have what others say at our height searched for votes that we never cast."""
        if isinstance(event, MessageReceived) and _height_of(event.message) == self._replica.height:
            self._around.gate.look_through(event.message, self._replica.members)

    async def _perform(self, effect: Effect) -> list[Event]:
        match effect:
            case Persist():
                await self._records.append(effect.records, height=self._replica.height)
            case Send():
                self._send_one(effect)
            case Broadcast():
                self._note_proposal(self._me, effect.message)
                self._send_message(None, effect.message)
            case SetTimer():
                self._timers.set(effect)
            case Commit():
                return self._commit(effect)
            case BuildBody() | CheckBody():
                return [self._ask_chain(effect)]
            case RequestBody() | ServeDecisions() | StartCatchup() | ReportEvidence():
                self._perform_aside(effect)
            case _:
                assert_never(effect)
        return []

    def _perform_aside(
        self, effect: RequestBody | ServeDecisions | StartCatchup | ReportEvidence
    ) -> None:
        """Perform what needs no answer before the next effect."""
        match effect:
            case RequestBody():
                assert self._nursery is not None
                self._nursery.start_soon(self._fetch_body, effect)
            case ServeDecisions():
                self._serve_decisions(effect)
            case StartCatchup():
                self.on_catchup(self._around.peer_of(effect.source), effect.seen)
            case ReportEvidence():
                height = effect.first.height
                members = self._replica.members_of(height)
                members = members or self._around.transcripts.members_of(height)
                self._around.evidence.found(effect, members)
            case _:
                assert_never(effect)

    def _note_proposal(self, sender: NodeId, message: Message) -> None:
        """Remember when a view's proposal was first seen: the pace of views adapts to it.

        Only its leader's counts. A member that proposes out of turn, long before, would make every
        view look slow and so lengthen everybody's time-outs.
        """
        if not isinstance(message, Proposal) or message.height != self._replica.height:
            return
        if sender == self._replica.leader(message.view):
            self._proposed_at.setdefault(message.view, trio.current_time())

    # ------------------------------------------------------------ chain

    def _ask_chain(self, effect: BuildBody | CheckBody) -> Event:
        chain, now = self._around.chain, self._around.clock.now_ms()
        if isinstance(effect, CheckBody):
            checked = chain.check_body(effect.block, effect.height, now)
            if not checked.valid:
                self._around.forks.look_at_block(effect.block)
            return checked
        parent = effect.parent_certificate
        block = chain.build_body(
            height=effect.height,
            view=effect.view,
            proposer=self._me,
            now_ms=now,
            parent_certificate=self._pack(parent),
            transactions=self._around.mempool.for_block(),
        )
        return BodyBuilt(effect.height, effect.view, block)

    def _pack(self, certificate: Certificate | None) -> bytes:
        """Return the bytes of a parent certificate, under the set that signed it."""
        if certificate is None:
            return b""
        return wire.encode_certificate(certificate, n=len(self._around.chain.tip.voters.members))

    def _commit(self, effect: Commit) -> list[Event]:
        """Apply a final block; what the core does next belongs to the next height."""
        n = len(self._around.chain.tip.members.members)
        if effect.transcript:
            self._around.transcripts.keep(effect.height, effect.transcript)
        committed = self._around.chain.commit(
            effect.block, wire.encode_certificate(effect.certificate, n=n)
        )
        events = self._entered(committed)
        proposed = self._proposed_at.get(effect.certificate.view)
        if proposed is not None:
            elapsed_ms = int((trio.current_time() - proposed) * 1000)
            events.append(ViewMeasured(effect.height, elapsed_ms))
        self._proposed_at.clear()
        return events

    def _entered(self, committed: Committed) -> list[Event]:
        self._around.pending.committed(committed.transaction_ids)
        self._around.wal.discard(committed.tip.height)
        self._around.committed(committed)
        self._around.gate.entered(committed.tip.members)
        self._said_work = False
        self._checks.renew()
        return self._ingress.enter(Height(committed.tip.height + 1), committed.tip.members)

    def _has_work(self) -> bool:
        due = self._around.chain.due_ms()
        is_due = due is not None and due <= self._around.clock.now_ms()
        return is_due or self._around.mempool.has_work()

    async def _handle_decision(self, found: _DecisionFound) -> None:
        """Apply what catch-up brought, without voting on it."""
        if self._replica.is_halted:
            found.answer.append(UnavailableError("this node has halted: a height is forked"))
            found.done.set()
            return
        try:
            applied = apply_decision(self._around.chain, found.decision, is_proved=found.is_proved)
        except PyrsiaError as error:
            found.answer.append(error)
            found.done.set()
            return
        if applied is not None:
            committed, certificate = applied
            self._around.gate.look_through(certificate, self._replica.members)
            entered = DecisionApplied(
                Height(committed.tip.height),
                committed.tip.block_hash,
                committed.tip.members,
                committed.parent_signers,
                certificate,
            )
            self._proposed_at.clear()
            events = self._entered(committed)
            await self._work_through(deque([entered, *events]))
        found.answer.append(applied is not None)
        found.done.set()

    # ------------------------------------------------------------ peers

    def _send_message(self, to: list[NodeId] | None, message: Message) -> None:
        """Send to ``to``, or to all others of the set of the message's own height."""
        members = self._replica.members_of(_height_of(message)) or self._replica.members
        frame = wire.encode_message(message, n=len(members.members))
        for node in to if to is not None else [member.id for member in members.members]:
            self._send_to(node, frame)

    def _send_to(self, to: NodeId, frame: bytes) -> None:
        if to != self._me:
            self._around.links.send(self._around.peer_of(to), frame)

    def _send_one(self, effect: Send) -> None:
        """Send to one member; a Status, which asks for an answer, at most once a second."""
        if isinstance(effect.message, Status) and not self._told.take(
            effect.to, trio.current_time()
        ):
            return
        self._send_message([effect.to], effect.message)

    def _serve_decisions(self, effect: ServeDecisions) -> None:
        """R9: at most four decisions a second to one peer, and 4 MiB a second to all."""
        now = trio.current_time()
        if not self._helped.take(effect.to, now):
            return
        for height in range(effect.first, effect.first + DECISIONS_PER_HELP):
            decision = self._around.chain.decision(height)
            if decision is None or self._decision_bytes.left(_EVERYBODY, now) <= 0:
                return
            frame = pack_frame(FrameKind.DECISION, wire.join_decision(*decision))
            self._decision_bytes.spend(_EVERYBODY, len(frame), now)
            self._send_to(effect.to, frame)

    def _push_some(self) -> None:
        """Push waiting transactions of each author, so that no single leader can sit on them."""
        size = 0
        for _, transaction in islice(self._around.mempool.in_turns(), PUSHED_COUNT_MAX):
            size += len(transaction)
            if size > PUSHED_BYTES_MAX:
                return
            frame = pack_frame(FrameKind.TRANSACTION, transaction)
            for member in self._replica.members.members:
                self._send_to(member.id, frame)

    async def _fetch_body(self, effect: RequestBody) -> None:
        """Ask the holders, then the others, for a certified body; one search a body at a time."""
        if effect.block_hash in self._fetching:
            return
        self._fetching.add(effect.block_hash)
        try:
            await self._search_body(effect)
        finally:
            self._fetching.discard(effect.block_hash)

    async def _search_body(self, effect: RequestBody) -> None:
        others = [m.id for m in self._replica.members.members if m.id != self._me]
        for holder in [*effect.holders, *(o for o in others if o not in effect.holders)]:
            if holder == self._me:
                continue
            try:
                body = await self._around.requests.ask(
                    self._around.peer_of(holder),
                    "body",
                    effect.block_hash,
                    timeout_s=BODY_TIMEOUT_S,
                    answer_bytes_max=wire.BLOCK_BYTES_MAX,
                )
                if wire.block_hash(body) == effect.block_hash:
                    await self._send.send(BodyReceived(effect.height, body))
                    return
            except CorruptStateError:
                raise
            except (PyrsiaError, DecodeError) as error:
                _LOG.debug("body from %s: %s", holder, error)


def _height_of(message: Message) -> Height:
    if isinstance(message, Decision):
        return message.certificate.height
    return message.height
