"""What the state holds: its keys, and its records with their JSON form.

Records are written by this package alone and hashed into every block, so they are read without
the suspicion that outside input gets; a record that does not fit its class is our own corruption.

=================================  =====================================================
key                                value
=================================  =====================================================
``request/<id>``                   ``RequestRecord``, written once
``tally/<id>``                     ``Tally``
``item/<id>/<member>``             ``items.ItemRecord``
``commit/<id>/<member>``           the commit of a member to its item of a sealed request
``due/<16 digits of ms>/<id>``     1: an open request and when an outcome falls due
``open/<uniqueness digest>``       id of the open request that holds this key
``sponsor/<member>``               ``SponsorRecord``
``tries/<member>/<purl digest>``   block times of this sponsor's latest requests for the purl
``seq/<member>``                   number of the member's last attest batch
``doc/<digest>``                   index of the Result leaf that carries the document
``approval/<op>/<subject>/<m>``    the last height at which the unspent approval of member m counts
``expiring/<height>/<op>/<s>/<m>`` 1: an approval and the last height at which it counts
``approvals/<member>``             how many approvals of the member are neither expired nor spent
``happened/<op>/<subject>``        the last height at which approvals of it were spent
``guarded/<height>/<op>/<s>``      1: the last height at which its ``happened/`` row is needed
``change/<id>``                    leaf index of an operation on the set or the parameters
``key/<hex>``                      id of the removed member that owns a key; "" for a retired key
``param/<name>``                   a parameter that was changed since the genesis
``statement/<id>``                 leaf index of a statement
``withdrawn/<leaf>``               leaf index of the statement that withdrew the entry at a leaf
``revoked/<sha256>``               leaf index of the statement that revoked these bytes
``advice/<member>``                ``{"count": pieces of advice, "day": the day that they are of}``
``source/<pattern digest>``        ``SourceRecord``: the mapping of a pattern that counts
=================================  =====================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.oci_terms import is_digest

OPEN: Final = "OPEN"
ACCEPTED: Final = "ACCEPTED"
DIVERGED: Final = "DIVERGED"
FAILED: Final = "FAILED"
EXPIRED: Final = "EXPIRED"

DUE_PREFIX: Final = "due/"
"""Prefix of the keys that list open requests by the time at which an outcome falls due."""

EXPIRING_PREFIX: Final = "expiring/"
"""Prefix of the keys that list approvals by the last height at which they count."""

PARAM_PREFIX: Final = "param/"
"""Prefix of the keys of changed parameters."""

GUARDED_PREFIX: Final = "guarded/"
"""Prefix of the keys that list what has happened by the last height that asks for it."""

RETIRED: Final = ""
"""What the row of a key says that a rotation has replaced."""

APPROVAL_PREFIX: Final = "approval/"
"""Prefix of the keys of approvals."""

SOURCE_PREFIX: Final = "source/"
"""Prefix of the keys of mappings."""

_TIME_DIGITS: Final = 16


def request_key(request: str) -> str:
    """Return the key of a ``RequestRecord``."""
    return f"request/{request}"


def tally_key(request: str) -> str:
    """Return the key of a ``Tally``."""
    return f"tally/{request}"


def item_key(request: str, member: str) -> str:
    """Return the key of an ``ItemRecord``."""
    return f"item/{request}/{member}"


def commit_key(request: str, member: str) -> str:
    """Return the key of a member's commit."""
    return f"commit/{request}/{member}"


def due_key(time_ms: int, request: str) -> str:
    """Return the key that says when ``request`` falls due; keys sort as (time, request)."""
    return f"{DUE_PREFIX}{time_ms:0{_TIME_DIGITS}d}/{request}"


def due_bound(time_ms: int) -> str:
    """Return the key below which are exactly the requests due at ``time_ms`` or before."""
    return f"{DUE_PREFIX}{time_ms + 1:0{_TIME_DIGITS}d}/"


def parse_due_key(key: str) -> tuple[int, Sha256]:
    """Return (time in ms, request) of a key that ``due_key`` made."""
    _, time_ms, request = key.split("/")
    return int(time_ms), Sha256(request)


def uniqueness_key(digest: str) -> str:
    """Return the key that an open request holds for its inputs."""
    return f"open/{digest}"


def sponsor_key(sponsor: str) -> str:
    """Return the key of a ``SponsorRecord``."""
    return f"sponsor/{sponsor}"


def tries_key(sponsor: str, purl: str) -> str:
    """Return the key of the times at which a sponsor's requests for a purl opened."""
    return f"tries/{sponsor}/{sha256_of(purl.encode('ascii'))}"


def sequence_key(member: str) -> str:
    """Return the key of the number of a member's last batch."""
    return f"seq/{member}"


def document_key(digest: str) -> str:
    """Return the key of a document's leaf index."""
    return f"doc/{digest}"


def approval_prefix(op: str, subject: str) -> str:
    """Return the prefix of the keys of all approvals of one operation."""
    return f"{APPROVAL_PREFIX}{op}/{subject}/"


def approval_key(op: str, subject: str, member: str) -> str:
    """Return the key of a member's approval of an operation."""
    return approval_prefix(op, subject) + member


def parse_approval_key(key: str) -> tuple[str, Sha256, NodeId]:
    """Return (operation, subject, member) of a key that ``approval_key`` made."""
    _, op, subject, member = key.split("/")
    return op, Sha256(subject), NodeId(member)


def expiring_key(height: int, op: str, subject: str, member: str) -> str:
    """Return the key that says at which height an approval counts last."""
    return f"{EXPIRING_PREFIX}{height:0{_TIME_DIGITS}d}/{op}/{subject}/{member}"


def expiring_bound(height: int) -> str:
    """Return the key below which are exactly the approvals that count last at ``height``."""
    return f"{EXPIRING_PREFIX}{height + 1:0{_TIME_DIGITS}d}/"


def parse_expiring_key(key: str) -> tuple[int, str, Sha256, NodeId]:
    """Return (height, operation, subject, member) of a key that ``expiring_key`` made."""
    _, height, op, subject, member = key.split("/")
    return int(height), op, Sha256(subject), NodeId(member)


def approvals_key(member: str) -> str:
    """Return the key of the number of a member's approvals that may still count."""
    return f"approvals/{member}"


def happened_key(op: str, subject: str) -> str:
    """Return the key of the height at which an operation happened last."""
    return f"happened/{op}/{subject}"


def guarded_key(height: int, op: str, subject: str) -> str:
    """Return the key that says up to which height it is asked when an operation happened."""
    return f"{GUARDED_PREFIX}{height:0{_TIME_DIGITS}d}/{op}/{subject}"


def guarded_bound(height: int) -> str:
    """Return the key below which are exactly the operations that are asked for up to ``height``."""
    return f"{GUARDED_PREFIX}{height + 1:0{_TIME_DIGITS}d}/"


def parse_guarded_key(key: str) -> tuple[str, Sha256]:
    """Return (operation, subject) of a key that ``guarded_key`` made."""
    _, _, op, subject = key.split("/")
    return op, Sha256(subject)


def change_key(transaction_id: str) -> str:
    """Return the key by which an operation on the set or the parameters is known."""
    return f"change/{transaction_id}"


def key_key(key: bytes) -> str:
    """Return the key that tells to whom a public key belongs that is in no set any more."""
    return f"key/{key.hex()}"


def statement_key(transaction_id: str) -> str:
    """Return the key by which a statement is known."""
    return f"statement/{transaction_id}"


def withdrawn_key(entry: int) -> str:
    """Return the key that says that the entry at a leaf was withdrawn."""
    return f"withdrawn/{entry}"


def revoked_key(sha256: str) -> str:
    """Return the key that says that bytes were revoked."""
    return f"revoked/{sha256}"


def advice_key(member: str) -> str:
    """Return the key of a member's count of advice."""
    return f"advice/{member}"


def source_key(pattern: str) -> str:
    """Return the key of the mapping of a pattern, by SHA-256 of the pattern."""
    return f"{SOURCE_PREFIX}{sha256_of(pattern.encode('ascii'))}"


def param_key(name: str) -> str:
    """Return the key of a changed parameter."""
    return f"{PARAM_PREFIX}{name}"


class Record:
    """What has a JSON form, and by it canonical bytes."""

    __slots__ = ()

    def to_json(self) -> JsonObject:
        """Return the stored form."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.to_json())


@dataclass(frozen=True, slots=True)
class RequestRecord(Record):
    """What was fixed when a request opened.

    Attributes:
        purl: Canonical text.
        claim: Claim class that was asked for.
        sponsor: Who asked.
        uniqueness: Digest of everything the build depends on.
        leaf: Index of the request's leaf.
        opened_ms: Block time of opening.
        class_ms: Length of its time class.
        k: Equal answers that accept.
        members: V_open: the set of that block, sorted; they alone are counted.
        is_sealed: Whether members commit to their items before they show them.
        root: SHA-256 of the root manifest of a mirrored image; empty for everything else.
    """

    purl: str
    claim: str
    sponsor: NodeId
    uniqueness: Sha256
    leaf: int
    opened_ms: int
    class_ms: int
    k: int
    members: tuple[NodeId, ...]
    is_sealed: bool = False
    root: str = ""

    @property
    def is_sighting(self) -> bool:
        """Whether an answer says what a tag was, and so must say when."""
        return bool(self.root) and not is_digest(self.purl.partition("@")[2])

    @property
    def deadline_ms(self) -> int:
        """Block time from which the request is over whatever was said."""
        return self.opened_ms + self.class_ms

    def to_json(self) -> JsonObject:
        """Return the stored form; ``sealed`` and ``root`` stand there only if they are."""
        optional: JsonObject = {"root": self.root} if self.root else {}
        if self.is_sealed:
            optional["sealed"] = 1
        return {
            **optional,
            "claim": self.claim,
            "class_ms": self.class_ms,
            "k": self.k,
            "leaf": self.leaf,
            "members": list(self.members),
            "opened_ms": self.opened_ms,
            "purl": self.purl,
            "sponsor": self.sponsor,
            "uniqueness": self.uniqueness,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> RequestRecord:
        """Return the record that ``to_json`` wrote."""
        got = cast("dict[str, str]", value)
        numbers = cast("dict[str, int]", value)
        return cls(
            purl=got["purl"],
            claim=got["claim"],
            sponsor=NodeId(got["sponsor"]),
            uniqueness=Sha256(got["uniqueness"]),
            leaf=numbers["leaf"],
            opened_ms=numbers["opened_ms"],
            class_ms=numbers["class_ms"],
            k=numbers["k"],
            members=tuple(cast("dict[str, list[NodeId]]", value)["members"]),
            is_sealed="sealed" in got,
            root=got.get("root", ""),
        )


@dataclass(frozen=True, slots=True)
class Slots:
    """Revision slots: each candidate result gets one slot in which the class tries it.

    ``level`` and ``own`` name the class: the members whose own root at that level this is.
    """

    starts_ms: int
    length_ms: int
    level: int
    own: Sha256
    candidates: tuple[Sha256, ...]
    count: int

    @property
    def ends_ms(self) -> int:
        """Block time from which all slots have passed, used or not."""
        return self.starts_ms + self.length_ms * self.count

    def candidate_at(self, time_ms: int) -> Sha256 | None:
        """Return the result that is tried at a block time; None outside and in unused slots."""
        position = (time_ms - self.starts_ms) // self.length_ms
        return self.candidates[position] if 0 <= position < len(self.candidates) else None

    def to_json(self) -> JsonObject:
        """Return the stored form."""
        return {
            "candidates": list(self.candidates),
            "count": self.count,
            "length_ms": self.length_ms,
            "level": self.level,
            "own": self.own,
            "starts_ms": self.starts_ms,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Slots:
        """Return the slots that ``to_json`` wrote."""
        numbers = cast("dict[str, int]", value)
        return cls(
            starts_ms=numbers["starts_ms"],
            length_ms=numbers["length_ms"],
            level=numbers["level"],
            own=Sha256(cast("dict[str, str]", value)["own"]),
            candidates=tuple(cast("dict[str, list[Sha256]]", value)["candidates"]),
            count=numbers["count"],
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an ACCEPTED request was accepted with; late items are held against it.

    ``own`` lists, for each level, the distinct own roots of the attestors, sorted.
    """

    result: Sha256
    level: int
    own: tuple[tuple[Sha256, ...], ...]

    def to_json(self) -> JsonObject:
        """Return the stored form."""
        return {
            "level": self.level,
            "own": [list(roots) for roots in self.own],
            "result": self.result,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Agreement:
        """Return the agreement that ``to_json`` wrote."""
        return cls(
            result=Sha256(cast("dict[str, str]", value)["result"]),
            level=cast("dict[str, int]", value)["level"],
            own=tuple(
                tuple(roots) for roots in cast("dict[str, list[list[Sha256]]]", value)["own"]
            ),
        )


@dataclass(frozen=True, slots=True)
class Tally(Record):
    """Where a request stands.

    Attributes:
        state: OPEN or its outcome.
        due_ms: Block time at which something about it falls due.
        slots: The revision slots, once they run.
        outcome: Leaf index of the outcome once ``state`` is not OPEN.
        agreement: What late items are held against.
        seal_ends_ms: Of a sealed request: until when commits are waited for, once k have come.
        unsealed: Of a sealed request: leaf index from which on its items are shown.
    """

    state: str
    due_ms: int
    slots: Slots | None = None
    outcome: int | None = None
    agreement: Agreement | None = None
    seal_ends_ms: int | None = None
    unsealed: int | None = None

    def to_json(self) -> JsonObject:
        """Return the stored form; what is None is absent."""
        value: JsonObject = {"due_ms": self.due_ms, "state": self.state}
        if self.slots is not None:
            value["slots"] = self.slots.to_json()
        if self.outcome is not None:
            value["outcome"] = self.outcome
        if self.agreement is not None:
            value["agreement"] = self.agreement.to_json()
        if self.seal_ends_ms is not None:
            value["seal_ends_ms"] = self.seal_ends_ms
        if self.unsealed is not None:
            value["unsealed"] = self.unsealed
        return value

    @classmethod
    def from_json(cls, value: JsonValue) -> Tally:
        """Return the tally that ``to_json`` wrote."""
        got = cast("JsonObject", value)
        slots, agreement = got.get("slots"), got.get("agreement")
        return cls(
            state=cast("str", got["state"]),
            due_ms=cast("int", got["due_ms"]),
            slots=None if slots is None else Slots.from_json(slots),
            outcome=cast("int | None", got.get("outcome")),
            agreement=None if agreement is None else Agreement.from_json(agreement),
            seal_ends_ms=cast("int | None", got.get("seal_ends_ms")),
            unsealed=cast("int | None", got.get("unsealed")),
        )


@dataclass(frozen=True, slots=True)
class SponsorRecord(Record):
    """A sponsor's limits: open requests, and the token bucket at ``time_ms``.

    ``credit`` is in request-milliseconds per hour: 3,600,000 of it buy one request, and each
    millisecond of block time brings ``rate_per_hour`` of it. Integers only, so all nodes agree.
    """

    open: int
    credit: int
    time_ms: int

    def to_json(self) -> JsonObject:
        """Return the stored form."""
        return {"credit": self.credit, "open": self.open, "time_ms": self.time_ms}

    @classmethod
    def from_json(cls, value: JsonValue) -> SponsorRecord:
        """Return the record that ``to_json`` wrote."""
        numbers = cast("dict[str, int]", value)
        return cls(numbers["open"], numbers["credit"], numbers["time_ms"])
