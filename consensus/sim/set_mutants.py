"""Planted bugs in what the core does when the member set changes. See ``mutants``."""

# Planting a bug means reaching into the core.
# ruff: noqa: SLF001

from __future__ import annotations

from dataclasses import replace
from typing import Final
from weakref import WeakKeyDictionary

from consensus import ingress, rules
from consensus.errors import DecodeError
from consensus.events import Event
from consensus.ingress import Ingress
from consensus.outbox import Outbox
from consensus.replica import Replica
from consensus.signer import Signer
from consensus.sim.planting import Mutant, Patch
from consensus.state import HeightState
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Height,
    MemberSet,
    Message,
    NodeId,
    Vote,
)

_enter_signer = Signer.enter
_enter_ingress = Ingress.enter
_enter_replica = Replica._enter
_admit = Ingress._admit
_check_vote = Ingress._check_vote
_check_certificate = Ingress._check_certificate


def _sign_for_the_old_set(self: Signer, height: Height, members: MemberSet) -> None:
    old = self._set_hash
    _enter_signer(self, height, members)
    if old != ZERO_DIGEST:
        self._set_hash = old


def _sign_with_whatever_key(self: Signer, height: Height, members: MemberSet) -> None:
    _enter_signer(self, height, members)
    self._is_named = members.index_of(self.me) is not None


# -- the past is believed -----------------------------------------------------------------------

_PAST: WeakKeyDictionary[Ingress, list[MemberSet]] = WeakKeyDictionary()
"""Every set that a gate has worked under; lives as long as the gate."""


def _enter_and_remember(self: Ingress, height: Height, members: MemberSet) -> list[Event]:
    past = _PAST.setdefault(self, [])
    if members not in past:
        past.append(members)
    return _enter_ingress(self, height, members)


def _believe_old_certificates(self: Ingress, certificate: Certificate, members: MemberSet) -> None:
    for old in _PAST.get(self, []):
        if ingress.verify_certificate(certificate, old, self._chain_id, self._holds):
            return
    _check_certificate(self, certificate, members)


def _believe_old_votes(self: Ingress, vote: Vote, members: MemberSet) -> None:
    for old in _PAST.get(self, []):
        try:
            if vote.voter < len(old.members):
                _check_vote(self, vote, old)
                return
        except DecodeError:
            continue
    _check_vote(self, vote, members)


def _admit_removed(self: Ingress, sender: NodeId, frame: bytes) -> list[Event]:
    """Admit a removed member's frames in the name of whoever has its index now."""
    members = self._members
    assert members is not None
    for old in _PAST.get(self, []):
        index = old.index_of(sender)
        if members.index_of(sender) is None and index is not None and index < len(members.members):
            return _admit(self, members.members[index].id, frame)
    return _admit(self, sender, frame)


# -- the change is half made --------------------------------------------------------------------


def _keep_the_old_quorum(
    self: Replica, certificate: Certificate, next_set: MemberSet, signers: tuple[NodeId, ...]
) -> None:
    quorum = self._state.quorum
    _enter_replica(self, certificate, next_set, signers)
    self._state.quorum = quorum


def _read_the_parent_by_the_new_set(
    self: Replica, certificate: Certificate, next_set: MemberSet, signers: tuple[NodeId, ...]
) -> None:
    _enter_replica(self, certificate, next_set, signers)
    self._below = replace(self._below, members=next_set)


def _go_on_with_the_old_set(
    self: Replica, certificate: Certificate, next_set: MemberSet, signers: tuple[NodeId, ...]
) -> None:
    del next_set
    _enter_replica(self, certificate, self._state.members, signers)


# -- those outside speak ------------------------------------------------------------------------


def _broadcast_for_anybody(self: Outbox, at: HeightState, message: Message) -> None:
    inside, at.my_index = at.my_index, 0
    _broadcast(self, at, message)
    at.my_index = inside


_broadcast = Outbox.broadcast


def _relay_for_anybody(at: HeightState, certificate: Certificate) -> list[NodeId]:
    inside = at.my_index
    at.my_index = 0 if inside is None else inside
    targets = _relay(at, certificate)
    at.my_index = inside
    return targets


_relay = rules.relay


SET_MUTANTS: Final[dict[str, Mutant]] = {
    "late-set-change": Mutant(
        "A new member set counts one height too late for what a node signs.",
        (Patch(Signer, "enter", _sign_for_the_old_set),),
    ),
    "stale-key-signs": Mutant(
        "The signer does not look whether the set names its key: it signs on with a replaced one.",
        (Patch(Signer, "enter", _sign_with_whatever_key),),
    ),
    "set-change-lost": Mutant(
        "The core goes on with the set that a block has changed.",
        (Patch(Replica, "_enter", _go_on_with_the_old_set),),
    ),
    "old-quorum": Mutant(
        "After a change, certificates are made with the quorum of the set before.",
        (Patch(Replica, "_enter", _keep_the_old_quorum),),
    ),
    "old-epoch-certificates": Mutant(
        "Certificates that hold under any earlier set are believed.",
        (
            Patch(Ingress, "enter", _enter_and_remember),
            Patch(Ingress, "_check_certificate", _believe_old_certificates),
        ),
    ),
    "removed-votes-counted": Mutant(
        "Votes of removed members, and by replaced keys, count for whoever has their index.",
        (
            Patch(Ingress, "enter", _enter_and_remember),
            Patch(Ingress, "_admit", _admit_removed),
            Patch(Ingress, "_check_vote", _believe_old_votes),
        ),
    ),
    "parent-by-new-set": Mutant(
        "The certificate of the block below is read under the set of the working height.",
        (Patch(Replica, "_enter", _read_the_parent_by_the_new_set),),
    ),
    "outsiders-broadcast": Mutant(
        "A node outside the set sends to all like a member, with nothing written down.",
        (Patch(Outbox, "broadcast", _broadcast_for_anybody),),
    ),
    "outsiders-relay": Mutant(
        "A node outside the set passes certificates on.",
        (Patch(rules, "relay", _relay_for_anybody),),
    ),
}
"""Every planted bug of this kind by name."""
