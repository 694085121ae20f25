"""Transactions about builds: the wish, what members say of it, the document they name.

A request opens; each member answers by items in its attest batches; a result carries the document
that items name by digest. In a sealed network a member first commits to its item by a hash.
What makes one *valid* depends on the state and is in ``pyrsia_node.ledger.machine``.
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
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import CLAIMS, Document
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.genesis import CLASSES
from pyrsia_node.model.items import Item, parse_item
from pyrsia_node.model.limits import BATCH_ITEMS_MAX, ENVIRONMENT_BYTES_MAX
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.model.sources import Source, check_source

RecipeValue = str | int | bool | tuple[str, ...]
"""A recipe field: text, integer, boolean or a list of texts."""

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_FIELDS_MAX: Final = 64
_TEXT_LENGTH_MAX: Final = 4_000


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
        return {
            "claim": self.claim,
            "lock": self.lock,
            "pipeline": self.pipeline.to_json(),
            "purl": str(self.purl),
            "recipe": recipe_object(self.recipe),
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
        source = Source.from_json(got.value("source"))
        claim = got.one_of("claim", CLAIMS)
        check_source(source, purl, claim)
        return cls(
            sponsor=parse_member_id(got, "sponsor"),
            purl=purl,
            claim=claim,
            source=source,
            pipeline=Pipeline.from_json(got.value("pipeline")),
            toolchain=got.sha256("toolchain"),
            lock=got.sha256("lock"),
            recipe=parse_recipe(got),
            time_class=got.one_of("class", CLASSES),
            until=got.integer("until", low=0, high=INTEGER_MAX),
            nonce=got.hex("nonce", size=16),
        )


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


@dataclass(frozen=True, slots=True)
class AttestCommit:
    """A member's promise of its item in a sealed network, before anybody shows one.

    ``commit`` is SHA-256 over a salt, the item and the voter: see ``pyrsia_node.model.sealing``.
    """

    kind: ClassVar[str] = "attest_commit"
    voter: NodeId
    request: Sha256
    commit: Sha256

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.voter

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "commit": self.commit,
            "req": self.request,
            "t": "attest_commit",
            "v": 1,
            "voter": self.voter,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> AttestCommit:
        """Return the promise that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal promise.
        """
        got = Fields(value, "attest_commit", _COMMIT_MEMBERS)
        got.schema("attest_commit")
        return cls(
            voter=parse_member_id(got, "voter"),
            request=got.sha256("req"),
            commit=got.sha256("commit"),
        )


def recipe_object(recipe: Mapping[str, RecipeValue]) -> JsonObject:
    """Return the ``recipe`` object."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in recipe.items()
    }


def parse_recipe(got: Fields) -> dict[str, RecipeValue]:
    """Return the fields of member ``recipe``.

    Raises:
        InvalidInputError: Not an object of texts, integers, booleans and lists of texts.
    """
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


_PIPELINE_MEMBERS: Final = frozenset({"digest", "id", "version"})
_REQUEST_MEMBERS: Final = frozenset(
    {
        *("claim", "class", "lock", "nonce", "pipeline", "purl", "recipe"),
        *("source", "sponsor", "t", "toolchain", "until", "v"),
    }
)
_BATCH_MEMBERS: Final = frozenset({"env", "items", "seq", "t", "v", "voter"})
_COMMIT_MEMBERS: Final = frozenset({"commit", "req", "t", "v", "voter"})
_RESULT_MEMBERS: Final = frozenset({"doc", "req", "t", "v", "voter"})
