"""A data directory whose log, tiles, index and checkpoint are the real ones, written in one place.

The chain is ``LocalChain``; what the core's publisher does over the network happens here at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pyrsia_node.ledger.certificates import CertificateWriter
from pyrsia_node.ledger.chain import Committed
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Contradiction, Document, FileEntry, Metadata
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Params
from pyrsia_node.model.leaves import Accepted, encode_outcome
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import MAPPING, TREE, Source, source_names
from pyrsia_node.model.statements import Revoke, Statement, Withdraw
from pyrsia_node.model.transactions import Transaction
from pyrsia_node.store.files import write_atomic
from pyrsia_node.store.pieces import PieceHasher, piece_root
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import batch, built, request, result
from tests.strategies.member_bodies import approve
from tests.strategies.small_logs import cosigned, log_signed


def file_entry(
    name: str, content: bytes, *, claim: str = "rebuilt", origin: str = "upstream"
) -> FileEntry:
    """Return what a document says of a file with these bytes."""
    hasher = PieceHasher()
    hasher.update(memoryview(content))
    return FileEntry(
        name=name,
        size=len(content),
        sha256=sha256_of(content),
        pieces=piece_root(hasher.finish()),
        media="application/zip" if name.endswith(".whl") else "application/gzip",
        claim=claim,
        origin=origin,
    )


def document(
    purl: str,
    *files: FileEntry,
    requires: tuple[str, ...] = (),
    requires_python: str = "",
    contradicts: tuple[Contradiction, ...] = (),
) -> Document:
    """Return a document about ``files``."""
    package = Purl.parse(purl)
    assert package.version is not None
    metadata = Metadata(
        name=package.name,
        version=package.version,
        summary="A package",
        author="A. Uthor",
        licence="MIT",
        homepage="",
        repository="",
        keywords=(),
        requires=requires,
        requires_python=requires_python,
        provides_extra=(),
    )
    ordered = tuple(sorted(files, key=lambda each: each.name))
    return Document(purl=package, files=ordered, contradicts=contradicts, metadata=metadata)


class PublishedLog:
    """Writes ``log/``, ``index-1.sqlite`` and ``genesis.json`` under a data directory."""

    def __init__(self, root: Path, n: int = 4, *, params: Params = DEFAULT_PARAMS) -> None:
        self.root = root
        self.local = LocalChain(n, params=params)
        self.trust_file = TrustFile(self.local.genesis.encode())
        self.trust = Trust.establish(self.trust_file)
        self._requests = 0
        root.mkdir(exist_ok=True)
        (root / "genesis.json").write_bytes(self.local.genesis.encode())
        self._tiles = TileWriter(root / "log")
        self._certificates = CertificateWriter(root / "log")
        self._index = IndexWriter.current(root, network_id=self.local.network_id)
        self.publish()

    @property
    def index_path(self) -> Path:
        return self._index.path

    def accept(self, doc: Document, *, seen_ms: int | None = None) -> int:
        """Take a document through request, batches and result; return the leaf of its outcome.

        With ``seen_ms`` every member says that it saw the image then, without it just now.
        """
        if seen_ms is None and doc.purl.type == "docker":
            seen_ms = self.local.now_ms
        members = [one.id for one in self.local.members]
        self._requests += 1
        claims = {file.claim for file in doc.files} - {"mirrored"}
        claim = claims.pop() if claims else "mirrored"
        lock = f"lock {self._requests}"
        wish = request(members[0], purl=doc.purl, lock=lock, claim=claim)
        source = _source(doc, wish.source, claim)
        wish = dataclasses.replace(wish, nonce=f"{self._requests:032x}", source=source)
        (wish_id,) = self._commit(wish).transaction_ids
        voters = members[:3]
        seqs = [self.local.chain.last_seq(member) + 1 for member in voters]
        item = dataclasses.replace(built(wish_id, doc), seen_ms=seen_ms)
        committed = self._commit(
            *(batch(voter, seq, item) for voter, seq in zip(voters, seqs, strict=True))
        )
        if not committed.outcomes:
            committed = self._commit(result(members[0], wish_id, doc))
        (outcome,) = committed.outcomes
        assert isinstance(outcome, Accepted)
        self.publish()
        return committed.first_leaf + committed.leaves.index(encode_outcome(outcome))

    def state(self, statement: Statement | AddSource) -> int:
        """Put a statement into the log, approved by all where it needs it; return its leaf."""
        if isinstance(statement, Withdraw | Revoke | AddSource):
            network_id, height = self.local.network_id, self.local.chain.tip.height
            approvals = [
                approve(one.id, statement, network_id, since=height, expiry=height + 10)
                for one in self.local.members
            ]
            self._commit(*approvals)
        committed = self._commit(statement)
        self.publish()
        return committed.first_leaf + 1

    def publish(self, *, cosigners: int | None = None) -> SignedCheckpoint:
        """Bring tiles, index and checkpoint up to the chain's tip."""
        tip = self.local.chain.tip
        self._tiles.catch_up(self.local.chain, size=tip.size, root=bytes(tip.root))
        self._certificates.catch_up(self.local.chain, height=tip.height)
        self._index.catch_up(self.local.chain, size=tip.size)
        head = Checkpoint(origin=self.trust.origin, size=tip.size, root=bytes(tip.root))
        members = self.local.members[:cosigners]
        lines = (log_signed(head, self.local.members[0]), *(cosigned(head, m) for m in members))
        signed = SignedCheckpoint(head, lines)
        write_atomic(self.root / "log" / "checkpoint", signed.encode())
        return signed

    def close(self) -> None:
        self._index.close()

    def _commit(self, *bodies: Transaction) -> Committed:
        self.local.now_ms += 1000
        return self.local.commit(*bodies)


def _source(doc: Document, sdist: Source, claim: str) -> Source:
    """Return what a build of this package starts from."""
    match doc.purl.type:
        case "docker":
            return _image_source(doc)
        case "maven":
            kind = MAPPING if claim == "external" else TREE
            sha256 = sha256_of(str(doc.purl).encode())
            return Source(kind, source_names(kind, sha256)[0], sha256, 1)
        case _:
            return sdist


def _image_source(doc: Document) -> Source:
    root = next(file for file in doc.files if file.name.startswith("root-"))
    return Source("image", root.name, root.sha256, root.size)
