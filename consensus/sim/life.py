"""One life of a simulated node, from boot to power loss: the driver around the core.

It does what ``pyrsia_node.replica`` does with sockets and files, in virtual time: performs effects
in list order, makes a batch durable before anything later in the list leaves, applies a commit in
one synced write. It is forgotten as a whole when the power fails; ``Durable`` is what remains.
Nothing here decides anything about the protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

from consensus.effects import (
    Broadcast,
    BuildBody,
    CheckBody,
    Commit,
    Effect,
    Persist,
    Record,
    RecordKind,
    ReportEvidence,
    RequestBody,
    Send,
    ServeDecisions,
    SetTimer,
    StartCatchup,
)
from consensus.events import (
    BodyBuilt,
    BodyChecked,
    Event,
    MessageReceived,
    TimerFired,
    TimerKind,
    TimeVerdict,
    ViewMeasured,
    WorkPending,
)
from consensus.ingress import Ingress
from consensus.replica import Replica
from consensus.sim.clock import MILLISECOND
from consensus.sim.errands import Errands
from consensus.sim.frames import CONSENSUS_KINDS, MEMORY_KINDS, SideKind, transaction_frame
from consensus.sim.journal import Journal
from consensus.sim.machine import (
    TRANSACTIONS_MAX,
    State,
    TransactionKind,
    Verdict,
    build_us,
)
from consensus.sim.memory import Memory
from consensus.sim.world import Durable, Stored, Watcher, World
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    MemberSet,
    Message,
    NodeId,
    Proposal,
    View,
)
from consensus.wire import (
    block_hash,
    body_id,
    decode_proposal,
    encode_message,
    proposal_height,
    split_block,
)

TIME_SLACK_MS: Final = 10_000
"""How far a fresh block's time may be from a voter's clock (CONSENSUS.md 3.5, time rule)."""

MEMPOOL_MAX: Final = 256
PUSH_MAX: Final = 16
LATE_TIMERS_PERCENT: Final = 30


class Life:
    """The running process of one node. ``step`` raises where the power fails."""

    def __init__(
        self,
        durable: Durable,
        world: World,
        watcher: Watcher,
        *,
        replica: Replica,
        ingress: Ingress,
        journal: Journal,
        step: Callable[[], None],
        later: Callable[[int, Callable[[], list[Event]]], None],
    ) -> None:
        self.durable = durable
        self.world = world
        self.replica = replica
        self.ingress = ingress
        self._watcher = watcher
        self._journal = journal
        self._step = step
        self.later = later
        """Hands ``work`` what a call returns after a delay, unless this life is over by then."""
        self._errands = Errands(self)
        self.memory: Memory | None = None
        """What keeps the signer silent at first; None if this node votes at once."""
        self._mempool: dict[bytes, None] = {}
        self._bodies: dict[Digest, bytes] = {}
        self._timers: dict[TimerKind, SetTimer] = {}
        self._sighted: dict[View, int] = {}

    def start(self, records: tuple[Record, ...], effects: list[Effect]) -> None:
        """Take up work with what the log held and what recovery wants done."""
        for record in records:
            self._remember_body(record)
        events: deque[Event] = deque()
        for effect in effects:
            self._step()
            events.extend(self._perform(effect))
        events.extend(self.ingress.enter(self.durable.height, self.members()))
        self.work(events)
        self._errands.poll_for_ever()
        if self.memory is not None:
            self.work(deque(self.memory.ask()))

    # -- inputs -------------------------------------------------------------------------------

    def work(self, events: deque[Event]) -> None:
        """Step through events and those that performing their effects brings."""
        while events:
            effects = self.replica.step(events.popleft())
            self.ingress.set_view(self.replica.view)
            for effect in effects:
                self._step()
                events.extend(self._perform(effect))

    def receive(self, source: NodeId, frame: bytes) -> None:
        """Take one frame from the network."""
        if not frame:
            return
        if frame[0] not in CONSENSUS_KINDS:
            self.work(deque(self._receive_side(source, frame)))
            return
        events = self.ingress.admit(source, frame)
        self._look_at(events)
        self.work(deque(events))

    def _look_at(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, MessageReceived):
                if self.memory is not None:
                    self.memory.look_through(event.message, self.replica.members)
                if isinstance(event.message, Proposal):
                    self._sight(event.sender, event.message)

    def _sight(self, sender: NodeId, proposal: Proposal) -> None:
        """Remember when a view's proposal was first seen from its leader; others' do not count."""
        if sender == self.replica.leader(proposal.view):
            self._sighted.setdefault(proposal.view, self.world.clock.now_us)

    def submit(self, transaction: bytes) -> None:
        """Take a transaction from a client and push it to all other members."""
        if self._admit(transaction):
            for member in self.others():
                self.send(member, transaction_frame(transaction))
            self.work(deque([WorkPending(self.durable.height)]))

    def _receive_side(self, source: NodeId, frame: bytes) -> list[Event]:
        match frame[0]:
            case SideKind.TRANSACTION:
                if self._admit(frame[1:]):
                    return [WorkPending(self.durable.height)]
            case SideKind.BODY_ASKED:
                self._errands.answer_body(source, frame)
            case SideKind.BODY:
                return self._errands.take_body(frame)
            case SideKind.DECISIONS_ASKED:
                self._errands.answer_decisions(source, frame)
            case SideKind.DECISIONS:
                return self._errands.take_decisions(source, frame)
            case kind if kind in MEMORY_KINDS and self.memory is not None:
                return self.memory.take(source, frame)
            case _:
                pass
        return []

    # -- effects ------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> list[Event]:
        match effect:
            case Persist():
                self._persist(effect)
            case Send():
                self._say(effect.message, (effect.to,))
            case Broadcast():
                members = self._members_of(effect.message).members
                self._say(effect.message, tuple(one.id for one in members))
            case SetTimer():
                self._set_timer(effect)
            case BuildBody():
                self._begin_to_build(effect)
            case CheckBody():
                self._check(effect)
            case Commit():
                return self._commit(effect)
            case RequestBody() | ServeDecisions() | StartCatchup() | ReportEvidence():
                self._perform_aside(effect)
            case _:
                assert_never(effect)
        return []

    def _perform_aside(
        self, effect: RequestBody | ServeDecisions | StartCatchup | ReportEvidence
    ) -> None:
        match effect:
            case RequestBody():
                self._errands.fetch(effect)
            case ServeDecisions():
                self._errands.serve(effect)
            case StartCatchup():
                self._errands.start_catchup(effect)
            case ReportEvidence():
                self._watcher.accused(self.durable.me, effect)
            case _:
                assert_never(effect)

    def _persist(self, effect: Persist) -> None:
        self._journal.append(effect.records, self.replica.height)
        self._watcher.durable(self.durable.me, effect.records)
        for record in effect.records:
            self._remember_body(record)

    def _say(self, message: Message, targets: tuple[NodeId, ...]) -> None:
        members = len(self._members_of(message).members)
        frame = encode_message(message, n=members)
        if isinstance(message, Proposal):
            self._sight(self.durable.me, message)
        self._watcher.said(self.durable.me, message, frame, members=members)
        for target in targets:
            if target != self.durable.me:
                self.send(target, frame)
                self._step()

    def _set_timer(self, effect: SetTimer) -> None:
        self._timers[effect.kind] = effect
        delay_us = self.durable.clock.timer_us(effect.delay_ms)
        self.later(delay_us, partial(self._fire, effect))

    def _fire(self, effect: SetTimer) -> list[Event]:
        """Let a timer run out; one that was replaced is sometimes too late to be called back."""
        newest = self._timers.get(effect.kind)
        if newest is effect:
            del self._timers[effect.kind]
        elif self._is_recalled(effect, newest):
            return []
        if effect.kind is TimerKind.RETRY:
            self.push_oldest()
        return [TimerFired(effect.kind, effect.height, effect.view)]

    def _is_recalled(self, old: SetTimer, newest: SetTimer | None) -> bool:
        """Say whether a replaced timer was called back in time; always, if it says the same."""
        if newest is not None and (newest.height, newest.view) == (old.height, old.view):
            return True
        return self.world.chance.randrange(100) >= LATE_TIMERS_PERCENT

    # -- bodies -------------------------------------------------------------------------------

    def body(self, name: Digest) -> bytes | None:
        """Return a durable body by its hash: of the working height, or of the chain's end."""
        body = self._bodies.get(name)
        if body is None:
            for stored in self.durable.chain[-4:]:
                if stored.name == name:
                    return stored.block
        return body

    def _remember_body(self, record: Record) -> None:
        if record.kind is RecordKind.BODY:
            self._bodies[block_hash(record.payload)] = record.payload
        elif record.kind is RecordKind.PROPOSAL:
            members = self.replica.members_of(proposal_height(record.payload))
            if members is not None:  # else it is of a height long committed
                block = decode_proposal(record.payload, n=len(members.members)).block
                self._bodies[block_hash(block)] = block

    def _begin_to_build(self, effect: BuildBody) -> None:
        """Choose what goes into a body, and be busy with it for as long as it costs."""
        waiting = self._proposable()
        took_us = build_us(waiting) * self.world.slowness()
        timer = self._timers.get(TimerKind.VIEW)
        if timer is not None and took_us > timer.delay_ms * MILLISECOND:
            text = f"builds for {effect.height}/{effect.view} longer than its own patience"
            self.note(f"{text}: {took_us // MILLISECOND} ms")
        self.later(took_us, partial(self._build, effect, waiting))

    def _build(self, effect: BuildBody, waiting: tuple[bytes, ...]) -> list[Event]:
        if effect.height != self.durable.height:
            return []
        if effect.view < self.replica.view:
            self.note(f"has built for {effect.height}/{effect.view}, which is over")
        block = None
        if waiting:
            block = self.world.machine.build(
                self.durable.tip,
                view=effect.view,
                proposer=self.durable.me,
                wall_ms=self.durable.clock.wall_ms(),
                parent_certificate=effect.parent_certificate,
                transactions=waiting,
            )
        return [BodyBuilt(effect.height, effect.view, block)]

    def _check(self, effect: CheckBody) -> None:
        if effect.height == self.durable.height:
            verdict = self.world.machine.judge(self.durable.tip, effect.block)
            delay_us = verdict.cost_us * self.world.slowness()
            self.later(delay_us, partial(self._checked, effect, verdict))

    def _checked(self, effect: CheckBody, verdict: Verdict) -> list[Event]:
        if effect.height != self.durable.height:
            return []
        return [
            BodyChecked(
                height=effect.height,
                body_id=body_id(effect.block),
                block_hash=verdict.block_hash,
                valid=verdict.next_set is not None,
                time=self._judge_time(verdict.time_ms),
                parent=verdict.parent,
                origin_view=View(verdict.origin_view),
                origin_proposer=verdict.origin_proposer,
                next_set=verdict.next_set,
                reason=verdict.reason,
            )
        ]

    def _judge_time(self, time_ms: int) -> TimeVerdict:
        now_ms = self.durable.clock.wall_ms()
        parent_ms = self.world.machine.state(self.durable.tip).time_ms
        if time_ms < now_ms - TIME_SLACK_MS:
            return TimeVerdict.PAST
        if time_ms > now_ms + TIME_SLACK_MS and time_ms != parent_ms + 1:
            return TimeVerdict.FUTURE
        return TimeVerdict.OK

    # -- commits ------------------------------------------------------------------------------

    def _commit(self, effect: Commit) -> list[Event]:
        began_us = self._sighted.get(effect.certificate.view)
        refusal = self.refusal(effect.block)
        if refusal:
            self._watcher.refused(self.durable.me, effect.height, refusal)
            return []
        self.apply(effect.certificate, effect.block, effect.transcript, effect.next_set)
        events = self.enter()
        if began_us is not None:
            elapsed_ms = (self.world.clock.now_us - began_us) // MILLISECOND
            events.insert(0, ViewMeasured(effect.height, elapsed_ms))
        return events

    def refusal(self, block: bytes) -> str:
        """Return why the state machine does not take a block next, or nothing."""
        return self.world.machine.judge(self.durable.tip, block).reason

    def apply(
        self,
        certificate: Certificate,
        block: bytes,
        transcript: tuple[Certificate, ...] | None = None,
        next_set: MemberSet | None = None,
    ) -> State:
        """Commit a decided, valid block in one synced write, if the disk is well."""
        self.durable.disk.require_synced_write()
        after = self.world.machine.apply(self.durable.tip, block)
        stored = Stored(after.tip, block, certificate, transcript)
        self._watcher.committed(self.durable.me, stored, after, next_set or after.members)
        self.durable.chain.append(stored)
        self._step()
        return after

    def enter(self) -> list[Event]:
        """Take up the height after the newest commit."""
        height = self.durable.height
        for transaction in split_block(self.durable.chain[-1].block).transactions:
            self._mempool.pop(transaction, None)
        self._bodies.clear()
        self._sighted.clear()
        self._journal.forget_below(height)
        self._errands.entered(height)
        if self.memory is not None:
            self.memory.entered(self.members())
        events = self.ingress.enter(height, self.members())
        if self._mempool:
            events.append(WorkPending(height))
        return events

    # -- transactions -------------------------------------------------------------------------

    def _admit(self, transaction: bytes) -> bool:
        """Keep a transaction that is new and could become part of the chain."""
        state = self.world.machine.state(self.durable.tip)
        is_wanted = (
            0 < len(transaction) <= 8_192
            and transaction[0] != TransactionKind.INVALID
            and transaction not in state.applied
            and transaction not in self._mempool
            and len(self._mempool) < MEMPOOL_MAX
        )
        if is_wanted:
            self._mempool[transaction] = None
        return is_wanted

    def _proposable(self) -> tuple[bytes, ...]:
        """Return the oldest transactions that are valid together."""
        chosen: list[bytes] = []
        has_new_set = False
        for transaction in self._mempool:
            if transaction[0] == TransactionKind.NEW_SET:
                if has_new_set:
                    continue
                has_new_set = True
            chosen.append(transaction)
            if len(chosen) == TRANSACTIONS_MAX:
                break
        return tuple(chosen)

    def waiting(self) -> tuple[bytes, ...]:
        """Return the transactions that wait here, oldest first."""
        return tuple(self._mempool)

    def push_oldest(self) -> None:
        """Push what waits to all members, so that no single leader can sit on it."""
        for transaction in list(self._mempool)[:PUSH_MAX]:
            for member in self.others():
                self.send(member, transaction_frame(transaction))

    # -- shared -------------------------------------------------------------------------------

    def members(self) -> MemberSet:
        """Return the set of the working height."""
        return self.world.machine.state(self.durable.tip).members

    def _members_of(self, message: Message) -> MemberSet:
        """Return the set of the height of an own message."""
        height = message.certificate.height if isinstance(message, Decision) else message.height
        members = self.replica.members_of(height)
        assert members is not None, "a replica speaks of its working height and the one below"
        return members

    def others(self) -> list[NodeId]:
        """Return the ids of all other members, in order."""
        return [one.id for one in self.members().members if one.id != self.durable.me]

    def note(self, text: str) -> None:
        """Tell what is worth telling of this node."""
        self._watcher.note(self.durable.me, text)

    def send(self, target: NodeId, frame: bytes) -> None:
        """Put a frame on the network."""
        self._watcher.sent(self.durable.me, target, len(frame))
        self.world.send(self.durable.me, target, frame)
