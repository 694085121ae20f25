"""Resends what may have been lost (R8) and helps those behind (R9).

All of it is repetition: nothing here can change what a node may vote for. Claims of a peer about
its height cost it a Status and the driver a hint, and are forgotten at the next retry; only
certificates move a replica.
"""

from __future__ import annotations

from consensus import bodies, rules
from consensus.effects import Send, ServeDecisions, SetTimer, StartCatchup
from consensus.events import TimerKind
from consensus.outbox import Outbox
from consensus.state import BuildPhase, HeightState
from consensus.timing import Pace
from consensus.types import Height, NodeId, Status

BODIES_REQUESTED_MAX = 4
"""Most missing bodies that one retry asks for."""


class Help:
    """The retry clockwork of one replica; outlives heights because claims do."""

    __slots__ = ("_answered", "_claims", "_out", "_pace", "_unanswered", "attempt", "is_scheduled")

    def __init__(self, out: Outbox, pace: Pace) -> None:
        """Write into ``out``; time-outs come from ``pace``."""
        self._out = out
        self._pace = pace
        self._claims: dict[NodeId, Height] = {}
        self._answered: set[NodeId] = set()
        self._unanswered: dict[NodeId, Status] = {}
        self.attempt = 0
        self.is_scheduled = False

    def entered(self, state: HeightState) -> None:
        """Start a height; ask those who are known to be further still."""
        self._answered.clear()
        self._unanswered.clear()
        self.is_scheduled = False
        claims, self._claims = self._claims, {}
        for peer in sorted(claims):
            self.heard_of(state, peer, claims[peer])

    def schedule(self, state: HeightState) -> None:
        """Ask for the next retry of the current view."""
        delay = self._pace.retry_ms(state.height, state.view, self.attempt)
        self._out.add(SetTimer(TimerKind.RETRY, state.height, state.view, delay))
        self.is_scheduled = True

    def arm(self, state: HeightState) -> None:
        """Run the timers of the current view, if they do not: something is under way."""
        state.is_armed_by_work_alone = False
        if state.is_armed or state.my_index is None:
            return
        state.is_armed = True
        delay = self._pace.view_ms(state.view)
        self._out.add(SetTimer(TimerKind.VIEW, state.height, state.view, delay))
        self.schedule(state)

    # -- R8 --------------------------------------------------------------------------------------

    def retry(self, state: HeightState) -> None:  # R8
        """Repeat what may have been lost, and go on doing so while this height is under way."""
        self.attempt += 1
        self.is_scheduled = False
        self.repeat(state)
        self._claims.clear()
        bodies.check_time_again(state, self._out)
        if state.build.phase is BuildPhase.ANSWERED and state.build.block is None:
            state.build.phase = BuildPhase.IDLE
        state.has_asked_peers = True  # The Status just sent asks for what the leader lacks.
        self._answered.clear()
        waiting, self._unanswered = self._unanswered, {}
        for peer in sorted(waiting):
            self._answer(state, peer, waiting[peer])
        if state.is_armed:
            self.schedule(state)

    def repeat(self, state: HeightState) -> None:
        """Send own votes, the own proposal, the Status, and ask for missing bodies."""
        for vote in rules.votes_to_repeat(state):
            self._out.broadcast(state, vote)
        proposal = state.own_proposals.get(state.view)
        if proposal is not None:
            name = state.proposals[state.view].block_hash
            for peer in rules.repeat_proposal_to(state, name):
                self._out.add(Send(peer, proposal))
        self._out.broadcast(state, rules.status(state))
        for name in state.missing_bodies()[:BODIES_REQUESTED_MAX]:
            bodies.find(state, self._out, name, attempt=self.attempt)

    def heard_status(self, state: HeightState, sender: NodeId, status: Status) -> None:
        """Send a peer what its Status lacks: at once, and once a retry period."""
        if rules.is_behind(state, status):  # R9
            self._out.add(ServeDecisions(sender, Height(max(1, status.height))))
            return
        if state.members.index_of(sender) is None:
            return
        if status.height > state.height:
            self.heard_of(state, sender, status.height)
            return
        if status.view > state.view:
            self._ask(state, sender)
        if sender in self._answered:
            self._unanswered[sender] = status
        else:
            self._answer(state, sender, status)

    def _answer(self, state: HeightState, peer: NodeId, status: Status) -> None:
        if status.height != state.height or state.my_index is None:
            return
        self._answered.add(peer)
        for certificate in rules.certificates_lacking(state, status):
            self._out.add(Send(peer, certificate))

    # -- R9 --------------------------------------------------------------------------------------

    def heard_of(self, state: HeightState, sender: NodeId, height: Height) -> None:  # R9
        """Take a claim to be ahead.

        One height ahead is what every commit looks like from a slower node: the next retry asks.
        Two ahead means that something was missed: ask now, and let the driver fetch; once a peer
        and retry period, however its claims grow.
        """
        known = self._claims.get(sender, state.height)
        if height <= known:
            return
        self._claims[sender] = height
        if height > state.height + 1 >= known:
            self._ask(state, sender)
            self._out.add(StartCatchup(sender, height))
        if not self.is_scheduled and state.my_index is not None:
            self.schedule(state)

    def _ask(self, state: HeightState, peer: NodeId) -> None:
        if state.my_index is not None:
            self._out.add(Send(peer, rules.status(state)))
