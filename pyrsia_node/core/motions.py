"""Motions: operations that admins want and a quorum must approve, as this node knows them.

What an operation *is* stands in its content, which no approval in the log repeats; approvals name
its digest alone. So the node of each admin who brings or supports a motion keeps the content, and
gives it to whoever asks by the digest. Specification: docs/spec/leaves.md, "Approvals".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject
from pyrsia_node.model.digest import ZERO_SHA256, Sha256
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.members import SignedMember
from pyrsia_node.model.membership import AddNode, JoinProof, RemoveNode, RotateKey, SetParam
from pyrsia_node.model.signing import SIGNATURE_BYTES
from pyrsia_node.model.statements import Deprecate, Revoke, Vulnerable, Withdraw
from pyrsia_node.model.transactions import Transaction
from pyrsia_node.ports import KeyValueStore

CONTENT_BYTES_MAX: Final = 8_000
"""Canonical bytes of a motion's content; a signed member record has about 1.2 kB."""

_PREFIX: Final = b"motions/"
_PROOF_TO_COME: Final = JoinProof(INTEGER_MAX, 2, ZERO_SHA256, bytes(SIGNATURE_BYTES))
"""Of a height that no log reaches: such an operation is judged by all its other rules."""

_NO_NONCE: Final = "00" * 16

Operation = AddNode | RemoveNode | RotateKey | SetParam | Withdraw | Revoke | AddSource


@dataclass(frozen=True, slots=True)
class Motion:
    """An operation and its content, as members approve it.

    ``content`` holds the transaction's members without those of whoever submits it: ``record`` of
    ``add_node`` and ``rotate_key``, ``node`` of ``remove_node``, and so on.
    """

    op: str
    content: JsonObject

    def operation(
        self, by: NodeId, *, nonce: str = _NO_NONCE, proof: JoinProof = _PROOF_TO_COME
    ) -> Operation:
        """Return the transaction with which ``by`` carries the motion out.

        Raises:
            InvalidInputError: The content is not that of such an operation; the text says why.
        """
        frame: JsonObject = {**self.content, "by": by, "t": self.op, "v": 1}
        if self.op in _WITH_PROOF:
            return _WITH_PROOF[self.op]({**frame, "proof": proof.to_json()})
        read = _WITH_NONCE.get(self.op)
        if read is None:
            known = ", ".join(sorted({*_WITH_PROOF, *_WITH_NONCE}))
            raise InvalidInputError(f"{self.op!r:.40} is no motion; there are {known}")
        return read({**frame, "nonce": nonce})

    def subject(self, by: NodeId, network_id: bytes) -> Sha256:
        """Return what members approve; raises InvalidInputError as ``operation``."""
        return self.operation(self.author(by)).subject(network_id)

    def author(self, by: NodeId) -> NodeId:
        """Return who must submit the operation: ``by``, unless only one member may."""
        if self.op == "rotate_key":
            return self.member().record.id
        return by

    def member(self) -> SignedMember:
        """Return the record of ``add_node`` or ``rotate_key``; raises InvalidInputError."""
        return SignedMember.from_json(self.content.get("record", ""), "record")

    def title(self, labels: Mapping[str, str]) -> str:
        """Return the operation in a few words, with members' labels."""
        content = self.content
        match self.op:
            case "add_node" | "rotate_key":
                record = self.member().record
                verb = "add" if self.op == "add_node" else "new keys for"
                return f"{verb} {record.label} ({record.id})"
            case "remove_node":
                node = str(content.get("node"))
                return f"remove {labels.get(node, node)}"
            case "set_param":
                return f"set {content.get('name')} = {content.get('value')}"
            case "withdraw":
                return f"withdraw entry {content.get('entry')} of {content.get('purl')}"
            case "add_source":
                return _title_of_source(content)
            case _:
                return f"revoke {content.get('purl')} sha256:{str(content.get('sha256'))[:16]}…"

    def encode(self) -> bytes:
        """Return the canonical bytes that nodes keep and send."""
        return canonical.dumps({"content": self.content, "op": self.op})

    @classmethod
    def decode(cls, data: bytes) -> Motion:
        """Return the motion in the bytes; its content is read by ``operation``.

        Raises:
            InvalidInputError: Not canonical, too long, or no motion.
        """
        value = canonical.loads_object(data, bytes_max=CONTENT_BYTES_MAX)
        op, content = value.get("op"), value.get("content")
        if set(value) != {"op", "content"} or not isinstance(op, str):
            raise InvalidInputError("motion: members op and content are expected")
        if not isinstance(content, dict):
            raise InvalidInputError("motion: content is no object")
        return cls(op, content)


@dataclass(frozen=True, slots=True)
class OwnMotion:
    """A motion that this node's admin approved; ``approval`` is the id of that transaction."""

    motion: Motion
    approval: str


class MotionStore:
    """The motions that this node's admin has approved, across restarts."""

    def __init__(self, store: KeyValueStore) -> None:
        """Read back what an earlier run kept.

        Raises:
            CorruptStateError: A kept motion does not read back.
        """
        self._store = store
        try:
            self._motions = {
                Sha256(key.removeprefix(_PREFIX).decode()): _decode_own(value)
                for key, value in store.scan(_PREFIX)
            }
        except (InvalidInputError, UnicodeDecodeError) as error:
            raise CorruptStateError(f"a motion in the chain database: {error}") from error

    def all(self) -> dict[Sha256, OwnMotion]:
        """Return the motions by subject."""
        return dict(self._motions)

    def get(self, subject: Sha256) -> OwnMotion | None:
        """Return the motion with this subject, if it is kept here."""
        return self._motions.get(subject)

    def keep(self, subject: Sha256, own: OwnMotion) -> None:
        """Keep a motion: durable on return."""
        value = own.approval.encode() + b" " + own.motion.encode()
        self._store.write([(_PREFIX + subject.encode(), value)], sync=True)
        self._motions[subject] = own

    def drop(self, subject: Sha256) -> None:
        """Forget a motion that was carried or has lapsed."""
        if self._motions.pop(subject, None) is not None:
            self._store.write([(_PREFIX + subject.encode(), None)], sync=False)


def _title_of_source(content: JsonObject) -> str:
    if not content.get("repository"):
        return f"take back the source of {content.get('pattern')}"
    tag = f", tag {content['tag']}" if content.get("tag") else ""
    return f"source of {content.get('pattern')}: {content.get('repository')}{tag}"


def motion_of(op: str, content: Mapping[str, object]) -> Motion:
    """Return a motion from what a client sent, in canonical form.

    Raises:
        InvalidInputError: The content is too long or cannot stand in a transaction.
    """
    return Motion.decode(_canonical({"content": dict(content), "op": op}))


def advice_of(op: str, content: Mapping[str, object], by: NodeId, nonce: str) -> Transaction:
    """Return one member's statement about a package.

    Raises:
        InvalidInputError: It is none, or malformed.
    """
    read = _ADVICE.get(op)
    if read is None:
        raise InvalidInputError(f"{op!r:.40} is no advice; there are {', '.join(sorted(_ADVICE))}")
    frame = {**content, "by": by, "nonce": nonce, "t": op, "v": 1}
    return read(canonical.loads_object(_canonical(frame), bytes_max=CONTENT_BYTES_MAX))


def _canonical(value: Mapping[str, object]) -> bytes:
    # The encoder checks every value; what it takes is in the profile.
    return canonical.dumps(cast("JsonObject", dict(value)))


def _decode_own(value: bytes) -> OwnMotion:
    approval, _, motion = value.partition(b" ")
    return OwnMotion(Motion.decode(motion), approval.decode("ascii"))


_WITH_PROOF: Final[Mapping[str, Callable[[JsonObject], Operation]]] = {
    "add_node": AddNode.from_json,
    "rotate_key": RotateKey.from_json,
}
_WITH_NONCE: Final[Mapping[str, Callable[[JsonObject], Operation]]] = {
    "add_source": AddSource.from_json,
    "remove_node": RemoveNode.from_json,
    "revoke": Revoke.from_json,
    "set_param": SetParam.from_json,
    "withdraw": Withdraw.from_json,
}
_ADVICE: Final[Mapping[str, Callable[[JsonObject], Transaction]]] = {
    "deprecate": Deprecate.from_json,
    "vulnerable": Vulnerable.from_json,
}
