"""What the search index says of each leaf: a pure function, so that every rebuild is the same.

``rows_of(leaf, position, block)`` depends on nothing but its arguments. Rows name leaves and
requests; what they *say* is a hint that whoever serves by it checks against the tiles.
Tables and columns: ``ledger.index`` (the SQL) and docs/design/log.md.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import (
    Accepted,
    Diverged,
    Expired,
    Failed,
    Header,
    Outcome,
    decode_outcome,
)
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import (
    BUILT,
    AttestBatch,
    BuildRequest,
    BuiltItem,
    Result,
    decode_transaction,
)

SqlValue = str | int | None

TRANSACTIONS: Final = frozenset({"build_request", "attest_batch", "result"})
STATUSES: Final = ("accepted", "diverged", "expired", "failed", "open")
"""Where a request stands; every status but ``open`` is the type of its outcome's leaf."""

_REQUIREMENT_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Row:
    """A row to insert; ``decision`` is no table but the update of a request by its outcome."""

    table: str
    values: tuple[SqlValue, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The block that a leaf belongs to: leaves [first, end), the header at ``first``."""

    height: int
    first: int
    end: int
    time_ms: int


def block_at(leaf: bytes, position: int, before: Block | None) -> Block:
    """Return the block of the leaf at ``position``.

    Args:
        leaf: The leaf.
        position: Its index in the log.
        before: The block of the leaf before it; None at position 0.

    Raises:
        InvalidInputError: The leaf should open a block, and is no header.
    """
    if before is not None and position < before.end:
        return before
    if position == 0:
        return Block(height=0, first=0, end=2, time_ms=Genesis.decode(leaf).time_ms)
    header = Header.decode(leaf)
    if header.prev_size != position:
        raise InvalidInputError(f"header at leaf {position} says it stands at {header.prev_size}")
    return Block(height=header.height, first=position, end=header.size, time_ms=header.time_ms)


def rows_of(leaf: bytes, position: int, block: Block, *, network_id: bytes) -> list[Row]:
    """Return the rows of one leaf.

    Args:
        leaf: The bytes of the leaf.
        position: Its index in the log.
        block: The block that it belongs to.
        network_id: The network's id, which is part of transaction ids.

    Raises:
        InvalidInputError: Not a leaf of rules 1.
    """
    kind = _kind(leaf)
    match kind:
        case "block" | "genesis":
            return [
                Row("block", (block.height, block.first, block.end, block.time_ms)),
                _entry(position, kind, block),
            ]
        case "set":
            return [_entry(position, kind, block), *_set_rows(SetLeaf.decode(leaf), position)]
        case _ if kind in TRANSACTIONS:
            return list(_transaction_rows(leaf, position, block, network_id))
        case _:
            return list(_outcome_rows(decode_outcome(leaf), kind, position, block))


@functools.lru_cache(maxsize=16_384)
def dependency_project(requirement: str) -> str | None:
    """Return the ``pkg:pypi/...`` of the project that a requirement names; None if it names none.

    Source: PEP 508. A requirement that today's parser refuses still counts by its name.
    """
    try:
        name = Requirement(requirement).name
    except InvalidRequirement:
        match = _REQUIREMENT_NAME.match(requirement)
        if match is None:
            return None
        name = match[1]
    try:
        return str(Purl.pypi(name))
    except InvalidInputError:
        return None


def _kind(leaf: bytes) -> str:
    # The schema readers below check the bytes in full; this only picks the reader.
    try:
        value = json.loads(leaf)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"leaf is not JSON: {error}") from None
    kind = value.get("t") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise InvalidInputError("leaf names no schema")
    return kind


def _entry(
    position: int,
    kind: str,
    block: Block,
    *,
    purl: Purl | None = None,
    request: str | None = None,
) -> Row:
    text = None if purl is None else str(purl)
    project = None if purl is None else str(purl.without_version())
    return Row("entry", (position, kind, text, project, request, block.height))


def _set_rows(leaf: SetLeaf, position: int) -> Iterator[Row]:
    for record in leaf.members:
        yield Row("member", (leaf.epoch, record.id, record.label, position))


def _transaction_rows(leaf: bytes, position: int, block: Block, network_id: bytes) -> Iterator[Row]:
    signed = decode_transaction(leaf, network_id=network_id)
    match signed.body:
        case BuildRequest() as request:
            yield _entry(position, "build_request", block, purl=request.purl, request=signed.id)
            yield from _request_rows(request, signed.id, position)
        case AttestBatch() as batch:
            yield _entry(position, "attest_batch", block)
            for item in batch.items:
                outcome = BUILT if isinstance(item, BuiltItem) else item.outcome
                yield Row("item", (position, item.request, batch.voter, outcome))
        case Result() as result:
            document, request_id = result.document, result.request
            yield _entry(position, "result", block, purl=document.purl, request=request_id)
            yield Row("digest", (document.digest(), "result", position, request_id))


def _request_rows(request: BuildRequest, request_id: str, position: int) -> Iterator[Row]:
    purl = request.purl
    project = str(purl.without_version())
    yield Row("request", (request_id, position, str(purl), project, request.sponsor, "open", None))
    yield Row("digest", (request.source.sha256, "source", position, request_id))
    yield Row("digest", (request_id, "request", position, request_id))
    # Name and version alone: what is asked for can be found before anything is known about it.
    yield Row("description", (position, f"{purl.name} {purl.version}", "", "", "", "", ""))


def _outcome_rows(outcome: Outcome, kind: str, position: int, block: Block) -> Iterator[Row]:
    match outcome:
        case Accepted():
            purl = outcome.document.purl
            yield _entry(position, kind, block, purl=purl, request=outcome.request)
            yield Row("decision", (kind, position, outcome.request))
            yield from _document_rows(outcome.document, outcome.request, position)
        case Diverged() | Failed() | Expired():
            yield _entry(position, kind, block, purl=outcome.purl, request=outcome.request)
            yield Row("decision", (kind, position, outcome.request))
        case _:
            yield _entry(position, kind, block, request=outcome.request)


def _document_rows(document: Document, request_id: str, position: int) -> Iterator[Row]:
    project = str(document.purl.without_version())
    for file in document.files:
        yield Row("file", (position, file.name, project, file.sha256))
        yield Row("digest", (file.sha256, "file", position, request_id))
    for each in document.contradicts:
        yield Row("digest", (each.sha256, "upstream", position, request_id))
    metadata = document.metadata
    projects = {dependency_project(each) for each in metadata.requires}
    for dependency in sorted(projects - {None}, key=str):
        yield Row("dependency", (dependency, position, request_id))
    yield Row(
        "description",
        (
            position,
            f"{metadata.name} {metadata.version}",
            metadata.summary,
            metadata.author,
            " ".join(metadata.keywords),
            f"{metadata.homepage} {metadata.repository}".strip(),
            metadata.licence,
        ),
    )
