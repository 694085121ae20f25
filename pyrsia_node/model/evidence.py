"""Evidence: two signed statements of one member that contradict each other.

Each pair is self-contained: height, view and set stand beside it, so that the bytes which the
member signed can be put together again. What a pair proves: docs/design/consensus.md.
Specification: docs/spec/leaves.md, "Transactions"; validity: ``ledger.machine.evidence``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.signing import SIGNATURE_BYTES

STATEMENTS: Final = ("finalize", "notarize", "nullify", "proposal")
"""What a member signs at a height: its votes, and its proposals as a leader."""

_VIEW_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """What was signed: its kind, the block hash (zeros for ``nullify``), the signature."""

    kind: str
    block: Sha256
    signature: bytes

    def to_json(self) -> JsonObject:
        """Return the object."""
        return {"block": self.block, "kind": self.kind, "sig": self.signature.hex()}

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> SignedStatement:
        """Return the statement that the object spells; raises InvalidInputError."""
        got = Fields(value, where, frozenset({"block", "kind", "sig"}))
        return cls(
            kind=got.one_of("kind", STATEMENTS),
            block=got.sha256("block"),
            signature=got.raw("sig", size=SIGNATURE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """``culprit`` signed both statements at (``height``, ``view``) under the set ``set``."""

    kind: ClassVar[str] = "evidence"
    by: NodeId
    culprit: NodeId
    height: int
    view: int
    set: Sha256
    first: SignedStatement
    second: SignedStatement

    @property
    def author(self) -> NodeId:
        """The member who must sign: the reporter."""
        return self.by

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "culprit": self.culprit,
            "first": self.first.to_json(),
            "height": self.height,
            "second": self.second.to_json(),
            "set": self.set,
            "t": "evidence",
            "v": 1,
            "view": self.view,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Evidence:
        """Return the evidence that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not legal evidence. Whether the two contradict each other and were
                signed is checked by ``ledger.machine.evidence``.
        """
        got = Fields(value, "evidence", _MEMBERS)
        got.schema("evidence")
        return cls(
            by=parse_member_id(got, "by"),
            culprit=parse_member_id(got, "culprit"),
            height=got.integer("height", low=1, high=INTEGER_MAX),
            view=got.integer("view", low=0, high=_VIEW_MAX),
            set=got.sha256("set"),
            first=SignedStatement.from_json(got.value("first"), "evidence.first"),
            second=SignedStatement.from_json(got.value("second"), "evidence.second"),
        )


_MEMBERS: Final = frozenset({"by", "culprit", "first", "height", "second", "set", "t", "v", "view"})
