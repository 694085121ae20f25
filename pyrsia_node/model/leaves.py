"""Leaves that are no transactions: the header of a block and the outcomes.

Outcomes are derived by every node and never transmitted, so their bytes must be the same
everywhere; golden hashes of every schema are in tests/vectors/ledger/golden-leaves.toml.
Specification: docs/spec/leaves.md, "Outcomes"; the ``set`` leaf is in ``members``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields, schema_of
from pyrsia_node.model.genesis import RULES
from pyrsia_node.model.items import MOVED, moved_member, parse_moved
from pyrsia_node.model.limits import CAUSE_LENGTH_MAX, LEAF_BYTES_MAX, MEMBERS_MAX
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.model.transactions import FAILURES, LEVELS

_VIEW_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Header:
    """The first leaf of a block; its leaf hash is the block's identity.

    ``view`` and ``proposer`` are those of the first proposal; a re-proposal keeps them.
    ``n_leaves`` counts the leaves after the header. ``time_ms`` is Unix time. ``snapshot_root``
    stands exactly in headers that end an epoch and at every 10,000th height.
    """

    network: Sha256
    height: int
    parent: Sha256
    prev_size: int
    prev_root: Sha256
    view: int
    proposer: NodeId
    time_ms: int
    n_leaves: int
    body_root: Sha256
    state_root: Sha256
    set: Sha256
    next_set: Sha256
    prev_epoch_height: int
    parent_cert: Sha256
    snapshot_root: Sha256 | None = None

    @property
    def size(self) -> int:
        """The tree size after the block."""
        return self.prev_size + 1 + self.n_leaves

    def encode(self) -> bytes:
        """Return the bytes of the leaf."""
        snapshot = self.snapshot_root
        optional: JsonObject = {} if snapshot is None else {"snapshot_root": snapshot}
        return canonical.dumps(
            {
                **optional,
                "body_root": self.body_root,
                "height": self.height,
                "n_leaves": self.n_leaves,
                "network": self.network,
                "next_set": self.next_set,
                "parent": self.parent,
                "parent_cert": self.parent_cert,
                "prev_epoch_height": self.prev_epoch_height,
                "prev_root": self.prev_root,
                "prev_size": self.prev_size,
                "proposer": self.proposer,
                "rules": RULES,
                "set": self.set,
                "state_root": self.state_root,
                "t": "block",
                "time_ms": self.time_ms,
                "v": 1,
                "view": self.view,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Return the header that the bytes of the leaf spell.

        Raises:
            InvalidInputError: Not a legal header, or of rules that this code does not know.
        """
        value = canonical.loads(data, bytes_max=LEAF_BYTES_MAX)
        has_snapshot = isinstance(value, dict) and "snapshot_root" in value
        members = _HEADER_MEMBERS | {"snapshot_root"} if has_snapshot else _HEADER_MEMBERS
        got = Fields(value, "block", members)
        got.schema("block")
        rules = got.integer("rules", low=1, high=INTEGER_MAX)
        if rules != RULES:
            raise got.refused("rules", f"is {rules}; this program knows {RULES}: upgrade it")
        return cls(
            network=got.sha256("network"),
            height=got.integer("height", low=1, high=INTEGER_MAX),
            parent=got.sha256("parent"),
            prev_size=got.integer("prev_size", low=2, high=INTEGER_MAX),
            prev_root=got.sha256("prev_root"),
            view=got.integer("view", low=0, high=_VIEW_MAX),
            proposer=parse_member_id(got, "proposer"),
            time_ms=got.integer("time_ms", low=0, high=INTEGER_MAX),
            n_leaves=got.integer("n_leaves", low=1, high=INTEGER_MAX),
            body_root=got.sha256("body_root"),
            state_root=got.sha256("state_root"),
            set=got.sha256("set"),
            next_set=got.sha256("next_set"),
            prev_epoch_height=got.integer("prev_epoch_height", low=0, high=INTEGER_MAX),
            parent_cert=got.sha256("parent_cert"),
            snapshot_root=got.sha256("snapshot_root") if has_snapshot else None,
        )


@dataclass(frozen=True, slots=True)
class Attestor:
    """A member whose item counted: its batch's leaf index and the level it claims."""

    id: NodeId
    leaf: int
    level: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A member that built something else: its own root at level 0."""

    id: NodeId
    own: Sha256


@dataclass(frozen=True, slots=True)
class ResultClass:
    """Members that named one result with the same own roots; ``ids`` ascend."""

    own: tuple[Sha256, ...]
    ids: tuple[NodeId, ...]
    result: Sha256


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a member got no result; of MOVED the digest that it saw instead, and when (Unix ms)."""

    id: NodeId
    outcome: str
    cause: str
    moved: str = ""
    seen_ms: int | None = None

    def to_json(self) -> JsonObject:
        """Return the element of ``causes``."""
        seen: JsonObject = {} if self.seen_ms is None else {"seen": self.seen_ms}
        return {
            **moved_member(self.moved),
            **seen,
            "cause": self.cause,
            "id": self.id,
            "outcome": self.outcome,
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """k members agree on the doc. ``level`` is the smallest at which k of them do."""

    request: Sha256
    document: Document
    k: int
    level: int
    attestors: tuple[Attestor, ...]
    differ: tuple[Difference, ...]

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {
            "attestors": [{"id": a.id, "leaf": a.leaf, "level": a.level} for a in self.attestors],
            "differ": [{"id": d.id, "own": d.own} for d in self.differ],
            "doc": self.document.to_json(),
            "k": self.k,
            "level": self.level,
            "req": self.request,
            "t": "accepted",
            "v": 1,
        }


@dataclass(frozen=True, slots=True)
class Diverged:
    """Enough members built, and no k agree: who got what."""

    request: Sha256
    purl: Purl
    classes: tuple[ResultClass, ...]

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {
            "classes": [
                {"ids": list(c.ids), "own": list(c.own), "result": c.result} for c in self.classes
            ],
            "purl": str(self.purl),
            "req": self.request,
            "t": "diverged",
            "v": 1,
        }


@dataclass(frozen=True, slots=True)
class Failed:
    """Too few members can still build: why each of the others could not."""

    request: Sha256
    purl: Purl
    causes: tuple[Cause, ...]

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {
            "causes": [each.to_json() for each in self.causes],
            "purl": str(self.purl),
            "req": self.request,
            "t": "failed",
            "v": 1,
        }


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline passed without another outcome: who was silent."""

    request: Sha256
    purl: Purl
    silent: tuple[NodeId, ...]

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {
            "purl": str(self.purl),
            "req": self.request,
            "silent": list(self.silent),
            "t": "expired",
            "v": 1,
        }


@dataclass(frozen=True, slots=True)
class Level:
    """Late items show an accepted entry equal at a lower level than was known."""

    request: Sha256
    level: int

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {"level": self.level, "req": self.request, "t": "level", "v": 1}


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A sealed request takes no more commits: those who made one may now show their items.

    It decides nothing; it is the border in the log between what was promised and what is shown.
    """

    request: Sha256
    committed: tuple[NodeId, ...]

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {"committed": list(self.committed), "req": self.request, "t": "unsealed", "v": 1}


@dataclass(frozen=True, slots=True)
class LateDivergence:
    """A late item of a member that built something else than what was accepted."""

    request: Sha256
    id: NodeId
    own: Sha256

    def to_json(self) -> JsonObject:
        """Return the leaf's object."""
        return {"id": self.id, "own": self.own, "req": self.request, "t": "late_divergence", "v": 1}


Outcome = Accepted | Diverged | Failed | Expired | Unsealed | Level | LateDivergence
"""A leaf about a request that the state machine derives."""


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the bytes of the leaf."""
    return canonical.dumps(outcome.to_json())


def decode_outcome(data: bytes) -> Outcome:
    """Return the outcome that the bytes of a leaf spell.

    Raises:
        InvalidInputError: Not a legal outcome leaf.
    """
    value = canonical.loads_object(data, bytes_max=LEAF_BYTES_MAX)
    kind = schema_of(value)
    members = _OUTCOME_MEMBERS.get(kind)
    if members is None:
        raise InvalidInputError(f"no outcome of rules 1 is of schema {kind!r:.40}")
    got = Fields(value, kind, members)
    got.schema(kind)
    match kind:
        case "accepted":
            return _accepted(got)
        case "diverged":
            classes = got.array("classes", length_max=MEMBERS_MAX)
            return Diverged(got.sha256("req"), _purl(got), tuple(_class(e) for e in classes))
        case "failed":
            causes = got.array("causes", length_max=MEMBERS_MAX)
            return Failed(got.sha256("req"), _purl(got), tuple(_cause(e) for e in causes))
        case "expired":
            silent = got.texts("silent", count_max=MEMBERS_MAX, length_max=64)
            return Expired(got.sha256("req"), _purl(got), tuple(NodeId(e) for e in silent))
        case "unsealed":
            committed = got.texts("committed", count_max=MEMBERS_MAX, length_max=64)
            return Unsealed(got.sha256("req"), tuple(NodeId(e) for e in committed))
        case "level":
            return Level(got.sha256("req"), _level(got))
        case _:
            return LateDivergence(got.sha256("req"), parse_member_id(got, "id"), got.sha256("own"))


def _accepted(got: Fields) -> Accepted:
    return Accepted(
        request=got.sha256("req"),
        document=Document.from_json(got.value("doc"), "accepted.doc"),
        k=got.integer("k", low=1, high=MEMBERS_MAX),
        level=_level(got),
        attestors=tuple(_attestor(e) for e in got.array("attestors", length_max=MEMBERS_MAX)),
        differ=tuple(_difference(e) for e in got.array("differ", length_max=MEMBERS_MAX)),
    )


def _attestor(value: JsonValue) -> Attestor:
    got = Fields(value, "accepted.attestors", frozenset({"id", "leaf", "level"}))
    leaf = got.integer("leaf", low=0, high=INTEGER_MAX)
    return Attestor(id=parse_member_id(got, "id"), leaf=leaf, level=_level(got))


def _difference(value: JsonValue) -> Difference:
    got = Fields(value, "accepted.differ", frozenset({"id", "own"}))
    return Difference(id=parse_member_id(got, "id"), own=got.sha256("own"))


def _class(value: JsonValue) -> ResultClass:
    got = Fields(value, "diverged.classes", frozenset({"ids", "own", "result"}))
    ids = got.texts("ids", count_max=MEMBERS_MAX, length_max=64)
    return ResultClass(
        own=got.digests("own", count=len(LEVELS)),
        ids=tuple(NodeId(each) for each in ids),
        result=got.sha256("result"),
    )


def _cause(value: JsonValue) -> Cause:
    has_moved = isinstance(value, dict) and value.get("outcome") == MOVED
    moved = frozenset({"moved", "seen"}) if has_moved else frozenset()
    got = Fields(value, "failed.causes", frozenset({"cause", "id", "outcome"}) | moved)
    return Cause(
        id=parse_member_id(got, "id"),
        outcome=got.one_of("outcome", FAILURES),
        cause=got.text("cause", length_max=CAUSE_LENGTH_MAX),
        moved=parse_moved(got) if moved else "",
        seen_ms=got.integer("seen", low=0, high=INTEGER_MAX) if moved else None,
    )


def _level(got: Fields) -> int:
    return got.integer("level", low=min(LEVELS), high=max(LEVELS))


def _purl(got: Fields) -> Purl:
    return Purl.parse(got.text("purl", length_max=PURL_LENGTH_MAX))


_HEADER_MEMBERS: Final = frozenset(
    {
        *("body_root", "height", "n_leaves", "network", "next_set", "parent", "parent_cert"),
        *("prev_epoch_height", "prev_root", "prev_size", "proposer", "rules", "set"),
        *("state_root", "t", "time_ms", "v", "view"),
    }
)
_OUTCOME_MEMBERS: Final = {
    "accepted": frozenset({"attestors", "differ", "doc", "k", "level", "req", "t", "v"}),
    "diverged": frozenset({"classes", "purl", "req", "t", "v"}),
    "failed": frozenset({"causes", "purl", "req", "t", "v"}),
    "expired": frozenset({"purl", "req", "silent", "t", "v"}),
    "unsealed": frozenset({"committed", "req", "t", "v"}),
    "level": frozenset({"level", "req", "t", "v"}),
    "late_divergence": frozenset({"id", "own", "req", "t", "v"}),
}
