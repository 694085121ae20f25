"""Transactions that change who votes or by which parameters: add, remove, rotate, set.

Each needs the approvals of a quorum (``approvals``). Any member may submit one; the rotation of
keys only the member itself. At most one of them stands in a block.
Specification: docs/spec/leaves.md, "Transactions"; validity: ``ledger.machine.membership``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model.approvals import operation_subject
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.members import MemberRecord, SignedMember, parse_member_id
from pyrsia_node.model.signing import JOIN_TAG, SIGNATURE_BYTES, Sign, Verify

JOIN_HEIGHTS_MAX: Final = 256
"""How many heights before its block the checkpoint of a join proof may lie: heights and not
minutes, because the head of a quiet log is old."""

PARAM_NAME: Final = re.compile(r"[a-z][a-z_]{0,31}(\.[A-Za-z][A-Za-z0-9.-]{0,31})?")
"""Form of a parameter's name, such as ``min_authorized``, ``k.pypi`` or ``class_ms.S``."""


@dataclass(frozen=True, slots=True)
class JoinProof:
    """Shows that whoever holds a record's ``tx`` key knows this network's log up to lately.

    Attributes:
        height: A recent height.
        size: Tree size after it.
        root: Tree root after it.
        signature: By the record's ``tx`` key over ``join_bytes``.
    """

    height: int
    size: int
    root: Sha256
    signature: bytes

    def to_json(self) -> JsonObject:
        """Return the ``proof`` object."""
        return {
            "height": self.height,
            "root": self.root,
            "sig": self.signature.hex(),
            "size": self.size,
        }

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> JoinProof:
        """Return the proof that the object spells; raises InvalidInputError."""
        got = Fields(value, where, _PROOF_MEMBERS)
        return cls(
            height=got.integer("height", low=0, high=INTEGER_MAX),
            size=got.integer("size", low=2, high=INTEGER_MAX),
            root=got.sha256("root"),
            signature=got.raw("sig", size=SIGNATURE_BYTES),
        )


def join_bytes(network_id: bytes, record: MemberRecord, root: Sha256) -> bytes:
    """Return what a candidate's ``tx`` key signs."""
    return JOIN_TAG + network_id + bytes.fromhex(record.digest()) + bytes.fromhex(root)


def sign_join(
    record: MemberRecord, *, network_id: bytes, height: int, size: int, root: Sha256, sign: Sign
) -> JoinProof:
    """Return the proof of the candidate with this record.

    Args:
        record: The candidate's record, or for a rotation the new one.
        network_id: The 32-byte id of the network.
        height: A committed height, as new as possible.
        size: Tree size after it.
        root: Tree root after it.
        sign: Signs with the record's ``tx`` key.
    """
    return JoinProof(height, size, root, sign(join_bytes(network_id, record, root)))


@dataclass(frozen=True, slots=True)
class AddNode:
    """A candidate becomes a member from the next height on."""

    kind: ClassVar[str] = "add_node"
    by: NodeId
    member: SignedMember
    proof: JoinProof

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve: the digest of the record, in any network."""
        del network_id
        return self.member.record.digest()

    def verify_inside(self, network_id: bytes, verify: Verify) -> None:
        """Check the signatures of the record and of the proof; raises VerificationError."""
        self.member.verify(verify)
        _verify_proof(self.member.record, self.proof, network_id, verify)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "proof": self.proof.to_json(),
            "record": self.member.to_json(),
            "t": "add_node",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> AddNode:
        """Return the operation that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal operation.
        """
        got = Fields(value, "add_node", _RECORD_MEMBERS)
        got.schema("add_node")
        return cls(
            by=parse_member_id(got, "by"),
            member=SignedMember.from_json(got.value("record"), "add_node.record"),
            proof=JoinProof.from_json(got.value("proof"), "add_node.proof"),
        )


@dataclass(frozen=True, slots=True)
class RotateKey:
    """A member keeps its id and gets new keys. Its old ``tx`` key signs the transaction.

    The new ``tx`` key signs the proof, so both hold at once and no member drops out between.
    """

    kind: ClassVar[str] = "rotate_key"
    member: SignedMember
    proof: JoinProof

    @property
    def author(self) -> NodeId:
        """The member who must sign: the one whose keys change."""
        return self.member.record.id

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve: the digest of the new record, in any network."""
        del network_id
        return self.member.record.digest()

    def verify_inside(self, network_id: bytes, verify: Verify) -> None:
        """Check the signatures of the record and of the proof; raises VerificationError."""
        self.member.verify_keys(verify)
        _verify_proof(self.member.record, self.proof, network_id, verify)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.author,
            "proof": self.proof.to_json(),
            "record": self.member.to_json(),
            "t": "rotate_key",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> RotateKey:
        """Return the operation that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal operation, or about another member than its author.
        """
        got = Fields(value, "rotate_key", _RECORD_MEMBERS)
        got.schema("rotate_key")
        rotation = cls(
            member=SignedMember.from_json(got.value("record"), "rotate_key.record"),
            proof=JoinProof.from_json(got.value("proof"), "rotate_key.proof"),
        )
        if parse_member_id(got, "by") != rotation.author:
            raise got.refused("by", f"is not the member of the record, {rotation.author}")
        return rotation


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """A member votes no more from the next height on. ``nonce`` is 16 bytes of hex."""

    kind: ClassVar[str] = "remove_node"
    by: NodeId
    node: NodeId
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve."""
        return operation_subject(network_id, {"node": self.node, "op": self.kind})

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "node": self.node,
            "nonce": self.nonce,
            "t": "remove_node",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> RemoveNode:
        """Return the operation that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal operation.
        """
        got = Fields(value, "remove_node", _REMOVE_MEMBERS)
        got.schema("remove_node")
        return cls(
            by=parse_member_id(got, "by"),
            node=parse_member_id(got, "node"),
            nonce=got.hex("nonce", size=16),
        )


@dataclass(frozen=True, slots=True)
class SetParam:
    """A parameter gets another value from the next height on. ``nonce`` is 16 bytes of hex."""

    kind: ClassVar[str] = "set_param"
    by: NodeId
    name: str
    value: int
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve."""
        content: JsonObject = {"name": self.name, "op": self.kind, "value": self.value}
        return operation_subject(network_id, content)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "name": self.name,
            "nonce": self.nonce,
            "t": "set_param",
            "v": 1,
            "value": self.value,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> SetParam:
        """Return the operation that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal operation. Which names and values there are is a rule
                of the state machine.
        """
        got = Fields(value, "set_param", _PARAM_MEMBERS)
        got.schema("set_param")
        return cls(
            by=parse_member_id(got, "by"),
            name=got.matching("name", PARAM_NAME, "the name of a parameter"),
            value=got.integer("value", low=0, high=INTEGER_MAX),
            nonce=got.hex("nonce", size=16),
        )


MembershipOperation = AddNode | RemoveNode | RotateKey | SetParam
"""An operation of which a block holds at most one."""


def _verify_proof(
    record: MemberRecord, proof: JoinProof, network_id: bytes, verify: Verify
) -> None:
    if not verify(record.keys.tx, join_bytes(network_id, record, proof.root), proof.signature):
        raise VerificationError(
            f"member {record.label}: the join proof of height {proof.height} is not signed by "
            f"its tx key ({record.keys.tx.hex()})"
        )


_PROOF_MEMBERS: Final = frozenset({"height", "root", "sig", "size"})
_RECORD_MEMBERS: Final = frozenset({"by", "proof", "record", "t", "v"})
_REMOVE_MEMBERS: Final = frozenset({"by", "node", "nonce", "t", "v"})
_PARAM_MEMBERS: Final = frozenset({"by", "name", "nonce", "t", "v", "value"})
