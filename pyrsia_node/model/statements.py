"""Statements about what is in the log: withdraw, revoke, deprecate, vulnerable.

The log forgets nothing; a statement says what to think of an entry or of bytes. ``withdraw`` and
``revoke`` need the approvals of a quorum (``approvals``) and close a door; ``deprecate`` and
``vulnerable`` are one member's word and only advise.
Specification: docs/spec/leaves.md, "Transactions"; validity: ``ledger.machine.statements``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model.approvals import operation_subject
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.limits import REASON_LENGTH_MAX
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl

ADVISORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""Form of an advisory's name, such as ``CVE-2024-3094`` or ``PYSEC-2023-100``."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The ACCEPTED entry at leaf ``entry`` counts no more: it should never have been accepted.

    ``purl`` is the entry's, so that the statement reads without it. ``nonce``: 16 bytes of hex.
    """

    kind: ClassVar[str] = "withdraw"
    by: NodeId
    purl: Purl
    entry: int
    reason: str
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve."""
        content: JsonObject = {
            "entry": self.entry,
            "op": self.kind,
            "purl": str(self.purl),
            "reason": self.reason,
        }
        return operation_subject(network_id, content)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "entry": self.entry,
            "nonce": self.nonce,
            "purl": str(self.purl),
            "reason": self.reason,
            "t": "withdraw",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Withdraw:
        """Return the statement that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal statement.
        """
        got = Fields(value, "withdraw", _WITHDRAW_MEMBERS)
        got.schema("withdraw")
        return cls(
            by=parse_member_id(got, "by"),
            purl=_version(got, "purl"),
            entry=got.integer("entry", low=0, high=INTEGER_MAX),
            reason=_reason(got),
            nonce=got.hex("nonce", size=16),
        )


@dataclass(frozen=True, slots=True)
class Revoke:
    """Bytes with this digest harm: nobody should serve them, whichever entry lists them.

    ``purl`` is the version that they were published as. ``nonce``: 16 bytes of hex.
    """

    kind: ClassVar[str] = "revoke"
    by: NodeId
    purl: Purl
    sha256: Sha256
    reason: str
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve."""
        content: JsonObject = {
            "op": self.kind,
            "purl": str(self.purl),
            "reason": self.reason,
            "sha256": self.sha256,
        }
        return operation_subject(network_id, content)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "nonce": self.nonce,
            "purl": str(self.purl),
            "reason": self.reason,
            "sha256": self.sha256,
            "t": "revoke",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Revoke:
        """Return the statement that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal statement.
        """
        got = Fields(value, "revoke", _REVOKE_MEMBERS)
        got.schema("revoke")
        return cls(
            by=parse_member_id(got, "by"),
            purl=_version(got, "purl"),
            sha256=got.sha256("sha256"),
            reason=_reason(got),
            nonce=got.hex("nonce", size=16),
        )


@dataclass(frozen=True, slots=True)
class Deprecate:
    """Advice: use something else. ``instead`` is a package URL, or None.

    A ``purl`` without a version speaks of the whole package. ``nonce``: 16 bytes of hex.
    """

    kind: ClassVar[str] = "deprecate"
    by: NodeId
    purl: Purl
    reason: str
    instead: Purl | None
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "instead": "" if self.instead is None else str(self.instead),
            "nonce": self.nonce,
            "purl": str(self.purl),
            "reason": self.reason,
            "t": "deprecate",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Deprecate:
        """Return the statement that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal statement.
        """
        got = Fields(value, "deprecate", _DEPRECATE_MEMBERS)
        got.schema("deprecate")
        instead = got.text("instead", length_max=PURL_LENGTH_MAX)
        return cls(
            by=parse_member_id(got, "by"),
            purl=_purl(got, "purl"),
            reason=_reason(got),
            instead=Purl.parse(instead) if instead else None,
            nonce=got.hex("nonce", size=16),
        )


@dataclass(frozen=True, slots=True)
class Vulnerable:
    """Advice: an advisory speaks of this version. ``nonce``: 16 bytes of hex.

    A ``purl`` without a version speaks of the whole package.
    """

    kind: ClassVar[str] = "vulnerable"
    by: NodeId
    purl: Purl
    advisory: str
    reason: str
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "advisory": self.advisory,
            "by": self.by,
            "nonce": self.nonce,
            "purl": str(self.purl),
            "reason": self.reason,
            "t": "vulnerable",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Vulnerable:
        """Return the statement that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal statement.
        """
        got = Fields(value, "vulnerable", _VULNERABLE_MEMBERS)
        got.schema("vulnerable")
        return cls(
            by=parse_member_id(got, "by"),
            purl=_purl(got, "purl"),
            advisory=got.matching("advisory", ADVISORY, "the name of an advisory"),
            reason=_reason(got),
            nonce=got.hex("nonce", size=16),
        )


Statement = Withdraw | Revoke | Deprecate | Vulnerable
"""What members say about what is in the log."""


def _purl(got: Fields, name: str) -> Purl:
    return Purl.parse(got.text(name, length_max=PURL_LENGTH_MAX))


def _version(got: Fields, name: str) -> Purl:
    purl = _purl(got, name)
    if purl.version is None:
        raise got.refused(name, "names no version")
    return purl


def _reason(got: Fields) -> str:
    return got.text("reason", length_min=1, length_max=REASON_LENGTH_MAX)


_WITHDRAW_MEMBERS: Final = frozenset({"by", "entry", "nonce", "purl", "reason", "t", "v"})
_REVOKE_MEMBERS: Final = frozenset({"by", "nonce", "purl", "reason", "sha256", "t", "v"})
_DEPRECATE_MEMBERS: Final = frozenset({"by", "instead", "nonce", "purl", "reason", "t", "v"})
_VULNERABLE_MEMBERS: Final = frozenset({"advisory", "by", "nonce", "purl", "reason", "t", "v"})
