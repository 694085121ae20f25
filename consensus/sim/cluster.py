"""One run of a cluster: builds everything from a schedule, lets time pass, reports what came out.

Honest nodes run the product's core, ingress, codecs, log and recovery. The oracle looks at
everything that leaves them; traitors hear it at once. The run ends when all work is committed by
every honest node, at the first violation, or at the deadline, which is a violation too.
"""

from __future__ import annotations

import hashlib
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from consensus.amnesia import Answer, encode_answer
from consensus.effects import Record, RecordKind, ReportEvidence
from consensus.ingress import verify_certificate
from consensus.sim import keys
from consensus.sim.clock import MILLISECOND, SECOND, Clock, NodeClock
from consensus.sim.faults import Actor
from consensus.sim.footprint import footprint
from consensus.sim.frames import (
    SideKind,
    body_frame,
    decisions_frame,
    read_body_asked,
    read_height,
)
from consensus.sim.hand import Hand
from consensus.sim.life import Life
from consensus.sim.liveness import Work, deadline_us
from consensus.sim.machine import SLOWNESS_MAX, Machine, State, TransactionKind
from consensus.sim.mishaps import Mishaps
from consensus.sim.network import Network
from consensus.sim.node import Node
from consensus.sim.oracle import Fork, Oracle, Violation
from consensus.sim.roster import ACTORS, TWIN
from consensus.sim.schedule import Schedule, Signatures, Submission
from consensus.sim.trace import describe, short, stamp
from consensus.sim.twin import Twin
from consensus.sim.world import Durable, Stored, World
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    View,
)
from consensus.wire import MessageKind, decode_vote, split_block

EVENTS_MAX: Final = 1_500_000
"""More than any sound run takes; beyond it something feeds itself."""

FOOTPRINT_MAX: Final = 8 * 1024 * 1024
"""Most bytes that core and ingress of one node may hold in a run of small blocks."""

RESUBMIT_US: Final = 10 * SECOND
TICK_US: Final = 1 * SECOND

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    violation: Violation | None
    events: int
    frames: int
    heights: int
    view_max: int
    recovery_us: int
    """From GST, or the last submission, to the last commit."""
    link_bytes_per_second: int
    footprint_bytes: int
    culprits: tuple[NodeId, ...]
    """Members that the certificates of a forked height convict; empty without a fork."""
    accused: tuple[NodeId, ...]
    """Traitors whose contradictions some honest node noticed."""
    is_unfinished: bool
    """Whether the log still waited at the deadline, which only ``Schedule.may_stop`` allows."""
    digest: str
    """Hash over every frame delivered, with its time: equal for equal runs."""


class Cluster:
    """Everything of one run. ``run`` may be called once."""

    def __init__(
        self, schedule: Schedule, tell: Tell | None = None, *, sees_disks: bool = True
    ) -> None:
        self.schedule = schedule
        self._tell = tell
        self._clock = Clock()
        self._chance = random.Random(schedule.seed ^ 0x5EED)
        make = keys.real if schedule.signatures is Signatures.REAL else keys.keyed
        self._keys = make(schedule.nodes, seed=schedule.seed)
        genesis_set = keys.member_set(schedule.sets[0], self._keys, epoch=0)
        self._chain_id = Digest(hashlib.sha256(b"simulated chain").digest())
        self._oracle = Oracle(
            chain_id=self._chain_id,
            genesis_set=genesis_set,
            honest=frozenset(schedule.honest),
            verify=self._keys.verify,
            successor=self._set_after,
            sees_disks=sees_disks,
            may_fork=schedule.has_too_many_traitors,
        )
        self._network = Network(
            self._clock,
            random.Random(schedule.seed ^ 0xA1B2),
            self._deliver,
            weather=schedule.weather,
            cuts=schedule.cuts,
            gst_us=schedule.gst_us,
        )
        self._work = Work(schedule.honest)
        self._digest = hashlib.blake2b(digest_size=16)
        self._world = World(
            clock=self._clock,
            chance=self._chance,
            machine=Machine(
                genesis_set,
                certificate_holds=self._certificate_holds,
                successor=self._successor,
            ),
            chain_id=self._chain_id,
            verify=self._keys.verify,
            timing=schedule.timing,
            send=self._network.send,
            slowness=self._slowness,
            rekeying_us=self._rekeying_us,
        )
        self._hand = Hand(
            self._world,
            chance=random.Random(schedule.seed ^ 0xBAD),
            sign={node: self._keys.sign[node] for node in schedule.traitors},
            leak=self._keys.ring.sign,
            honest=schedule.honest,
        )
        self._heard: set[bytes] = set()
        self._nodes = {node: self._make_node(node) for node in schedule.honest}
        self._mishaps = Mishaps(
            schedule,
            self._clock,
            self._nodes,
            chance=self._chance,
            story=self._story,
            put_back=self._oracle.put_back,
        )
        self._actors = {
            node: tuple(self._make_actor(node, name) for name in names)
            for node, names in zip(schedule.traitors, schedule.actors, strict=True)
        }
        self._view_max = 0
        self._footprint = 0
        self._accused: set[NodeId] = set()
        self._is_unfinished = False
        self._told = ""

    # -- running ------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let the schedule happen and return what came of it."""
        violation: Violation | None = None
        culprits: tuple[NodeId, ...] = ()
        try:
            self._plan()
            self._run()
        except Violation as found:
            violation = found
        except Fork as fork:
            culprits = self._oracle.culprits(fork.height)
            violation = self._audit(fork, culprits)
        except Exception as error:  # noqa: BLE001 - whatever the core raises is a finding
            text = "".join(traceback.format_exception(error)[-4:])
            violation = Violation(f"{type(error).__name__} raised", text)
        if violation is not None:
            self._story("oracle", f"VIOLATION {violation}")
        return Outcome(
            violation=violation,
            events=self._clock.events,
            frames=self._network.frames,
            heights=max((len(node.durable.chain) for node in self._nodes.values()), default=0),
            view_max=self._view_max,
            recovery_us=max(0, self._clock.now_us - self._last_submission_us()),
            link_bytes_per_second=self._oracle.link_bytes_per_second,
            footprint_bytes=self._footprint,
            culprits=culprits,
            accused=tuple(sorted(self._accused)),
            is_unfinished=self._is_unfinished,
            digest=self._digest.hexdigest(),
        )

    def _run(self) -> None:
        asked_us = self._last_submission_us()
        end_us = asked_us + deadline_us(len(self.schedule.traitors))
        while self._clock.now_us <= asked_us or not self._work.is_done:
            if not self._clock.advance():
                raise Violation("stall", "nothing is left to happen")
            if self._clock.now_us > end_us:
                if self.schedule.may_stop:
                    self._is_unfinished = True
                    return  # such a run is judged by what was said alone
                raise Violation("stall", self._work.story())
            if self._clock.events > EVENTS_MAX:
                raise Violation("runaway", f"{self._clock.events} events")
        self._measure()

    def _audit(self, fork: Fork, culprits: tuple[NodeId, ...]) -> Violation | None:
        """Check that a fork convicts more than f members, and honest ones never."""
        self._story("oracle", f"FORK: {fork}; convicted: {', '.join(culprits)}")
        f = (len(self.schedule.sets[0]) - 1) // 3
        if set(culprits) - set(self.schedule.traitors):
            return Violation("honest node convicted", f"{fork}: {culprits}")
        if len(culprits) <= f:
            return Violation("fork names too few", f"{fork}: {culprits}")
        return None

    def _last_submission_us(self) -> int:
        return max(self.schedule.gst_us, *(one.at_us for one in self.schedule.work))

    def _plan(self) -> None:
        schedule, clock = self.schedule, self._clock
        self._mishaps.plan()
        for actors in self._actors.values():
            for actor in actors:
                clock.at(0, actor.start)
        self._note_view(self._hand.knowledge.begin())
        for submission in schedule.work:
            clock.at(submission.at_us, partial(self._submit, submission))
        clock.at(schedule.gst_us, self._settle)
        clock.after(TICK_US, self._tick)
        clock.after(RESUBMIT_US, self._resubmit)

    def _settle(self) -> None:
        """Make the network timely and everybody present, as the model promises from GST on."""
        self._story("world", "the network settles")
        self._mishaps.settle()
        self._resubmit_once()

    def _slowness(self) -> int:
        if self._network.settled:
            return 1
        return self._chance.choice((1, 1, 1, 1, SLOWNESS_MAX))

    def _rekeying_us(self) -> int:
        """Return how late the new key comes into force; soon, once the network has settled."""
        if self._network.settled:
            return self._chance.choice((0, 5, 300)) * MILLISECOND
        return self._chance.choice((0, 5, 300, 3_000, 20_000, 100_000)) * MILLISECOND

    # -- clients ------------------------------------------------------------------------------

    def _submit(self, submission: Submission) -> None:
        self._work.submit(submission.transaction)
        node = self._nodes.get(submission.node)
        if node is None or node.life is None:
            self._ask_somebody(submission.transaction)
        else:
            node.submit(submission.transaction)

    def _ask_somebody(self, transaction: bytes) -> None:
        running = [node for node in self._nodes.values() if node.life is not None]
        if running:
            self._chance.choice(running).submit(transaction)

    def _resubmit(self) -> None:
        """Ask again every few seconds until the network settles.

        Not later: from then on, what one running member knows must reach the others by itself.
        """
        if not self._network.settled:
            self._resubmit_once()
            self._clock.after(RESUBMIT_US, self._resubmit)

    def _resubmit_once(self) -> None:
        for transaction in list(self._work.waiting):
            if transaction not in self._work.acknowledged:
                self._ask_somebody(transaction)

    # -- frames -------------------------------------------------------------------------------

    def _deliver(self, source: NodeId, target: NodeId, frame: bytes) -> None:
        self._digest.update(
            f"{self._clock.now_us} {source} {target} {len(frame)} ".encode() + frame
        )
        node = self._nodes.get(target)
        if node is not None:
            self._hand_over(node, source, frame)
            return
        for actor in self._actors[target]:
            actor.received(source, frame)
        self._ask_traitor(source, target, frame)

    def _hand_over(self, node: Node, source: NodeId, frame: bytes) -> None:
        """Give a frame to an honest node, and see that a certificate was not ignored."""
        before = node.durable.height
        node.receive(source, frame)
        life = node.life
        if life is not None and frame[:1] == bytes([MessageKind.CERTIFICATE]):
            at = life.replica
            if at.height == before and not self._is_halted(node.me, life):
                self._oracle.certificate_arrived(
                    node.me, source, frame, height=before, view=at.view
                )

    def _is_halted(self, node: NodeId, life: Life) -> bool:
        """Say whether a node has stopped over two decisions of one height, as it then should."""
        is_halted = life.replica.is_halted
        if is_halted and not self.schedule.has_too_many_traitors:
            raise Violation("halted", f"{node} at height {life.replica.height}")
        return is_halted

    def _ask_traitor(self, source: NodeId, target: NodeId, frame: bytes) -> None:
        actor = self._actors[target][0]
        if isinstance(actor, Twin):
            return
        if frame[:1] == bytes([SideKind.BODY_ASKED]):
            asked = read_body_asked(frame)
            body = None if asked is None else actor.body_for(*asked)
            if asked is not None and body is not None:
                self._network.send(target, source, body_frame(asked[0], body))
        elif frame[:1] == bytes([SideKind.DECISIONS_ASKED]):
            wanted = read_height(frame)
            decisions = None if wanted is None else actor.decisions_for(wanted[0])
            if decisions is not None:
                encoded = [self._hand.encode(one) for one in decisions]
                self._network.send(target, source, decisions_frame(encoded))
        elif frame[:1] == bytes([SideKind.RECALL_ASKED]) and actor.denies_memories():
            none = encode_answer(Answer(Height(0), None))  # "no vote of yours"
            self._network.send(target, source, bytes([SideKind.RECALL]) + none)
        elif frame[:1] == bytes([SideKind.TIP_ASKED]) and actor.denies_memories():
            self._network.send(target, source, bytes([SideKind.TIP]))  # "nothing is decided yet"

    # -- Watcher ------------------------------------------------------------------------------

    def said(self, node: NodeId, message: Message, frame: bytes, *, members: int) -> None:
        """Judge a frame that leaves, and let every traitor overhear it."""
        if self._tell is not None:
            self._story(node, describe(message))
        self._oracle.frame_left(node, frame, members=members)
        if frame in self._heard:
            return
        self._heard.add(frame)
        self._hand.knowledge.frames.append(frame)
        self._note_view(self._hand.knowledge.hear(message))
        for actors in self._actors.values():
            for actor in actors:
                actor.overheard(message)

    def sent(self, node: NodeId, target: NodeId, size: int) -> None:
        """Count egress."""
        self._oracle.bytes_left(node, target, size, second=self._clock.now_us // SECOND)

    def durable(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """Tell the oracle what is on the platter."""
        self._oracle.became_durable(node, records)
        if self._tell is not None:
            for record in records:
                if record.kind is RecordKind.VOTE:
                    self._story(node, f"writes down: {describe(decode_vote(record.payload))}")

    def committed(self, node: NodeId, stored: Stored, after: State, next_set: MemberSet) -> None:
        """Judge a commit and acknowledge its transactions to the clients."""
        transactions = split_block(stored.block).transactions
        self._story(node, f"COMMITS {after.height} {short(after.tip)} of {len(transactions)}")
        assert after.parent is not None
        self._oracle.committed(
            node,
            Decision(stored.block, stored.certificate),
            parent=after.parent.tip,
            next_set=next_set,
            transcript=stored.transcript,
        )
        self._work.commit(node, transactions)
        begun = self._hand.knowledge.decided(Decision(stored.block, stored.certificate))
        if begun is not None:
            self._heard.clear()
            del self._hand.knowledge.frames[:-64]
        self._note_view(begun)

    def refused(self, node: NodeId, height: Height, reason: str) -> None:
        """Report that an invalid block was decided."""
        raise Violation("invalid block committed", f"{node} at height {height}: {reason}")

    def accused(self, node: NodeId, report: ReportEvidence) -> None:
        """Judge evidence."""
        self._story(node, f"accuses {report.culprit}")
        self._oracle.evidence(node, report)
        self._accused.add(report.culprit)

    def booted(
        self, node: NodeId, chain: list[Digest], records: tuple[Record, ...], *, forgot: bool
    ) -> None:
        """Compare what a node finds on its disk with what it had said."""
        self._story(node, f"boots at height {len(chain) + 1} with {len(records)} records")
        self._oracle.restarted(node, chain, records, forgot=forgot)

    def note(self, node: NodeId, text: str) -> None:
        """Tell it."""
        self._story(node, text)

    # -- shared -------------------------------------------------------------------------------

    def _note_view(self, begun: tuple[Height, View] | None) -> None:
        if begun is None:
            return
        self._view_max = max(self._view_max, begun[1])
        for actors in self._actors.values():
            delay_us = self._hand.chance.choice((1_000, 1_000, 50_000, 1_000_000))
            for actor in actors:
                self._clock.after(delay_us, partial(actor.view_began, *begun))

    def _tick(self) -> None:
        for actors in self._actors.values():
            for actor in actors:
                actor.tick()
        if self._clock.now_us // TICK_US % 16 == 0:
            self._measure()
        self._clock.after(TICK_US, self._tick)

    def _measure(self) -> None:
        """Hold the memory of every running core and ingress to its bound."""
        for name, node in self._nodes.items():
            if node.life is not None:
                size = footprint((node.life.replica, node.life.ingress))
                self._footprint = max(self._footprint, size)
                if size > FOOTPRINT_MAX:
                    raise Violation("memory", f"{name} holds {size} bytes")

    def _make_node(self, node: NodeId) -> Node:
        wrong = self.schedule.clocks[self.schedule.nodes.index(node)]
        clock = NodeClock(
            self._clock, offset_ms=wrong.offset_ms, timer_permille=wrong.timer_permille
        )
        own_keys = partial(self._keys.ring.all_of, node)
        key = keys.KeyFile(node, self._keys.ring)
        return Node(Durable(node, key, clock, own_keys), self._world, self)

    def _make_actor(self, node: NodeId, name: str) -> Actor:
        if name == TWIN:
            return Twin(node, self._hand, self._keys.ring)
        return ACTORS[name](node, self._hand)

    def _certificate_holds(self, certificate: Certificate, members: MemberSet) -> bool:
        return verify_certificate(certificate, members, self._chain_id, self._keys.verify)

    def _successor(self, members: MemberSet) -> MemberSet:
        epoch = members.epoch + 1
        ids = self.schedule.sets[epoch % len(self.schedule.sets)]
        generations = self.schedule.generations(epoch)
        return keys.member_set(ids, self._keys, epoch=epoch, generations=generations)

    def _set_after(self, members: MemberSet, block: bytes) -> MemberSet:
        """Say for the oracle, from the bytes of a block alone, which set must follow it."""
        transactions = split_block(block).transactions
        if any(one[0] == TransactionKind.NEW_SET for one in transactions):
            return self._successor(members)
        return members

    def _story(self, who: str, text: str) -> None:
        """Tell one line; what is sent to several nodes in one instant is told once."""
        if self._tell is None:
            return
        line = f"{stamp(self._clock.now_us)}  {who:6s} {text}"
        if line != self._told:
            self._told = line
            self._tell(line)
