"""The assembly: where admins bring motions, approve each other's, and have them carried out.

Each admin's node signs an ``Approve`` and keeps the motion. Once a quorum of the current members
has approved, the nodes that keep it submit the operation, one after the other, until a block holds
it. Nobody says no: a motion that too few approve lapses at the height that its approvals name.

A motion is kept before its approval is signed; a crash between leaves a motion without approval,
which the next look drops: nobody had heard of it. Design: docs/design/ledger.md; for admins:
docs/guides/members.md.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from consensus.types import NodeId
from pyrsia_node.builds.context import Submit
from pyrsia_node.core.candidacy import ask_candidate, join_proof
from pyrsia_node.core.motions import (
    CONTENT_BYTES_MAX,
    Motion,
    MotionStore,
    OwnMotion,
    advice_of,
    motion_of,
)
from pyrsia_node.core.opened import Opened
from pyrsia_node.core.rotation import next_keys, rotated_record
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.digest import Sha256, parse_sha256
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.members import SignedMember
from pyrsia_node.model.membership import JoinProof
from pyrsia_node.model.transactions import SignedTransaction, Transaction, sign_transaction
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.schema.followable import check_followable
from pyrsia_node.store.keys import KeyUse

_LOG = logging.getLogger("pyrsia.core.assembly")

METHOD: Final = "motion"
LOOK_INTERVAL_S: Final = 2.0
"""How long at most until it looks again; every block wakes it."""

TURN_S: Final = 3.0
"""How long the first node has to carry a motion out before the next one tries as well."""

LEARNT_MAX: Final = 256
"""Motions of others that are remembered for display."""

_ASK_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Backing:
    """Who approves an operation, as of the next block.

    ``given`` are members with the last height at which their approval counts; ``needed`` is the
    quorum of the members.
    """

    op: str
    given: Mapping[NodeId, int]
    missing: tuple[NodeId, ...]
    needed: int


class Assembly:
    """Brings, approves and carries motions until cancelled.

    On a node that is no member it only learns what the members want, so that everybody can see it.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        submit: Submit,
        is_pending: Callable[[str], bool],
        beyond: Callable[[int], Awaitable[int]],
    ) -> None:
        """Work for the node that ``opened`` belongs to; the rest as in ``BuildContext``."""
        self._opened = opened
        self._submit = submit
        self._is_pending = is_pending
        self._beyond = beyond
        self._network_id = opened.chain.genesis.network_id
        self._own = MotionStore(opened.store)
        self._learnt: dict[Sha256, Motion] = {}
        self._sent: dict[Sha256, str] = {}
        self._ready_since: dict[Sha256, float] = {}
        self._asked: set[tuple[Sha256, PeerId]] = set()
        self.details: dict[Sha256, str] = {}

    def serve_on(self, requests: PeerRequests) -> None:
        """Register the method by which others learn what a subject stands for."""
        requests.serve(METHOD, self._tell, request_bytes_max=64)

    # ------------------------------------------------------------ what admins do

    async def propose(
        self, op: str, content: Mapping[str, object], *, heights: int
    ) -> tuple[Sha256, Motion, str]:
        """Bring a motion and approve it, or approve an equal one.

        Returns:
            Its subject, the motion, and the id of this node's approval.

        Raises:
            InvalidInputError: It is malformed, breaks a rule that no approval changes, or the
                ledger refuses the approval.
            UnavailableError: This node is no member, or the candidate does not answer.
        """
        self._require_seat()
        if op == "add_node" and "record" not in content:
            content = {"record": (await self._candidate(content)).to_json()}
        if op == "rotate_key":
            content = {"record": rotated_record(self._opened).to_json()}
        motion = motion_of(op, content)
        operation = motion.operation(motion.author(self._opened.me))
        if isinstance(operation, AddSource):
            check_followable(operation.mapping)
        subject = operation.subject(self._network_id)
        self._check_open(motion, self._opened.me)
        return subject, motion, await self._approve(subject, motion, heights)

    async def support(self, subject: Sha256, *, heights: int) -> tuple[Sha256, Motion, str]:
        """Approve a motion that another admin brought; returns and raises as ``propose``.

        Raises:
            InvalidInputError: Nothing is left to approve, or the ledger refuses the approval.
            NotFoundError: No node that can be reached knows what the subject stands for.
        """
        self._require_seat()
        self._asked = {each for each in self._asked if each[0] != subject}
        await self._learn_others(self.motions())
        motion = self.known(subject)
        if motion is None:
            raise NotFoundError(
                f"no node that answers knows the motion {subject}; ask whoever brought it"
            )
        self._check_open(motion, self._opened.me)
        return subject, motion, await self._approve(subject, motion, heights)

    async def advise(self, op: str, content: Mapping[str, object]) -> str:
        """Put one member's statement into the log; return the transaction's id.

        Raises:
            InvalidInputError: It is malformed, or the ledger refuses it.
            UnavailableError: This node is no member.
        """
        signed = self._sign(advice_of(op, content, self._opened.me, secrets.token_hex(16)))
        await self._submit(signed.encoded)
        return signed.id

    def known(self, subject: Sha256) -> Motion | None:
        """Return what a subject stands for, if this node knows."""
        own = self._own.get(subject)
        return own.motion if own is not None else self._learnt.get(subject)

    def is_own(self, subject: Sha256) -> bool:
        """Tell whether this node's admin approved a motion that is still under way."""
        return self._own.get(subject) is not None

    def motions(self) -> dict[Sha256, Backing]:
        """Return who backs what in the next block, by subject, in the order of the subjects."""
        voters = self._opened.chain.tip.set_leaf
        found: dict[Sha256, dict[NodeId, int]] = {}
        operations: dict[Sha256, str] = {}
        for each in self._opened.chain.approvals():
            if voters.record_of(each.by) is not None:
                found.setdefault(each.subject, {})[each.by] = each.expiry
                operations[each.subject] = each.op
        return {
            subject: Backing(
                op=operations[subject],
                given=dict(sorted(given.items())),
                missing=tuple(each.id for each in voters.members if each.id not in given),
                needed=voters.quorum,
            )
            for subject, given in sorted(found.items())
        }

    def obstacle(self, subject: Sha256, backing: Backing) -> str:
        """Return why a motion is not carried out, however many approve; empty if nothing is known.

        What was brought rightly may have become impossible by another operation since.
        """
        motion = self.known(subject)
        if subject in self.details or motion is None:
            return self.details.get(subject, "")
        try:
            self._check_open(motion, next(iter(backing.given)))
        except InvalidInputError as error:
            return str(error)
        return ""

    def _check_open(self, motion: Motion, by: NodeId) -> None:
        """Refuse a motion that no approval can carry, by the rule that it breaks."""
        self._opened.chain.check_motion(motion.operation(motion.author(by)))

    def _require_seat(self) -> None:
        if not self._opened.is_member:
            raise UnavailableError("only authorized nodes approve anything: ask at one of them")

    async def _approve(self, subject: Sha256, motion: Motion, heights: int) -> str:
        since = self._opened.chain.tip.height
        signed = self._sign(
            Approve(self._opened.me, motion.op, subject, since=since, expiry=since + heights)
        )
        before = self._own.get(subject)
        self._own.keep(subject, OwnMotion(motion, signed.id))
        try:
            await self._submit(signed.encoded)
        except PyrsiaError:
            if before is None:
                self._own.drop(subject)
            else:
                self._own.keep(subject, before)
            raise
        return signed.id

    async def _candidate(self, content: Mapping[str, object]) -> SignedMember:
        peer = content.get("peer")
        if set(content) != {"peer"} or not isinstance(peer, str):
            raise InvalidInputError("add_node: give the candidate's peer id, or its record")
        if PeerId(peer) in self._opened.member_peers():
            raise InvalidInputError(f"add_node: {peer} is an authorized node already")
        found, _ = await ask_candidate(
            self._opened.network, PeerId(peer), network_id=self._network_id
        )
        return found

    def _sign(self, body: Transaction) -> SignedTransaction:
        return sign_transaction(
            body, network_id=self._network_id, sign=self._opened.keys.signer(KeyUse.TX)
        )

    # ------------------------------------------------------------ carrying out

    async def run(self) -> None:
        """Carry motions out as soon as they may be, for ever."""
        height = -1
        while True:
            await self._look()
            with trio.move_on_after(LOOK_INTERVAL_S):
                height = await self._beyond(height)

    async def _look(self) -> None:
        motions = self.motions()
        if self._opened.is_member:
            # What asks a candidate may wait for it; a revocation must not wait behind that.
            own_motions = self._own.all().items()
            for subject, own in sorted(own_motions, key=lambda each: _asks(each[1].motion)):
                await self._carry(subject, own, motions.get(subject))
        await self._learn_others(motions)

    async def _carry(self, subject: Sha256, own: OwnMotion, backing: Backing | None) -> None:
        if backing is None or self._opened.me not in backing.given:
            if not self._is_pending(own.approval):
                _LOG.info("motion %s is settled or has lapsed", own.motion.title({}))
                self._forget(subject)
            return
        if len(backing.given) < backing.needed:
            self._ready_since.pop(subject, None)
            return
        since = self._ready_since.setdefault(subject, trio.current_time())
        waited_s = trio.current_time() - since
        is_sent = self._is_pending(self._sent.get(subject, ""))
        if is_sent or not self._is_my_turn(own.motion, backing, waited_s):
            return
        try:
            self._sent[subject] = await self._submit_operation(own.motion)
            self.details.pop(subject, None)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            # A rule that stands in the way now may not later: the admin sees it in `pyrsia nodes`.
            self.details[subject] = str(error)
            _LOG.info("motion %s waits: %s", own.motion.title({}), error)

    def _is_my_turn(self, motion: Motion, backing: Backing, waited_s: float) -> bool:
        me = self._opened.me
        if motion.op == "rotate_key":
            return motion.author(me) == me
        rank = list(backing.given).index(me)
        return waited_s >= rank * TURN_S

    async def _submit_operation(self, motion: Motion) -> str:
        me, nonce = self._opened.me, secrets.token_hex(16)
        proof = await self._proof(motion)
        if proof is None:
            signed = self._sign(motion.operation(me, nonce=nonce))
        else:
            signed = self._sign(motion.operation(me, proof=proof))
        await self._submit(signed.encoded)
        return signed.id

    async def _proof(self, motion: Motion) -> JoinProof | None:
        if motion.op == "add_node":
            peer = PeerId(motion.member().record.id)
            found, proof = await ask_candidate(
                self._opened.network, peer, network_id=self._network_id
            )
            if found.record != motion.member().record:
                raise InvalidInputError(
                    f"{peer} now shows another record than the one approved: authorize it again"
                )
            return proof
        if motion.op == "rotate_key":
            keys = next_keys(self._opened.layout)
            if keys is None:
                raise InvalidInputError(
                    "the new keys are gone: `pyrsia-node rotate-key` makes them"
                )
            return join_proof(self._opened, motion.member(), keys)
        return None

    def _forget(self, subject: Sha256) -> None:
        self._own.drop(subject)
        self._sent.pop(subject, None)
        self._ready_since.pop(subject, None)
        self.details.pop(subject, None)

    # ------------------------------------------------------------ learning

    async def _learn_others(self, motions: Mapping[Sha256, Backing]) -> None:
        """Ask what the subjects stand for that others approved; each approver at most once."""
        self._learnt = {each: kept for each, kept in self._learnt.items() if each in motions}
        self._asked = {each for each in self._asked if each[0] in motions}
        connected = set(self._opened.network.connected())
        for subject, backing in motions.items():
            for member in backing.given:
                if len(self._learnt) >= LEARNT_MAX or self.known(subject) is not None:
                    break
                peer = self._opened.peer_of(member)
                if peer in connected and (subject, peer) not in self._asked:
                    self._asked.add((subject, peer))
                    await self._ask_about(peer, backing.op, subject)

    async def _ask_about(self, peer: PeerId, op: str, subject: Sha256) -> None:
        try:
            data = await self._opened.network.ask(
                peer,
                METHOD,
                subject.encode(),
                timeout_s=_ASK_TIMEOUT_S,
                answer_bytes_max=CONTENT_BYTES_MAX,
            )
            motion = Motion.decode(data)
            if (motion.op, motion.subject(self._opened.me, self._network_id)) != (op, subject):
                raise PeerMisbehaviorError(peer, f"sent another motion than {subject}")
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.debug("motion %s from %s: %s", subject, peer, error)
        else:
            self._learnt[subject] = motion

    async def _tell(self, _peer: PeerId, payload: bytes) -> bytes:
        subject = parse_sha256(payload.decode("ascii", "replace"))
        motion = self.known(subject)
        if motion is None:
            raise NotFoundError(f"motion {subject} is not known here")
        return motion.encode()


def _asks(motion: Motion) -> bool:
    """Tell whether carrying a motion out asks another node."""
    return motion.op == "add_node"
