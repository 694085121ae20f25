"""Transactions of rules 1: build requests, attest batches, results.

This module reads and writes them and says what is signed; what makes one *valid* depends on the
state and is in ``pyrsia_node.ledger.machine``. ``attest_commit`` is reserved for sealed requests.
Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import CLAIMS, Document
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.fields import Fields, schema_of
from pyrsia_node.model.genesis import CLASSES
from pyrsia_node.model.limits import (
    BATCH_ITEMS_MAX,
    CAUSE_LENGTH_MAX,
    ENVIRONMENT_BYTES_MAX,
    LEAF_BYTES_MAX,
    REQUEST_BYTES_MAX,
)
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.model.signing import SIGNATURE_BYTES, TRANSACTION_TAG, Sign, Verify

LEVELS: Final = (0, 1, 2)
"""Equality levels: same bytes; same after container rules; same after named metadata rules."""

BUILT: Final = "BUILT"
"""Outcome of an item that names a result."""

FAILURES: Final = ("BUILD_FAILED", "REFUSED", "SOURCE_UNAVAILABLE", "TIMEOUT")
"""Outcomes of an item without a result."""

RecipeValue = str | int | bool | tuple[str, ...]
"""A recipe field: text, integer, boolean or a list of texts."""

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_CAUSE: Final = re.compile(rf"[A-Za-z0-9 ._:/()+,=-]{{0,{CAUSE_LENGTH_MAX}}}")
_FIELDS_MAX: Final = 64
_TEXT_LENGTH_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a rebuild starts from. ``kind`` is ``sdist`` in rules 1."""

    kind: str
    file: str
    sha256: Sha256
    size: int

    def to_json(self) -> JsonObject:
        """Return the ``source`` object."""
        return {"file": self.file, "kind": self.kind, "sha256": self.sha256, "size": self.size}

    @classmethod
    def from_json(cls, value: JsonValue) -> Source:
        """Return the source that the object spells; raises InvalidInputError."""
        got = Fields(value, "build_request.source", _SOURCE_MEMBERS)
        return cls(
            kind=got.one_of("kind", ("sdist",)),
            file=got.file_name("file"),
            sha256=got.sha256("sha256"),
            size=got.integer("size", low=0, high=INTEGER_MAX),
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The code that rebuilds: its name, its version and the digest of its description."""

    id: str
    version: int
    digest: Sha256

    def to_json(self) -> JsonObject:
        """Return the ``pipeline`` object."""
        return {"digest": self.digest, "id": self.id, "version": self.version}

    @classmethod
    def from_json(cls, value: JsonValue) -> Pipeline:
        """Return the pipeline that the object spells; raises InvalidInputError."""
        got = Fields(value, "build_request.pipeline", _PIPELINE_MEMBERS)
        return cls(
            id=got.identifier("id"),
            version=got.integer("version", low=0, high=INTEGER_MAX),
            digest=got.sha256("digest"),
        )


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The wish that every member rebuilds one version from exactly these inputs.

    ``until`` is the last block time, in ms, at which the request may be ordered. ``nonce`` is 16
    bytes of hex: it makes two otherwise equal wishes different transactions.
    """

    kind: ClassVar[str] = "build_request"
    sponsor: NodeId
    purl: Purl
    claim: str
    source: Source
    pipeline: Pipeline
    toolchain: Sha256
    lock: Sha256
    recipe: Mapping[str, RecipeValue]
    time_class: str
    until: int
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.sponsor

    def uniqueness(self) -> JsonObject:
        """Return what two open requests must not share: everything a build depends on."""
        recipe: JsonObject = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.recipe.items()
        }
        return {
            "claim": self.claim,
            "lock": self.lock,
            "pipeline": self.pipeline.to_json(),
            "purl": str(self.purl),
            "recipe": recipe,
            "source": self.source.to_json(),
            "toolchain": self.toolchain,
        }

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            **self.uniqueness(),
            "class": self.time_class,
            "nonce": self.nonce,
            "sponsor": self.sponsor,
            "t": "build_request",
            "until": self.until,
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> BuildRequest:
        """Return the request that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal request.
        """
        got = Fields(value, "build_request", _REQUEST_MEMBERS)
        got.schema("build_request")
        purl = Purl.parse(got.text("purl", length_max=PURL_LENGTH_MAX))
        if purl.version is None:
            raise got.refused("purl", "names no version")
        return cls(
            sponsor=parse_member_id(got, "sponsor"),
            purl=purl,
            claim=got.one_of("claim", CLAIMS),
            source=Source.from_json(got.value("source")),
            pipeline=Pipeline.from_json(got.value("pipeline")),
            toolchain=got.sha256("toolchain"),
            lock=got.sha256("lock"),
            recipe=_recipe(got),
            time_class=got.one_of("class", CLASSES),
            until=got.integer("until", low=0, high=INTEGER_MAX),
            nonce=got.hex("nonce", size=16),
        )


@dataclass(frozen=True, slots=True)
class BuiltItem:
    """A member built the request: ``result`` names the doc whose files are equal at ``level``.

    ``own`` are the roots of its own build at the three levels.
    """

    request: Sha256
    result: Sha256
    level: int
    own: tuple[Sha256, Sha256, Sha256]

    def to_json(self) -> JsonObject:
        """Return the item."""
        return {
            "level": self.level,
            "outcome": BUILT,
            "own": list(self.own),
            "req": self.request,
            "result": self.result,
        }


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A member got no result. ``outcome`` is one of ``FAILURES``; ``cause`` a few words."""

    request: Sha256
    outcome: str
    cause: str

    def to_json(self) -> JsonObject:
        """Return the item."""
        return {"cause": self.cause, "outcome": self.outcome, "req": self.request}


Item = BuiltItem | FailedItem


@dataclass(frozen=True, slots=True)
class AttestBatch:
    """What one member says of up to 110 requests. ``seq`` counts its batches from 1."""

    kind: ClassVar[str] = "attest_batch"
    voter: NodeId
    seq: int
    items: tuple[Item, ...]
    environment: Mapping[str, str | int]

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.voter

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        environment: JsonObject = dict(self.environment)
        return {
            "env": environment,
            "items": [item.to_json() for item in self.items],
            "seq": self.seq,
            "t": "attest_batch",
            "v": 1,
            "voter": self.voter,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> AttestBatch:
        """Return the batch that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal batch, or two items about one request.
        """
        got = Fields(value, "attest_batch", _BATCH_MEMBERS)
        got.schema("attest_batch")
        items = tuple(
            parse_item(each)
            for each in got.array("items", length_min=1, length_max=BATCH_ITEMS_MAX)
        )
        # An item is the member's latest word; two in one transaction would be two last words.
        if len({item.request for item in items}) != len(items):
            raise got.refused("items", "speak of one request twice")
        return cls(
            voter=parse_member_id(got, "voter"),
            seq=got.integer("seq", low=1, high=INTEGER_MAX),
            items=items,
            environment=_environment(got),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The document that items name by its digest, put into the log by one of their voters."""

    kind: ClassVar[str] = "result"
    voter: NodeId
    request: Sha256
    document: Document

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.voter

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "doc": self.document.to_json(),
            "req": self.request,
            "t": "result",
            "v": 1,
            "voter": self.voter,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Result:
        """Return the result that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal result.
        """
        got = Fields(value, "result", _RESULT_MEMBERS)
        got.schema("result")
        return cls(
            voter=parse_member_id(got, "voter"),
            request=got.sha256("req"),
            document=Document.from_json(got.value("doc"), "result.doc"),
        )


Transaction = BuildRequest | AttestBatch | Result


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction with its one signature, its bytes, and its id in one network.

    Attributes:
        body: The transaction.
        signature: The author's, over ``signed_bytes``.
        encoded: The canonical bytes with ``sigs``: the leaf.
        signed_bytes: Tag, network id, canonical transaction without ``sigs``.
        id: SHA-256 of ``signed_bytes``: it does not depend on the signature's bytes.
    """

    body: Transaction
    signature: bytes
    encoded: bytes
    signed_bytes: bytes
    id: Sha256

    def verify(self, key: bytes, verify: Verify) -> None:
        """Check the author's signature.

        Args:
            key: The author's ``tx`` key in the current set.
            verify: The signature check.

        Raises:
            VerificationError: It does not hold.
        """
        if not verify(key, self.signed_bytes, self.signature):
            raise VerificationError(
                f"transaction {self.id}: signature of {self.body.author} does not hold "
                f"under key {key.hex()}"
            )


def sign_transaction(body: Transaction, *, network_id: bytes, sign: Sign) -> SignedTransaction:
    """Return ``body`` signed by its author.

    Args:
        body: The transaction.
        network_id: The 32-byte id of the network for which it is meant.
        sign: Signs with the author's ``tx`` key.

    Raises:
        InvalidInputError: The transaction breaks a limit or a rule of its schema.
    """
    signed_bytes = TRANSACTION_TAG + network_id + canonical.dumps(body.to_json())
    sigs: list[JsonValue] = [{"by": body.author, "sig": sign(signed_bytes).hex()}]
    encoded = canonical.dumps({**body.to_json(), "sigs": sigs})
    return decode_transaction(encoded, network_id=network_id)


def decode_transaction(data: bytes, *, network_id: bytes) -> SignedTransaction:
    """Return the transaction that ``data`` spells; its signature is not yet checked.

    Raises:
        InvalidInputError: Not canonical, of no known schema, over a limit, or not signed by
            exactly its author.
    """
    value = canonical.loads_object(data, bytes_max=LEAF_BYTES_MAX)
    kind = schema_of(value)
    sigs = value.pop("sigs", None)
    body: Transaction
    match kind:
        case "build_request":
            if len(data) > REQUEST_BYTES_MAX:
                raise InvalidInputError(
                    f"build_request of {len(data)} bytes exceeds {REQUEST_BYTES_MAX}"
                )
            body = BuildRequest.from_json(value)
        case "attest_batch":
            body = AttestBatch.from_json(value)
        case "result":
            body = Result.from_json(value)
        case _:
            raise InvalidInputError(f"no transaction of rules 1 is of schema {kind!r:.40}")
    signed_bytes = TRANSACTION_TAG + network_id + canonical.dumps(value)
    return SignedTransaction(
        body=body,
        signature=_signature(sigs, kind, body.author),
        encoded=data,
        signed_bytes=signed_bytes,
        id=sha256_of(signed_bytes),
    )


def _signature(sigs: JsonValue | None, kind: str, author: str) -> bytes:
    if not isinstance(sigs, list) or len(sigs) != 1:
        raise InvalidInputError(f"{kind}: sigs is not an array of one signature")
    got = Fields(sigs[0], f"{kind}.sigs", frozenset({"by", "sig"}))
    if parse_member_id(got, "by") != author:
        raise got.refused("by", f"is not the author {author}")
    return got.raw("sig", size=SIGNATURE_BYTES)


def parse_item(value: JsonValue) -> Item:
    """Return the item that the object spells.

    Raises:
        InvalidInputError: Not a legal item.
    """
    outcome = value.get("outcome") if isinstance(value, dict) else None
    if outcome != BUILT:
        got = Fields(value, "attest_batch.items", _FAILED_MEMBERS)
        return FailedItem(
            request=got.sha256("req"),
            outcome=got.one_of("outcome", FAILURES),
            cause=got.matching("cause", _CAUSE, "up to 32 plain ASCII characters"),
        )
    got = Fields(value, "attest_batch.items", _BUILT_MEMBERS)
    level0, level1, level2 = got.digests("own", count=len(LEVELS))
    return BuiltItem(
        request=got.sha256("req"),
        result=got.sha256("result"),
        level=got.integer("level", low=min(LEVELS), high=max(LEVELS)),
        own=(level0, level1, level2),
    )


def _recipe(got: Fields) -> dict[str, RecipeValue]:
    recipe: dict[str, RecipeValue] = {}
    for key, value in got.mapping("recipe", count_max=_FIELDS_MAX).items():
        if not _KEY.fullmatch(key):
            raise got.refused("recipe", f"has the field name {key!r:.80}")
        if isinstance(value, dict):
            raise got.refused("recipe", f"field {key} is an object")
        if isinstance(value, list):
            texts = tuple(each for each in value if isinstance(each, str))
            if len(texts) != len(value):
                raise got.refused("recipe", f"field {key} is not a list of texts")
            recipe[key] = texts
        else:
            recipe[key] = value
    return recipe


def _environment(got: Fields) -> dict[str, str | int]:
    environment: dict[str, str | int] = {}
    members = got.mapping("env", count_max=_FIELDS_MAX)
    for key, value in members.items():
        if not _KEY.fullmatch(key):
            raise got.refused("env", f"has the field name {key!r:.80}")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise got.refused("env", f"field {key} is neither text nor integer")
        environment[key] = value
    if len(canonical.dumps(members)) > ENVIRONMENT_BYTES_MAX:
        raise got.refused("env", f"exceeds {ENVIRONMENT_BYTES_MAX} bytes")
    return environment


_SOURCE_MEMBERS: Final = frozenset({"file", "kind", "sha256", "size"})
_PIPELINE_MEMBERS: Final = frozenset({"digest", "id", "version"})
_REQUEST_MEMBERS: Final = frozenset(
    {
        *("claim", "class", "lock", "nonce", "pipeline", "purl", "recipe"),
        *("source", "sponsor", "t", "toolchain", "until", "v"),
    }
)
_BATCH_MEMBERS: Final = frozenset({"env", "items", "seq", "t", "v", "voter"})
_BUILT_MEMBERS: Final = frozenset({"level", "outcome", "own", "req", "result"})
_FAILED_MEMBERS: Final = frozenset({"cause", "outcome", "req"})
_RESULT_MEMBERS: Final = frozenset({"doc", "req", "t", "v", "voter"})
