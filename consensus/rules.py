"""Every rule of the protocol: when to vote, advance, propose, commit, resend and help.

Two rules about this file: all that decides is here, and nothing here changes anything. Each
function reads a ``HeightState`` and says what R1 to R9 ask for now; ``replica`` does it and asks
again until no rule has anything left. The rules are those of docs/design/consensus.md 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from consensus.events import TimeVerdict
from consensus.state import HeightState, KeptBody, KeptProposal
from consensus.types import Certificate, Digest, NodeId, Status, View, Vote, VoteKind
from consensus.wire import NULLIFICATIONS_MAX, STATUS_ITEMS_MAX, certificate_bytes_max

RELAY_TO_ALL_MAX: Final = 16
"""Largest set in which every member sends every new certificate to all."""

RETRY_BYTES_MAX: Final = 64 * 1024
"""Most bytes of certificates for one peer in one retry period (R8)."""

VOTES_RESENT_MAX: Final = 128
"""Most own votes that one retry repeats, newest views first: 14 kB."""

NULLIFICATION_BYTES_MAX: Final = 512 * 1024
"""Most bytes of nullifications in a proposal, so that it fits a frame beside a full block."""


def commit(state: HeightState) -> tuple[Certificate, KeptBody] | None:  # R1
    """Return a finalized block whose body is here and valid."""
    for view in sorted(state.finalizations):
        certificate = state.finalizations[view]
        body = state.valid.get(certificate.block_hash)
        if body is not None:
            return certificate, body
    return None


def transcript(state: HeightState, decided: Certificate) -> tuple[Certificate, ...]:  # R1
    """Return every notarization and nullification of the height, by view and kind.

    Nothing where all that happened is the notarization of the decided block in view 0. A block
    decided there beside anything else keeps its transcript: should another block be final in a
    later view, the nullification that allowed it may be in this node's hands alone.
    """
    found = [*state.notarizations.values(), *state.nullifications.values()]
    if decided.view == 0 and all(
        (one.view, one.block_hash) == (decided.view, decided.block_hash) for one in found
    ):
        return ()
    return tuple(sorted(found, key=lambda certificate: (certificate.view, certificate.kind)))


def finalize(state: HeightState) -> Certificate | None:  # R2
    """Return a notarization, of whatever view, whose block this node may finalize there.

    Not after a nullification of that view (else a final block could be skipped), and not after a
    notarization of another block.
    """
    for view in sorted(state.notarizations):
        certificate = state.notarizations[view]
        notarized = state.mine.get((VoteKind.NOTARIZE, view))
        if (
            certificate.block_hash in state.valid
            and state.may_ask_for(VoteKind.FINALIZE, view)
            and not state.has_cast(VoteKind.NULLIFY, view)
            and (notarized is None or notarized.block_hash == certificate.block_hash)
        ):
            return certificate
    return None


def advance(state: HeightState) -> View | None:  # R3
    """Return the view after the newest one that is notarized or nullified, if that is news."""
    newest = max((*state.notarizations, *state.nullifications), default=None)
    if newest is None or newest < state.view:
        return None
    return View(newest + 1)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Propose a new block: every earlier view was skipped."""

    nullifications: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """Propose the block that an earlier view notarized: it may be final somewhere."""

    notarization: Certificate
    body: KeptBody
    nullifications: tuple[Certificate, ...]


class NotYet(Enum):
    """Why a leader proposes nothing for now."""

    ASK = "certificates are missing: ask the peers"
    HOLD = "the block of the view before is about to be final"


def propose(state: HeightState) -> Fresh | Again | NotYet | None:  # R4
    """Return what the leader of the current view should propose, if that is this node.

    A block notarized one view ago is not proposed again at once: its finalizations are on their
    way, and without the wait every block would cross the network twice.
    """
    view = state.view
    if (
        not state.can_sign
        or state.leader(view) != state.me
        or view in state.own_proposals
        or state.has_cast(VoteKind.NULLIFY, view)
    ):
        return None
    origin = _notarized_before(state, view)
    if origin is not None:
        body = state.valid.get(origin.block_hash)
        if body is not None and origin.view == view - 1 and not state.has_held:
            return NotYet.HOLD
        if body is not None:
            skipped = _nullifications(state, View(origin.view + 1), view)
            return Again(origin, body, skipped)
    # Also when the notarized body is missing everywhere: its view was skipped, so it is not final.
    if state.has_skipped(View(0), view):
        return Fresh(_nullifications(state, View(0), view))
    return NotYet.ASK


def _notarized_before(state: HeightState, view: View) -> Certificate | None:
    """Return the newest notarization before ``view`` with nothing but skipped views between."""
    for earlier in range(view - 1, -1, -1):
        certificate = state.notarizations.get(View(earlier))
        if certificate is not None:
            return certificate
        if View(earlier) not in state.nullifications:
            return None
    return None


def _nullifications(state: HeightState, first: View, end: View) -> tuple[Certificate, ...]:
    """Return the newest nullifications of [first, end) that fit a proposal, ascending.

    Voters that lack older ones keep the proposal and get them by Status (R8).
    """
    room = NULLIFICATION_BYTES_MAX // certificate_bytes_max(state.n)
    count = min(NULLIFICATIONS_MAX, room, end - first)
    return tuple(state.nullifications[View(view)] for view in range(end - count, end))


class Judgement(Enum):
    """What the first proposal of the current view's leader deserves now."""

    WAIT = "wait"
    CHECK = "check"
    ACCEPT = "accept"
    REFUSE = "refuse"


def judge(state: HeightState) -> Judgement:
    """Judge the proposal of the current view: R5's "acceptable", R6(b)'s "fails"."""
    kept = state.proposals.get(state.view)
    if kept is None or not is_justified(state, kept):
        return Judgement.WAIT
    body = state.valid.get(kept.block_hash)
    if body is None:
        if kept.is_refused:
            return Judgement.REFUSE
        is_asked = kept.body_id in state.bodies
        return Judgement.WAIT if is_asked else Judgement.CHECK
    if kept.proposal.notarization is not None:
        # The time rule is for fresh blocks alone: a notarized one must stay proposable for ever.
        return Judgement.ACCEPT
    verdict = body.verdict
    assert verdict is not None, "a valid body has a verdict"
    if (verdict.origin_view, verdict.origin_proposer) != (state.view, state.leader(state.view)):
        return Judgement.REFUSE
    # A block ahead of our clock is tested again; one behind it is never voted for. Neither is a
    # reason to skip the leader: the clock that is wrong may be ours.
    return Judgement.ACCEPT if verdict.time is TimeVerdict.OK else Judgement.WAIT


def is_justified(state: HeightState, kept: KeptProposal) -> bool:
    """Say whether certificates allow this block in this view.

    The nullifications may come with the proposal or from anywhere: they were stored on arrival.
    """
    origin = kept.proposal.notarization
    first = View(0) if origin is None else View(origin.view + 1)
    return state.has_skipped(first, kept.proposal.view)


def notarize(state: HeightState) -> KeptBody | None:  # R5
    """Return the block of the current view that this node should notarize."""
    view = state.view
    if (
        not state.may_ask_for(VoteKind.NOTARIZE, view)
        or state.has_cast(VoteKind.NULLIFY, view)
        or state.has_cast(VoteKind.FINALIZE, view)
        or judge(state) is not Judgement.ACCEPT
    ):
        return None
    return state.valid[state.proposals[view].block_hash]


def nullify(state: HeightState) -> bool:  # R6
    """Say whether this node should skip the current view. Never after it finalized there."""
    view = state.view
    if not state.may_ask_for(VoteKind.NULLIFY, view) or state.has_cast(VoteKind.FINALIZE, view):
        return False
    if state.is_timed_out or judge(state) is Judgement.REFUSE:  # (a), (b)
        return True
    nullifiers = state.nullifiers(view)
    return state.leader(view) in nullifiers or len(nullifiers) > state.faults  # (c), (d)


def relay(state: HeightState, certificate: Certificate) -> list[NodeId]:  # R7
    """Return whom to send a certificate that is new here: once, and to all in small sets.

    In larger sets the next two leaders and two collectors get it; a collector tells all.
    """
    others = [member.id for member in state.members.members if member.id != state.me]
    if state.my_index is None:
        # A node outside the set speaks for nobody, and has nothing durable to speak of.
        return []
    n, turn = state.n, state.height + certificate.view
    collectors = {state.members.members[(turn + n // 3 * part) % n].id for part in (1, 2)}
    if n <= RELAY_TO_ALL_MAX or state.me in collectors:
        return others
    leaders = {state.leader(View(certificate.view + ahead)) for ahead in (1, 2)}
    return [node for node in others if node in leaders | collectors]


def status(state: HeightState) -> Status:  # R8
    """Return what this node lacks at its height."""
    ranges: list[tuple[View, View]] = []
    for number in range(state.view):
        view = View(number)
        if view in state.notarizations or view in state.nullifications:
            continue
        if ranges and ranges[-1][1] == view - 1:
            ranges[-1] = (ranges[-1][0], view)
        elif len(ranges) < STATUS_ITEMS_MAX:
            ranges.append((view, view))
        else:
            break
    bodies = sorted(state.missing_bodies()[:STATUS_ITEMS_MAX])
    return Status(state.height, state.view, tuple(ranges), tuple(bodies))


def certificates_lacking(state: HeightState, status: Status) -> list[Certificate]:  # R8
    """Return certificates that a peer lacks, final ones first, then the oldest, within the cap.

    A peer that lacks many gets a whole run of oldest ones; newer ones first would leave holes, and
    with a hole nobody can justify a proposal.
    """
    found = [state.finalizations[view] for view in sorted(state.finalizations)]
    for view in sorted({*state.notarizations, *state.nullifications}):
        if view >= status.view or any(one <= view <= two for one, two in status.missing_views):
            known = (state.notarizations.get(view), state.nullifications.get(view))
            found += [certificate for certificate in known if certificate is not None]
    return found[: max(1, RETRY_BYTES_MAX // certificate_bytes_max(state.n))]


def votes_to_repeat(state: HeightState) -> list[Vote]:  # R8
    """Return own votes of the height, newest views first, within the cap."""
    keys = sorted(state.mine, key=lambda key: (-key[1], key[0]))
    return [state.mine[key] for key in keys[:VOTES_RESENT_MAX]]


def repeat_proposal_to(state: HeightState, block_hash: Digest) -> list[NodeId]:  # R8
    """Return the members that have not shown that they have this leader's block."""
    return [
        member.id
        for index, member in enumerate(state.members.members)
        if member.id != state.me
        and not state.book.has(index, state.view, VoteKind.NOTARIZE, block_hash)
    ]


def is_behind(state: HeightState, status: Status) -> bool:  # R9
    """Say whether a peer works at a height that is decided here."""
    return status.height < state.height
