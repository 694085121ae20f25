"""What the search index says of each leaf: a pure function, so that every rebuild is the same.

``rows_of(leaf, position, block)`` depends on nothing but its arguments. Leaves come from the
chain, which judged every one of them before it took it in; here they are only read, which is five
times as fast. Rows are hints: whoever serves by them checks the leaf against the tiles.

Some leaves are *units*: what a search finds. A build request is one while it is open, its outcome
afterwards; so are late divergences, set changes and statements. What is said of a request before
its outcome is a *fact*: it is found at the request, and at the outcome once there is one.
Tables and columns: ``ledger.index_schema`` and docs/design/log.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import TRANSACTION_TAG
from pyrsia_node.model.transactions import BUILT
from pyrsia_node.schema.search_terms import STATEMENTS, UNIT_TYPES

SqlValue = str | int | bytes | None
Leaf = dict[str, Any]
"""A leaf as JSON reads it."""

_REQUIREMENT_NAME: Final = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_SIGNATURES: Final = re.compile(rb',"sigs":\[\{[^\]]*\}\]')
"""The signatures in the canonical bytes of a transaction.

Inside a text the quotation marks would be escaped, and no other array holds objects under that key.
"""
_ADDRESS: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:(?://)?)?(?:[^/@]*@)?(?:www\.)?"
    r"([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::[0-9]+)?[:/]?([^?#]*)(?:[?#](?s:.*))?"
)
_ADDRESS_LENGTH_MAX: Final = 300
_MAVEN: Final = "pkg:maven/"
_STATED: Final = frozenset({*STATEMENTS, "add_source"})
"""What members say of packages rather than of a request."""


_DECODER: Final = json.JSONDecoder()

Row = tuple[str, tuple[SqlValue, ...]]
"""A row to insert: a table, and its values.

``fact`` and ``decision`` are no tables: see ``ledger.index_batch``. The last value of ``entry``,
``unit``, ``item``, ``fact`` and ``decision`` is the id of a request, or None. A plain tuple: a leaf
has eight of them, and a class would cost as much as what is in them.
"""


@dataclass(frozen=True, slots=True)
class Block:
    """The block that a leaf belongs to: leaves [first, end), the header at ``first``."""

    height: int
    first: int
    end: int
    time_ms: int


def read_leaf(leaf: bytes) -> Leaf:
    """Return what a leaf of the chain says.

    Raises:
        InvalidInputError: It is no object with a schema.
    """
    try:
        value = _DECODER.decode(leaf.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"leaf is not JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("t"), str):
        raise InvalidInputError("leaf names no schema")
    return value


def block_at(leaf: Leaf, position: int, before: Block | None) -> Block:
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
    try:
        if position == 0:
            return Block(height=0, first=0, end=2, time_ms=leaf["time_ms"])
        if leaf["t"] != "block" or leaf["prev_size"] != position:
            raise InvalidInputError(f"leaf {position} should open a block")
        end = position + 1 + leaf["n_leaves"]
        return Block(height=leaf["height"], first=position, end=end, time_ms=leaf["time_ms"])
    except (KeyError, TypeError) as error:
        raise InvalidInputError(f"leaf {position} should open a block: {error}") from None


def rows_of(
    data: bytes, leaf: Leaf, position: int, block: Block, *, network_id: bytes
) -> list[Row]:
    """Return the rows of one leaf, its request before what is said of it.

    Args:
        data: The bytes of a leaf of the chain.
        leaf: What ``read_leaf`` says of them.
        position: Its index in the log.
        block: The block that it belongs to.
        network_id: The network's id, which is part of transaction ids.

    Raises:
        InvalidInputError: Not a leaf of rules 1.
    """
    try:
        return list(_rows(data, leaf, position, block, network_id))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInputError(f"leaf is none of rules 1: {error!r}") from None


def dependency_project(requirement: str) -> str | None:
    """Return the ``pkg:...`` of the project that a requirement names; None if it names none.

    What an image is based on is named by its purl; so is what a Maven artifact needs, with the
    scope behind it. Everything else is Python's, by PEP 508, whose every form begins with the name;
    so a requirement that no parser takes any more still counts.
    """
    if requirement.startswith("pkg:"):
        return _project_of_purl(requirement.partition(" ")[0])
    match = _REQUIREMENT_NAME.match(requirement)
    return None if match is None else _pypi_project(match[1])


@functools.lru_cache(maxsize=16_384)
def _pypi_project(name: str) -> str | None:
    try:
        return str(Purl.pypi(name))
    except InvalidInputError:
        return None


@functools.lru_cache(maxsize=4096)
def _project_of_purl(text: str) -> str | None:
    try:
        return str(Purl.parse(text).without_version())
    except InvalidInputError:
        return None


@functools.lru_cache(maxsize=4096)
def repository_key(address: str) -> str | None:
    """Return the one spelling of an address: ``host/path``, lower case; None if it has no host.

    ``https://www.GitHub.com/psf/Requests.git``, ``git@github.com:psf/requests`` and
    ``github.com/psf/requests/`` are all ``github.com/psf/requests``.
    """
    match = _ADDRESS.fullmatch(address.strip().lower()[:_ADDRESS_LENGTH_MAX])
    if match is None:
        return None
    path = match[2].strip("/").removesuffix(".git")
    return f"{match[1]}/{path}" if path else match[1]


def _rows(data: bytes, leaf: Leaf, position: int, block: Block, network_id: bytes) -> Iterator[Row]:
    match leaf["t"]:
        case "attest_batch" as kind:
            yield ("entry", (position, kind, None))
            yield from _batch_rows(leaf, position)
        case "block" | "genesis" as kind:
            yield ("block", (block.height, block.first, block.end, block.time_ms))
            yield ("entry", (position, kind, None))
        case "build_request":
            yield from _request_rows(data, leaf, position, network_id)
        case "accepted" | "diverged" | "failed" | "expired":
            yield from _outcome_rows(leaf, position)
        case "attest_commit" | "result" | "unsealed" | "level" | "late_divergence" as kind:
            yield from _later_rows(data, leaf, kind, position)
        case kind if kind in _STATED:
            yield from _stated_rows(leaf, kind, position)
        case kind:
            yield ("entry", (position, kind, None))
            if kind in UNIT_TYPES:
                yield ("unit", (position, kind, None, None, None))
            if kind == "set":
                for record in leaf["members"]:
                    yield ("member", (leaf["epoch"], record["id"], record["label"], position))


def _batch_rows(leaf: Leaf, position: int) -> Iterator[Row]:
    voter = leaf["voter"]
    for item in leaf["items"]:
        request = item["req"]
        yield ("item", (position, request))
        if item["outcome"] == BUILT:
            yield ("fact", ("builder", voter, position, request))


def _request_rows(data: bytes, leaf: Leaf, position: int, network_id: bytes) -> Iterator[Row]:
    purl = leaf["purl"]
    signed = _SIGNATURES.sub(b"", data, count=1)
    name = hashlib.sha256(TRANSACTION_TAG + network_id + signed)
    request = name.hexdigest()
    yield ("request", (position, request))
    yield ("entry", (position, "build_request", request))
    yield ("unit", (position, "build_request", purl, _project(purl), request))
    yield ("fact", ("sha256", name.digest(), position, request))
    source = bytes.fromhex(leaf["source"]["sha256"])
    yield ("fact", ("sha256", source, position, request))
    if leaf["claim"] != "rebuilt":
        yield ("fact", ("claim", leaf["claim"], position, request))
    commit = leaf["recipe"].get("commit")
    if isinstance(commit, str):
        yield ("fact", ("commit", commit.lower(), position, request))
    # Name and version alone: what is asked for can be found before anything is known about it.
    yield _description(position, _title(purl))


def _outcome_rows(leaf: Leaf, position: int) -> Iterator[Row]:
    kind, request = leaf["t"], leaf["req"]
    document = leaf.get("doc")
    purl = leaf["purl"] if document is None else document["purl"]
    yield ("entry", (position, kind, request))
    yield ("unit", (position, kind, purl, _project(purl), request))
    yield ("decision", (kind, position, request))
    if document is None:
        yield _description(position, _title(purl))
    else:
        yield from _document_rows(document, position)


def _later_rows(data: bytes, leaf: Leaf, kind: str, position: int) -> Iterator[Row]:
    request = leaf["req"]
    yield ("entry", (position, kind, request))
    if kind == "result":
        # "doc" is the first member of the canonical bytes, "req" the next.
        document = data[len(b'{"doc":') : data.rindex(b',"req":"')]
        digest = hashlib.sha256(document).digest()
        yield ("fact", ("sha256", digest, position, request))
    elif kind == "late_divergence":
        yield ("unit", (position, kind, None, None, request))


def _stated_rows(leaf: Leaf, kind: str, position: int) -> Iterator[Row]:
    if kind == "add_source":
        yield from _source_rows(leaf, position)
    else:
        yield from _statement_rows(leaf, kind, position)


def _statement_rows(leaf: Leaf, kind: str, position: int) -> Iterator[Row]:
    purl = leaf["purl"]
    digest = bytes.fromhex(leaf["sha256"]) if "sha256" in leaf else None
    yield ("entry", (position, kind, None))
    yield ("unit", (position, kind, purl, _project(purl), None))
    yield ("statement", (position, kind, purl, _project(purl), leaf.get("entry"), digest))
    if digest is not None:
        yield ("tag", (position, "sha256", digest, position))
    yield _description(position, _title(purl), f"{leaf.get('advisory', '')} {leaf['reason']}")


def _source_rows(leaf: Leaf, position: int) -> Iterator[Row]:
    """Return the rows of a mapping: it is found by its pattern as a package is by its name."""
    pattern, repository = leaf["pattern"], leaf["repository"]
    yield ("entry", (position, "add_source", None))
    yield ("unit", (position, "add_source", pattern, pattern, None))
    address = repository_key(repository)
    if address is not None:
        yield ("tag", (position, "repo", address, position))
    words = f"{leaf['tag']} {leaf['reason']}".strip()
    yield _description(position, _title(pattern), words, "", "", repository)


def _document_rows(document: Leaf, position: int) -> Iterator[Row]:
    metadata = document["metadata"]
    for file in document["files"]:
        # Digests of the files that the entry vouches for are told from all others: see "revoke".
        yield ("tag", (position, "blob", bytes.fromhex(file["sha256"]), position))
        yield ("tag", (position, "file", file["name"], position))
    for each in document["contradicts"]:
        yield ("tag", (position, "sha256", bytes.fromhex(each["sha256"]), position))
    projects = {dependency_project(each) for each in metadata["requires"]}
    for project in sorted(projects - {None}, key=str):
        yield ("tag", (position, "dep", project, position))
    addresses = {repository_key(metadata[each]) for each in ("homepage", "repository")}
    for address in sorted(addresses - {None}, key=str):
        yield ("tag", (position, "repo", address, position))
    yield _description(
        position,
        f"{metadata['name']} {metadata['version']}",
        metadata["summary"],
        metadata["author"],
        " ".join(metadata["keywords"]),
        f"{metadata['homepage']} {metadata['repository']}".strip(),
        metadata["licence"],
    )


def _description(position: int, name: str, *others: str) -> Row:
    return ("description", (position, name, *others, *("",) * (5 - len(others))))


def _project(purl: str) -> str:
    # In a canonical purl every other "@" is percent-encoded.
    return purl.partition("@")[0]


def _title(purl: str) -> str:
    """Return a package as people name it, for the words that find it."""
    if purl.startswith(_MAVEN):
        return unquote(purl.removeprefix(_MAVEN).replace("/", ":").replace("@", " "))
    return unquote(purl.rpartition("/")[2].replace("@", " "))
