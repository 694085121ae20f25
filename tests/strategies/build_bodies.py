"""Requests, items and documents of one imaginary package, short to write in a test."""

from __future__ import annotations

from dataclasses import replace

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sealing import commitment
from pyrsia_node.model.transactions import (
    AttestBatch,
    AttestCommit,
    BuildRequest,
    BuiltItem,
    FailedItem,
    Item,
    Pipeline,
    Result,
    Source,
)
from tests.strategies.identities import GENESIS_TIME_MS

PURL = Purl.parse("pkg:pypi/six@1.17.0")


def digest(text: str) -> Sha256:
    return sha256_of(text.encode())


def request(
    sponsor: NodeId,
    *,
    purl: Purl = PURL,
    lock: str = "lock",
    time_class: str = "S",
    until: int = GENESIS_TIME_MS + 3_600_000,
    nonce: int = 0,
    claim: str = "rebuilt",
) -> BuildRequest:
    return BuildRequest(
        sponsor=sponsor,
        purl=purl,
        claim=claim,
        source=Source("sdist", "six-1.17.0.tar.gz", digest("sdist"), 34_031),
        pipeline=Pipeline("pypi", 1, digest("pipeline")),
        toolchain=digest("toolchain"),
        lock=digest(lock),
        recipe={},
        time_class=time_class,
        until=until,
        nonce=f"{nonce:032x}",
    )


def document(variant: str = "", *, purl: Purl = PURL, claim: str = "rebuilt") -> Document:
    """Return a document; two variants are two results."""
    entry = FileEntry(
        name=f"six-1.17.0-py2.py3-none-any{variant}.whl",
        size=11_050,
        sha256=digest(f"wheel {variant}"),
        pieces=digest(f"pieces {variant}"),
        media="application/zip",
        claim=claim,
        origin="upstream",
    )
    metadata = Metadata(
        name="six",
        version="1.17.0",
        summary="Python 2 and 3 compatibility utilities",
        author="Benjamin Peterson",
        licence="MIT",
        homepage="",
        repository="",
        keywords=(),
        requires=(),
        requires_python=">=2.7",
        provides_extra=(),
    )
    return Document(purl, (entry,), (), metadata)


def own_roots(variant: str = "") -> tuple[Sha256, Sha256, Sha256]:
    """Return the roots of a build; another variant differs at every level."""
    return digest(f"l0 {variant}"), digest(f"l1 {variant}"), digest(f"l2 {variant}")


def built(req: str, doc: Document | None = None, *, level: int = 0, own: str = "") -> BuiltItem:
    named = (doc or document()).digest()
    return BuiltItem(Sha256(req), named, level, own_roots(own))


def failed(req: str, outcome: str = "BUILD_FAILED", cause: str = "exit 1") -> FailedItem:
    return FailedItem(Sha256(req), outcome, cause)


def salted(item: Item, number: int = 1) -> Item:
    """Return the item with a salt, as it opens a commit."""
    return replace(item, salt=f"{number:032x}")


def commit(voter: NodeId, item: Item, network_id: bytes) -> AttestCommit:
    """Return the commit that an item with its salt opens."""
    opened = commitment(item, voter=voter, network_id=network_id)
    return AttestCommit(voter, item.request, opened)


def batch(voter: NodeId, seq: int, *items: Item) -> AttestBatch:
    return AttestBatch(voter, seq, items, {"arch": "x86_64"})


def result(voter: NodeId, req: str, doc: Document | None = None) -> Result:
    return Result(voter, Sha256(req), doc or document())
