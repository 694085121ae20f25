"""Planted bugs: each breaks one rule of the real core while a run lasts.

A planted bug goes through every line of defence against its kind: where the signer would refuse
what the broken rule asks for, the signer is weakened too, because what is tested is whether the
oracle sees the consequence in the bytes that leave a node. ``tests/simulation`` and ``--mutants``
fail if one survives its budget.
"""

# Planting a bug means reaching into the core.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, cast

from consensus import amnesia, bodies, evidence, ingress, quorum, rules, signer, state, wal, wire
from consensus.amnesia import Restart
from consensus.effects import RecordKind
from consensus.events import BodyChecked, Event, TimerFired, TimerKind, TimeVerdict
from consensus.help import Help
from consensus.ingress import VIEW_WINDOW, Ingress
from consensus.outbox import Outbox
from consensus.replica import Replica
from consensus.rules import Judgement
from consensus.signer import Signer
from consensus.sim import memory
from consensus.sim.planting import Mutant, Patch, patched
from consensus.sim.set_mutants import SET_MUTANTS
from consensus.state import HeightState, KeptBody, KeptProposal
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Digest,
    Height,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import MessageKind, body_id

# -- the signer's own judgement, switched off ---------------------------------------------------


def _anything_goes(kind: VoteKind, block_hash: Digest, cast_before: dict[VoteKind, Vote]) -> str:
    del kind, block_hash, cast_before
    return ""


_WEAK_SIGNER: Final = Patch(signer, "_why_not", _anything_goes)


# -- voting -------------------------------------------------------------------------------------


def _on_any_timer(self: Replica, event: TimerFired) -> None:
    at = self._state
    if event.kind is TimerKind.VIEW and event.height == at.height:
        if at.my_index is not None and not at.has_cast(VoteKind.NULLIFY, event.view):
            self._cast(VoteKind.NULLIFY, event.view, ZERO_DIGEST)
        return
    _on_timer(self, event)


_on_timer = Replica._on_timer


def _finalize_whatever(at: HeightState) -> Certificate | None:
    for view in sorted(at.notarizations):
        certificate = at.notarizations[view]
        notarized = at.mine.get((VoteKind.NOTARIZE, view))
        if (
            certificate.block_hash in at.valid
            and at.may_ask_for(VoteKind.FINALIZE, view)
            and (notarized is None or notarized.block_hash == certificate.block_hash)
        ):
            return certificate
    return None


def _finalize_another(at: HeightState) -> Certificate | None:
    for view in sorted(at.notarizations):
        certificate = at.notarizations[view]
        if (
            certificate.block_hash in at.valid
            and at.may_ask_for(VoteKind.FINALIZE, view)
            and not at.has_cast(VoteKind.NULLIFY, view)
        ):
            return certificate
    return None


def _nullify_late(self: Replica) -> bool:
    at = self._state
    for number in range(at.view):
        view = View(number)
        if at.may_ask_for(VoteKind.NULLIFY, view) and len(at.nullifiers(view)) > at.faults:
            self._cast(VoteKind.NULLIFY, view, ZERO_DIGEST)
            return True
    return _nullify(self)


_nullify = Replica._nullify


def _always_justified(at: HeightState, kept: KeptProposal) -> bool:
    del at, kept
    return True


def _take_the_newest(
    self: Replica, leader: NodeId, first: KeptProposal, second: Proposal, name: Digest
) -> None:
    del leader
    at = self._state
    if name != first.block_hash and second.view == at.view:
        at.mine.pop((VoteKind.NOTARIZE, second.view), None)
        at.proposals[second.view] = KeptProposal(second, name, body_id(second.block))


def _advance_alone(at: HeightState) -> View | None:
    return View(at.view + 1) if at.is_timed_out else _advance(at)


_advance = rules.advance


def _commit_early(at: HeightState) -> tuple[Certificate, KeptBody] | None:
    for view in sorted(at.notarizations):
        certificate = at.notarizations[view]
        if certificate.block_hash in at.valid:
            return certificate, at.valid[certificate.block_hash]
    return _commit(at)


_commit = rules.commit


def _one_too_few(n: int) -> int:
    return max(1, _quorum(n) - 1)


_quorum = quorum.quorum


# -- memory -------------------------------------------------------------------------------------


def _everybody_knows_of_none(self: Restart, member: NodeId, tip: Height, vote: Vote | None) -> None:
    del vote
    _recalled(self, member, tip, None)


_recalled = Restart.recalled


def _notice_none(*_: object, **__: object) -> None:
    return None


_NO_RECALL: Final = (
    Patch(Restart, "recalled", _everybody_knows_of_none),
    Patch(memory, "foreign_vote", _notice_none),
)
"""The others no longer remind a node of the votes that it has forgotten."""


def _whole_or_not(n: int, *, is_whole: bool) -> int:
    del is_whole
    return _answers_needed(n, is_whole=True)


_answers_needed = amnesia.answers_needed


def _answered_at_any_tip(self: Restart) -> set[NodeId]:
    return set(self._decided if self.forgot else self._recalled)


def _newest_final(certificates: tuple[Certificate, ...], voter: int) -> Vote | None:
    return _newest_in((one for one in certificates if one.kind is VoteKind.FINALIZE), voter)


_newest_in = amnesia.newest_in


def _without(*kinds: RecordKind) -> Callable[[Outbox, RecordKind, bytes], None]:
    def persist(self: Outbox, kind: RecordKind, payload: bytes) -> None:
        if kind not in kinds:
            _persist(self, kind, payload)

    return persist


_persist = Outbox.persist


def _write_last(self: Outbox) -> None:
    records, self._records = self._records, []
    self._closed += self._effects
    self._effects = []
    self._records = records
    _close(self)


_close = Outbox._close


def _forget_vote(self: Signer, vote: Vote) -> None:
    del self, vote


def _resume_at_their_tip(self: Restart) -> Height | None:
    first = _first_height(self)
    return Height(first - 2) if first is not None and self.forgot else first


def _resume_at_once(self: Restart) -> Height | None:
    return Height(0) if self.forgot else _first_height(self)


_first_height = cast("Callable[[Restart], Height | None]", Restart.__dict__["first_height"].fget)


def _every_tear_is_amnesia(content: bytes, offset: int, number: int) -> wal.ScanState:
    del number
    return wal.ScanState.AMNESIA if content[offset:].strip(b"\0") else wal.ScanState.CLEAN


# -- what is believed ---------------------------------------------------------------------------


def _admit_near(self: Ingress, sender: NodeId, frame: bytes) -> list[Event]:
    kind, height, view = wire.peek(frame)
    if (
        kind is MessageKind.CERTIFICATE
        and height == self._height
        and view > self._view + VIEW_WINDOW
    ):
        return []
    return _admit(self, sender, frame)


_admit = Ingress._admit


def _believe_certificate(*_: object) -> bool:
    return True


def _believe_vote(self: Ingress, vote: Vote, members: object) -> None:
    del self, vote, members


def _poison(at: HeightState, event: BodyChecked) -> None:
    body = at.bodies.get(event.body_id)
    _checked(at, event)
    if body is not None and not event.valid:
        at.bodies[body.block_hash] = body


def _check_unpoisoned(
    at: HeightState, out: Outbox, block: bytes, identity: Digest, name: Digest
) -> None:
    if name not in at.bodies:
        _check(at, out, block, identity, name)


_checked = bodies.checked
_check = bodies.check


def _accuse_the_careful(one: Vote, two: Vote) -> bool:
    kinds = {one.kind, two.kind}
    return _contradicts(one, two) or kinds == {VoteKind.NOTARIZE, VoteKind.NULLIFY}


_contradicts = evidence.contradicts


# -- progress -----------------------------------------------------------------------------------


def _time_always_counts(at: HeightState) -> Judgement:
    kept = at.proposals.get(at.view)
    body = None if kept is None else at.valid.get(kept.block_hash)
    if body is not None and body.verdict is not None and body.verdict.time is not TimeVerdict.OK:
        return Judgement.WAIT
    return _judge(at)


_judge = rules.judge


def _always_fresh(
    at: HeightState,
) -> rules.Fresh | rules.Again | rules.NotYet | None:
    wanted = _propose(at)
    if isinstance(wanted, rules.Again):
        newest = sorted(at.nullifications)[-wire.NULLIFICATIONS_MAX :]  # more would fit no frame
        return rules.Fresh(tuple(at.nullifications[view] for view in newest))
    return wanted


_propose = rules.propose


def _repeat_nothing(self: Help, at: HeightState) -> None:
    del self, at


MUTANTS: Final[dict[str, Mutant]] = {
    "stale-timer-nullify": Mutant(
        "A timer of a view long left still nullifies it, finalized or not.",
        (Patch(Replica, "_on_timer", _on_any_timer), _WEAK_SIGNER),
    ),
    "finalize-after-nullify": Mutant(
        "R2 without its first condition.",
        (Patch(rules, "finalize", _finalize_whatever), _WEAK_SIGNER),
    ),
    "finalize-another": Mutant(
        "R2 without its last condition: notarize one block, finalize another.",
        (Patch(rules, "finalize", _finalize_another), _WEAK_SIGNER),
    ),
    "nullify-after-finalize": Mutant(
        "R6 in views already left, without looking for the own finalization.",
        (Patch(Replica, "_nullify", _nullify_late), _WEAK_SIGNER),
    ),
    "no-skip-check": Mutant(
        "R5 takes proposals whose earlier views were never nullified.",
        (Patch(rules, "is_justified", _always_justified),),
    ),
    "double-notarize": Mutant(
        "R5 for every proposal of a leader, not for the first alone.",
        (Patch(Replica, "_compare", _take_the_newest), _WEAK_SIGNER),
    ),
    "quorum-minus-one": Mutant(
        "Certificates of n - f - 1 votes.",
        tuple(Patch(owner, "quorum", _one_too_few) for owner in (quorum, state, wire, ingress)),
    ),
    "advance-alone": Mutant(
        "R3 on an own time-out, without any certificate.",
        (Patch(rules, "advance", _advance_alone),),
    ),
    "commit-on-notarization": Mutant(
        "R1 one step too early.", (Patch(rules, "commit", _commit_early),)
    ),
    "certificate-not-in-wal": Mutant(
        "Certificates are kept in memory only.",
        (Patch(Outbox, "persist", _without(RecordKind.CERTIFICATE)),),
    ),
    "body-not-durable": Mutant(
        "NOTARIZE leaves before the body is written.",
        (Patch(Outbox, "persist", _without(RecordKind.BODY)),),
    ),
    "proposal-not-in-wal": Mutant(
        "Own proposals are kept in memory only.",
        (Patch(Outbox, "persist", _without(RecordKind.PROPOSAL)),),
    ),
    "vote-not-in-wal": Mutant(
        "Votes are kept in memory only.",
        (Patch(Outbox, "persist", _without(RecordKind.VOTE)), *_NO_RECALL),
    ),
    "no-wal": Mutant(
        "Nothing is ever written.",
        (Patch(Outbox, "persist", _without(*RecordKind)), *_NO_RECALL),
    ),
    "write-after-send": Mutant(
        "Everything is written, but after it was sent.",
        (Patch(Outbox, "_close", _write_last), *_NO_RECALL),
    ),
    "amnesia-of-votes": Mutant(
        "Recovery does not read back what was voted.",
        (Patch(Signer, "restore_vote", _forget_vote), *_NO_RECALL),
    ),
    "amnesia-by-committed-tip": Mutant(
        "Who forgot votes again where the others work, not beyond where it may have voted.",
        (Patch(Restart, "first_height", property(_resume_at_their_tip)),),
    ),
    "amnesia-shrugged-off": Mutant(
        "Who forgot votes at once.",
        (Patch(Restart, "first_height", property(_resume_at_once)),),
    ),
    "recollections-one-too-few": Mutant(
        "A log that nobody vouches for is believed after q - 1 answers.",
        (Patch(amnesia, "answers_needed", _whole_or_not),),
    ),
    "recollections-outrun": Mutant(
        "Answers count of members that are ahead, who look through final certificates alone.",
        (
            Patch(Restart, "_answered", _answered_at_any_tip),
            Patch(memory, "newest_in", _newest_final),
        ),
    ),
    "every-tear-is-amnesia": Mutant(
        "A torn last batch counts as lost memory.",
        (Patch(wal, "_judge_tail", _every_tear_is_amnesia),),
    ),
    "certificates-under-window": Mutant(
        "Certificates of far views are dropped like votes of far views.",
        (Patch(Ingress, "_admit", _admit_near),),
    ),
    "certificates-unchecked": Mutant(
        "The signatures in certificates are believed.",
        (Patch(ingress, "verify_certificate", _believe_certificate),),
    ),
    "votes-unchecked": Mutant(
        "The signatures of votes are believed.", (Patch(Ingress, "_check_vote", _believe_vote),)
    ),
    "bad-body-poisons-hash": Mutant(
        "A wrong body under a true header ends the search for the right one.",
        (Patch(bodies, "checked", _poison), Patch(bodies, "check", _check_unpoisoned)),
    ),
    "careful-node-accused": Mutant(
        "Evidence takes NULLIFY after NOTARIZE for a contradiction.",
        (Patch(evidence, "contradicts", _accuse_the_careful),),
    ),
    "time-rule-on-reproposals": Mutant(
        "A notarized block grows too old to be proposed again.",
        (Patch(rules, "judge", _time_always_counts),),
    ),
    "no-reproposal": Mutant(
        "R4 proposes a new block where a notarized one must be repeated.",
        (Patch(rules, "propose", _always_fresh),),
    ),
    "no-retry": Mutant("R8 repeats nothing.", (Patch(Help, "repeat", _repeat_nothing),)),
    **SET_MUTANTS,
}
"""Every planted bug by name."""


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run the core with the bug ``name`` in it, for the length of a ``with`` block."""
    with patched(MUTANTS[name].patches):
        yield
