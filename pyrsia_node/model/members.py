"""Who votes: the member record, and the ``set`` leaf that lists the members of an epoch.

A member's five keys come from one seed; each signs the record, which proves that the applicant
holds them all. Signatures are checked once, at admission; leaves carry records without them.
Specification: docs/spec/leaves.md, "Genesis, members, sets".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consensus.ed25519 import is_valid_key
from consensus.quorum import quorum
from consensus.types import Digest, Member, MemberSet, NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import ZERO_SHA256, Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.fields import Fields, check_sorted
from pyrsia_node.model.limits import LABEL_LENGTH_MAX, LEAF_BYTES_MAX, MEMBERS_MAX
from pyrsia_node.model.peer_id import key_of_peer_id, peer_id_of
from pyrsia_node.model.signing import KEY_BYTES, MEMBER_TAG, SIGNATURE_BYTES, Sign, Verify

KEY_NAMES: Final = ("cosign", "log", "p2p", "tx", "vote")
"""The five keys of a member, sorted."""

_LABEL: Final = re.compile(rf"[a-z0-9.-]{{1,{LABEL_LENGTH_MAX}}}")


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """Public Ed25519 keys, 32 bytes each, one for each kind of statement."""

    cosign: bytes
    log: bytes
    p2p: bytes
    tx: bytes
    vote: bytes

    def named(self) -> dict[str, bytes]:
        """Return the keys by name, in name order."""
        return {
            "cosign": self.cosign,
            "log": self.log,
            "p2p": self.p2p,
            "tx": self.tx,
            "vote": self.vote,
        }


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member: its fixed id, the label that people see, and its keys."""

    id: NodeId
    label: str
    keys: MemberKeys

    def to_json(self) -> JsonObject:
        """Return the record without signatures."""
        return {
            "id": self.id,
            "keys": {name: key.hex() for name, key in self.keys.named().items()},
            "label": self.label,
            "t": "member",
            "v": 1,
        }

    def signed_bytes(self) -> bytes:
        """Return what each of the five keys signs."""
        return MEMBER_TAG + canonical.dumps(self.to_json())

    def digest(self) -> Sha256:
        """Return SHA-256 of ``signed_bytes``: the subject of approvals."""
        return sha256_of(self.signed_bytes())

    @classmethod
    def from_json(cls, value: JsonValue, where: str = "member") -> MemberRecord:
        """Return the member that a record without signatures spells.

        Raises:
            InvalidInputError: Not a legal record. Whether ``id`` belongs to the ``p2p`` key is
                checked at admission alone, because the id outlives the key.
        """
        got = Fields(value, where, _RECORD_MEMBERS)
        got.schema("member")
        keys = Fields(got.value("keys"), f"{where}.keys", frozenset(KEY_NAMES))
        record = cls(
            id=parse_member_id(got, "id"),
            label=got.matching("label", _LABEL, "1 to 64 characters of [a-z0-9.-]"),
            keys=MemberKeys(
                cosign=keys.raw("cosign", size=KEY_BYTES),
                log=keys.raw("log", size=KEY_BYTES),
                p2p=keys.raw("p2p", size=KEY_BYTES),
                tx=keys.raw("tx", size=KEY_BYTES),
                vote=keys.raw("vote", size=KEY_BYTES),
            ),
        )
        if len(set(record.keys.named().values())) != len(KEY_NAMES):
            raise InvalidInputError(f"{where}: two of the five keys are equal")
        return record


@dataclass(frozen=True, slots=True)
class SignedMember:
    """A member record with the signatures of its five keys, in name order."""

    record: MemberRecord
    signatures: tuple[bytes, ...]

    def to_json(self) -> JsonObject:
        """Return the record with ``sigs``: the content of ``member.record``."""
        sigs: JsonObject = {
            name: signature.hex()
            for name, signature in zip(KEY_NAMES, self.signatures, strict=True)
        }
        return {**self.record.to_json(), "sigs": sigs}

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.to_json())

    @classmethod
    def from_json(cls, value: JsonValue, where: str = "member") -> SignedMember:
        """Return the signed record that the object spells; signatures are not yet checked.

        Raises:
            InvalidInputError: Not a legal record.
        """
        if not isinstance(value, dict) or "sigs" not in value:
            raise InvalidInputError(f"{where} is not a signed member record")
        sigs = Fields(value["sigs"], f"{where}.sigs", frozenset(KEY_NAMES))
        record = {name: member for name, member in value.items() if name != "sigs"}
        return cls(
            record=MemberRecord.from_json(record, where),
            signatures=tuple(sigs.raw(name, size=SIGNATURE_BYTES) for name in KEY_NAMES),
        )

    @classmethod
    def decode(cls, data: bytes) -> SignedMember:
        """Return the signed record in the bytes of a ``member.record``.

        Raises:
            InvalidInputError: Not a legal record.
        """
        return cls.from_json(canonical.loads(data, bytes_max=_RECORD_BYTES_MAX))

    def verify(self, verify: Verify) -> None:
        """Check that five sound keys signed and that the id is the peer id of the ``p2p`` key.

        Raises:
            VerificationError: One does not hold; the text names the member and the key.
        """
        record = self.record
        expected = peer_id_of(record.keys.p2p)
        if record.id != expected:
            raise VerificationError(
                f"member {record.label}: id {record.id} is not {expected}, that of its p2p key"
            )
        self.verify_keys(verify)

    def verify_keys(self, verify: Verify) -> None:
        """Check that five sound keys signed, whatever the id: it outlives the keys.

        Raises:
            VerificationError: One does not hold; the text names the member and the key.
        """
        record = self.record
        message = record.signed_bytes()
        keys = record.keys.named()
        for (name, key), signature in zip(keys.items(), self.signatures, strict=True):
            if not is_valid_key(key):
                raise VerificationError(
                    f"member {record.label}: key {name} ({key.hex()}) is no sound Ed25519 key"
                )
            if not verify(key, message, signature):
                raise VerificationError(
                    f"member {record.label}: signature of key {name} ({key.hex()}) does not hold"
                )


def sign_member(label: str, keys: MemberKeys, signers: Mapping[str, Sign]) -> SignedMember:
    """Return the signed record of a new member.

    Args:
        label: The name that people see, 1..64 characters of [a-z0-9.-].
        keys: The public keys.
        signers: For each key name, the call that signs with it.

    Raises:
        InvalidInputError: The label is not legal or two keys are equal.
    """
    record = MemberRecord(id=NodeId(peer_id_of(keys.p2p)), label=label, keys=keys)
    MemberRecord.from_json(record.to_json())  # the same rules as for records from outside
    message = record.signed_bytes()
    return SignedMember(record=record, signatures=tuple(signers[k](message) for k in KEY_NAMES))


@dataclass(frozen=True, slots=True)
class SetLeaf:
    """The members of one epoch, sorted by id, as the log states them. ``prev`` links the sets."""

    epoch: int
    prev: Sha256
    members: tuple[MemberRecord, ...]

    @property
    def quorum(self) -> int:
        """Members whose equal votes decide."""
        return quorum(len(self.members))

    def encode(self) -> bytes:
        """Return the bytes of the leaf."""
        members: list[JsonValue] = [record.to_json() for record in self.members]
        return canonical.dumps(
            {
                "epoch": self.epoch,
                "members": members,
                "prev": self.prev,
                "q": self.quorum,
                "t": "set",
                "v": 1,
            }
        )

    def digest(self) -> Sha256:
        """Return the set hash, which every vote of the epoch carries."""
        return sha256_of(self.encode())

    @classmethod
    def decode(cls, data: bytes) -> SetLeaf:
        """Return the set that the bytes of a ``set`` leaf spell.

        Raises:
            InvalidInputError: Not a legal set leaf.
        """
        value = canonical.loads(data, bytes_max=LEAF_BYTES_MAX)
        got = Fields(value, "set", _SET_MEMBERS)
        got.schema("set")
        members = tuple(
            MemberRecord.from_json(each, "set.members")
            for each in got.array("members", length_min=1, length_max=MEMBERS_MAX)
        )
        leaf = cls(
            epoch=got.integer("epoch", low=0, high=INTEGER_MAX),
            prev=got.sha256("prev"),
            members=members,
        )
        check_distinct(leaf.members)
        if got.integer("q", low=1, high=MEMBERS_MAX) != leaf.quorum:
            raise got.refused("q", f"is not {leaf.quorum}")
        if (leaf.epoch == 0) != (leaf.prev == ZERO_SHA256):
            raise got.refused("prev", "is zero exactly in epoch 0")
        return leaf

    def to_consensus(self) -> MemberSet:
        """Return the set as consensus knows it."""
        return MemberSet(
            epoch=self.epoch,
            members=tuple(Member(id=r.id, vote_key=r.keys.vote) for r in self.members),
            set_hash=Digest(bytes.fromhex(self.digest())),
        )

    def record_of(self, member: str) -> MemberRecord | None:
        """Return the record of a member, or None if it is not in the set."""
        for record in self.members:
            if record.id == member:
                return record
        return None


def check_distinct(members: tuple[MemberRecord, ...]) -> None:
    """Check that members are sorted by id and share no label and no key.

    Raises:
        InvalidInputError: They do not; the text names what is doubled.
    """
    check_sorted([record.id for record in members], "member ids")
    labels = [record.label for record in members]
    keys = [key.hex() for record in members for key in record.keys.named().values()]
    for what, values in (("label", labels), ("key", keys)):
        seen: set[str] = set()
        for value in values:
            if value in seen:
                raise InvalidInputError(f"two members share the {what} {value}")
            seen.add(value)


def parse_member_id(got: Fields, name: str) -> NodeId:
    """Return the member id in member ``name`` of an object.

    Raises:
        InvalidInputError: Not the peer id of an Ed25519 key.
    """
    text = got.text(name, length_max=LABEL_LENGTH_MAX)
    key_of_peer_id(text)
    return NodeId(text)


_RECORD_BYTES_MAX: Final = 4_000
_RECORD_MEMBERS: Final = frozenset({"id", "keys", "label", "t", "v"})
_SET_MEMBERS: Final = frozenset({"epoch", "members", "prev", "q", "t", "v"})
