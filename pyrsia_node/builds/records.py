"""What the build service keeps in the core's store, under ``builds/``.

=====================  ===================================================================
``builds/job/<id>``    a build that somebody asked this node for (canonical JSON)
``builds/item/<req>``  this node's own answer to a request: durable before it leaves, so that
                       a restart sends the same answer again instead of building another
``builds/follow/…``    tags that are followed: ``follow_records``
``builds/doc/<hex>``   locks, toolchains, explanations by SHA-256; any node may serve them
=====================  ===================================================================
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.builds.follow_records import FollowRecords
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError
from pyrsia_node.model.items import SALT_BYTES
from pyrsia_node.ports import KeyValueStore

DOCUMENT_BYTES_MAX: Final = 1024 * 1024
RECORD_BYTES_MAX: Final = 256 * 1024
JOBS_KEPT_MAX: Final = 1000

_JOB: Final = b"builds/job/"
_ITEM: Final = b"builds/item/"
_DOCUMENT: Final = b"builds/doc/"

ENDED: Final = frozenset({"accepted", "diverged", "failed", "expired", "refused"})
"""States of a build that nothing changes any more."""


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build that was asked of this node. Times are Unix milliseconds; "" is "not yet".

    Of an image: ``platforms`` separated by commas, "" for all, and ``pinned``, the digest that
    whoever asked saw under the tag. Of one to be rebuilt: ``options``, canonical JSON.
    """

    build_id: str
    purl: str
    time_class: str
    state: str
    stage: str
    detail: str
    request: str
    sponsor: str
    forwarded_by: str
    started_ms: int
    updated_ms: int
    platforms: str = ""
    pinned: str = ""
    options: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.state in ENDED

    def at(self, state: str, stage: str, detail: str, *, now_ms: int) -> BuildRecord:
        """Return the record one step on; ``detail`` is cut to 2,000 characters.

        Both texts may come from a build: what is no proper text is replaced, never refused.
        """
        return replace(
            self,
            state=state,
            stage=printable(stage, 200),
            detail=printable(detail, 2000),
            updated_ms=now_ms,
        )


@dataclass(frozen=True, slots=True)
class OwnItem:
    """This node's answer to one request: the item, and the document it names (BUILT only)."""

    item: JsonObject
    document: Document | None
    environment: JsonObject

    def salted(self) -> OwnItem:
        """Return the answer with a fresh salt, to be promised before it is shown."""
        return replace(self, item={**self.item, "salt": secrets.token_hex(SALT_BYTES)})


def printable(text: str, length_max: int) -> str:
    """Return at most ``length_max`` characters of ``text``, lone surrogates replaced."""
    return text[:length_max].encode("utf-8", "replace").decode("utf-8")


class BuildRecords:
    """Reads and writes the records; every write is durable on return."""

    def __init__(self, store: KeyValueStore) -> None:
        """Use the core's store."""
        self._store = store

    def follows(self) -> FollowRecords:
        """Return the records of followed tags, which lie beside these."""
        return FollowRecords(self._store)

    def save(self, record: BuildRecord) -> None:
        """Write a build, replacing its earlier state."""
        value: JsonObject = {
            name: getattr(record, name) for name in BuildRecord.__dataclass_fields__
        }
        self._store.write([(_JOB + record.build_id.encode(), canonical.dumps(value))], sync=True)

    def all(self) -> list[BuildRecord]:
        """Return every build, newest first."""
        found = [self._record(value) for _, value in self._store.scan(_JOB)]
        return sorted(found, key=lambda record: (-record.started_ms, record.build_id))

    def get(self, build_id: str) -> BuildRecord:
        """Return one build.

        Raises:
            NotFoundError: this node knows no such build.
        """
        value = self._store.get(_JOB + build_id.encode("utf-8", "replace"))
        if value is None:
            raise NotFoundError(
                f"build '{build_id}' was not found on this node; a package that is already"
                " in the log is shown by inspect-log"
            )
        return self._record(value)

    def prune(self) -> None:
        """Forget the oldest ended builds beyond ``JOBS_KEPT_MAX``."""
        ended = [record for record in self.all() if record.has_ended]
        stale = ended[JOBS_KEPT_MAX:]
        if stale:
            self._store.write([(_JOB + r.build_id.encode(), None) for r in stale], sync=False)

    def save_item(self, request: Sha256, own: OwnItem) -> None:
        """Keep this node's answer to ``request`` before anybody hears it.

        Raises:
            InvalidInputError: it is larger than what ``item`` reads back.
        """
        value: JsonObject = {"item": own.item, "env": own.environment}
        if own.document is not None:
            value["doc"] = own.document.to_json()
        encoded = canonical.dumps(value)
        if len(encoded) > RECORD_BYTES_MAX:
            raise InvalidInputError(
                f"answer to {request} has {len(encoded)} bytes, more than {RECORD_BYTES_MAX}"
            )
        self._store.write([(_ITEM + request.encode(), encoded)], sync=True)

    def item(self, request: Sha256) -> OwnItem | None:
        """Return this node's answer to ``request``, if it has one."""
        raw = self._store.get(_ITEM + request.encode())
        if raw is None:
            return None
        value = self._object(raw)
        item, environment = value.get("item"), value.get("env")
        if not isinstance(item, dict) or not isinstance(environment, dict):
            raise CorruptStateError(f"builds/item/{request}: not an answer to a request")
        document = Document.from_json(value["doc"]) if "doc" in value else None
        return OwnItem(item, document, environment)

    def add_document(self, document: bytes) -> Sha256:
        """Keep a lock, toolchain or explanation; return its digest.

        Raises:
            InvalidInputError: it exceeds 1 MiB.
        """
        if len(document) > DOCUMENT_BYTES_MAX:
            raise InvalidInputError(f"document of {len(document)} bytes exceeds 1 MiB")
        digest = sha256_of(document)
        self._store.write([(_DOCUMENT + digest.encode(), document)], sync=True)
        return digest

    def document(self, digest: str) -> bytes | None:
        """Return the document with this SHA-256, if it is here."""
        return self._store.get(_DOCUMENT + digest.encode())

    def _object(self, raw: bytes) -> JsonObject:
        try:
            return canonical.loads_object(raw, bytes_max=RECORD_BYTES_MAX)
        except InvalidInputError as error:
            raise CorruptStateError(
                f"core.leveldb builds/: {error}; run pyrsia-node fsck"
            ) from error

    def _record(self, raw: bytes) -> BuildRecord:
        value = self._object(raw)

        def text(name: str) -> str:
            found: JsonValue = value.get(name, "")
            return found if isinstance(found, str) else ""

        def integer(name: str) -> int:
            found: JsonValue = value.get(name, 0)
            return found if type(found) is int else 0

        return BuildRecord(
            build_id=text("build_id"),
            purl=text("purl"),
            time_class=text("time_class"),
            state=text("state"),
            stage=text("stage"),
            detail=text("detail"),
            request=text("request"),
            sponsor=text("sponsor"),
            forwarded_by=text("forwarded_by"),
            started_ms=integer("started_ms"),
            updated_ms=integer("updated_ms"),
            platforms=text("platforms"),
            pinned=text("pinned"),
            options=text("options"),
        )
