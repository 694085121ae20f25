"""The genesis: the first authority set and the parameters; its hash is the network's identity.

Leaf 0 of the log is exactly these bytes, leaf 1 the ``set`` leaf of epoch 0.
Specification: docs/spec/leaves.md, "Genesis, members, sets"; the height 0 rules stand there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.limits import LEAF_BYTES_MAX, MEMBERS_MAX
from pyrsia_node.model.members import SetLeaf, SignedMember, check_distinct
from pyrsia_node.model.signing import Verify

RULES: Final = 1
"""The rules number that this code implements; the header of every block carries one."""

CLASSES: Final = ("L", "M", "S")
"""Deadline classes of a request: long, medium, short."""

CLASS_MS_MIN: Final = 1_000
"""Shortest deadline of a class, in milliseconds of block time."""

CLASS_MS_MAX: Final = 7 * 24 * 3_600_000
"""Longest deadline of a class, in milliseconds of block time."""

COUNT_MAX: Final = 1_000_000
"""Largest value of a parameter that counts requests."""

ECOSYSTEM: Final = re.compile(r"[a-z][a-z0-9.-]{0,31}")
"""Form of an ecosystem's name: the type of a package URL."""

ECOSYSTEMS_MAX: Final = 32
"""Ecosystems that one network rebuilds."""

_NAME: Final = re.compile(r"[a-z0-9.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the state machine, fixed at genesis.

    Attributes:
        min_authorized: Fewest members with which build requests are valid.
        open_max: Open requests a sponsor may have.
        rate_per_hour: Requests an hour that refill a sponsor's bucket.
        burst: Size of that bucket, in requests.
        k: For each ecosystem that the network rebuilds, how many equal answers are needed;
            0 means the quorum of the members at opening, anything else at least f + 1.
        class_ms: Milliseconds of block time until the deadline, for each class.
    """

    min_authorized: int
    open_max: int
    rate_per_hour: int
    burst: int
    k: Mapping[str, int]
    class_ms: Mapping[str, int]

    def to_json(self) -> JsonObject:
        """Return the ``params`` object."""
        return {
            "burst": self.burst,
            "class_ms": dict(self.class_ms),
            "k": dict(self.k),
            "min_authorized": self.min_authorized,
            "open_max": self.open_max,
            "rate_per_hour": self.rate_per_hour,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Params:
        """Return the parameters that the object spells.

        Raises:
            InvalidInputError: Not a legal ``params`` object.
        """
        got = Fields(value, "genesis.params", _PARAMS_MEMBERS)
        classes = Fields(got.value("class_ms"), "genesis.params.class_ms", frozenset(CLASSES))
        thresholds = got.mapping("k", count_max=ECOSYSTEMS_MAX)
        for ecosystem in thresholds:
            if not ECOSYSTEM.fullmatch(ecosystem):
                raise got.refused("k", f"names {ecosystem!r:.40}, which is no ecosystem")
        by_name = Fields(thresholds, "genesis.params.k", frozenset(thresholds))
        return cls(
            min_authorized=got.integer("min_authorized", low=1, high=MEMBERS_MAX),
            open_max=got.integer("open_max", low=1, high=COUNT_MAX),
            rate_per_hour=got.integer("rate_per_hour", low=1, high=COUNT_MAX),
            burst=got.integer("burst", low=1, high=COUNT_MAX),
            k={each: by_name.integer(each, low=0, high=MEMBERS_MAX) for each in thresholds},
            class_ms={
                each: classes.integer(each, low=CLASS_MS_MIN, high=CLASS_MS_MAX) for each in CLASSES
            },
        )


DEFAULT_PARAMS: Final = Params(
    min_authorized=3,
    open_max=64,
    rate_per_hour=600,
    burst=64,
    k={"docker": 0, "maven": 0, "pypi": 0},
    class_ms={"L": 6 * 3_600_000, "M": 3_600_000, "S": 600_000},
)
"""Parameters of a network that asks for nothing else."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first state of a network. ``time_ms`` is Unix time; members are sorted by id."""

    name: str
    time_ms: int
    members: tuple[SignedMember, ...]
    params: Params

    def encode(self) -> bytes:
        """Return the canonical bytes: the content of ``genesis.json`` and leaf 0."""
        members: list[JsonValue] = [member.to_json() for member in self.members]
        return canonical.dumps(
            {
                "members": members,
                "name": self.name,
                "params": self.params.to_json(),
                "rules": RULES,
                "t": "genesis",
                "time_ms": self.time_ms,
                "v": 1,
            }
        )

    @property
    def network_id(self) -> bytes:
        """SHA-256 of the canonical bytes, 32 bytes."""
        return bytes.fromhex(sha256_of(self.encode()))

    @property
    def origin(self) -> str:
        """The origin line of the network's checkpoints."""
        return f"{self.name}-{self.network_id.hex()[:8]}/log"

    def set_leaf(self) -> SetLeaf:
        """Return the set of epoch 0."""
        members = tuple(member.record for member in self.members)
        return SetLeaf(epoch=0, prev=ZERO_SHA256, members=members)

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """Return the genesis in ``data``; signatures are not yet checked.

        Raises:
            InvalidInputError: Not a legal genesis, or of rules that this code does not know.
        """
        got = Fields(canonical.loads(data, bytes_max=LEAF_BYTES_MAX), "genesis", _MEMBERS)
        got.schema("genesis")
        rules = got.integer("rules", low=1, high=INTEGER_MAX)
        if rules != RULES:
            raise InvalidInputError(f"genesis is of rules {rules}; this program knows {RULES}")
        genesis = cls(
            name=got.matching("name", _NAME, "1 to 64 characters of [a-z0-9.-]"),
            time_ms=got.integer("time_ms", low=0, high=INTEGER_MAX),
            members=tuple(
                SignedMember.from_json(each, "genesis.members")
                for each in got.array("members", length_min=1, length_max=MEMBERS_MAX)
            ),
            params=Params.from_json(got.value("params")),
        )
        check_distinct(genesis.set_leaf().members)
        return genesis

    def verify(self, verify: Verify) -> None:
        """Check every member's signatures and id.

        Raises:
            VerificationError: One does not hold; the text names the member.
        """
        for member in self.members:
            member.verify(verify)


def make_genesis(
    name: str,
    *,
    time_ms: int,
    members: Iterable[SignedMember],
    verify: Verify,
    params: Params = DEFAULT_PARAMS,
) -> Genesis:
    """Return the genesis of a new network, checked as one from outside is.

    Args:
        name: The network's name, 1..64 characters of [a-z0-9.-].
        time_ms: Unix time of creation.
        members: The first authority set, in any order.
        verify: The signature check.
        params: The parameters.

    Raises:
        InvalidInputError: A name, a parameter or the set is not legal, or it is too large.
        VerificationError: A member's signature does not hold.
    """
    ordered = tuple(sorted(members, key=lambda member: member.record.id))
    genesis = Genesis.decode(
        Genesis(name=name, time_ms=time_ms, members=ordered, params=params).encode()
    )
    genesis.verify(verify)
    return genesis


_PARAMS_MEMBERS: Final = frozenset(
    {"burst", "class_ms", "k", "min_authorized", "open_max", "rate_per_hour"}
)
_MEMBERS: Final = frozenset({"members", "name", "params", "rules", "t", "time_ms", "v"})
