"""Counts votes, makes certificates of them, and takes in certificates that others made.

Every vote and certificate that arrives here has been verified. Nothing is decided here: rules read
the result.
"""

from __future__ import annotations

from consensus import bodies, rules, wire
from consensus.effects import RecordKind, ReportEvidence, Send
from consensus.evidence import VotePair
from consensus.help import Help
from consensus.outbox import Outbox
from consensus.state import HeightState
from consensus.types import Certificate, Vote, VoteKind


class Tally:
    """Adds votes and certificates to a height's state, and tells what they bring about."""

    __slots__ = ("_help", "_out")

    def __init__(self, out: Outbox, help_: Help) -> None:
        """Write into ``out``; what arrives arms the timers of ``help_``."""
        self._out = out
        self._help = help_

    def count(self, state: HeightState, vote: Vote) -> None:
        """Add a vote of this height, own or another's; a quorum makes a certificate."""
        self._report(state, state.book.add(vote))
        tally = state.tallies.setdefault((vote.kind, vote.view, vote.block_hash), {})
        if vote.voter in tally:
            return
        tally[vote.voter] = vote.signature
        state.voices.add(vote.voter)
        if len(state.voices) > state.faults:
            self._help.arm(state)
        if len(tally) >= state.quorum and vote.view not in state.certificates(vote.kind):
            signers = tuple(sorted(tally))
            signatures = tuple(tally[voter] for voter in signers)
            certificate = Certificate(
                vote.kind, vote.height, vote.view, vote.block_hash, signers, signatures
            )
            self.store(state, certificate)

    def store(
        self, state: HeightState, certificate: Certificate, *, is_durable: bool = False
    ) -> None:
        """Keep a certificate; the first time, persist it, pass it on (R7) and find its body."""
        known = state.certificates(certificate.kind)
        if certificate.view in known:
            self._look_for_fork(state, certificate)
            return
        self._look_for_fork(state, certificate)
        known[certificate.view] = certificate
        self._report(state, state.book.add_certificate(certificate))
        self._help.arm(state)
        is_here = certificate.block_hash in state.valid
        if not is_durable:
            # With its body here, Commit writes a final certificate beside the block in one sync.
            if certificate.kind is not VoteKind.FINALIZE or not is_here:
                payload = wire.encode_certificate(certificate, n=state.n)
                self._out.persist(RecordKind.CERTIFICATE, payload)
            for target in rules.relay(state, certificate):  # R7
                self._out.add(Send(target, certificate))
        if certificate.kind is not VoteKind.NULLIFY and not is_here:
            bodies.find(state, self._out, certificate.block_hash, attempt=self._help.attempt)

    def _look_for_fork(self, state: HeightState, certificate: Certificate) -> None:
        """Stop when two blocks of one height are final: more than f members are traitors."""
        if certificate.kind is VoteKind.FINALIZE and any(
            other.block_hash != certificate.block_hash for other in state.finalizations.values()
        ):
            self._report(state, state.book.add_certificate(certificate))
            known = (state.finalizations, state.notarizations, state.nullifications)
            state.fork = (certificate, *(one for kind in known for one in kind.values()))
            state.is_halted = True

    def _report(self, state: HeightState, pairs: list[VotePair]) -> None:
        for one, two in pairs:
            culprit = state.members.members[one.voter].id
            self._out.add(ReportEvidence(culprit, one, two))
