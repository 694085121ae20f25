"""Small logs with real signatures: leaves in memory, cosigned heads, offline proofs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.leaves import Accepted, Attestor, encode_outcome
from pyrsia_node.model.purl import Purl
from pyrsia_node.tlog import checkpoint as heads
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.proofs import make_inclusion_proof
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, Subtree, leaf_hash
from tests.strategies.identities import Identity

TIME_S = 1_700_000_100
WHEEL = b"the bytes of a wheel"
PIECES = "ab" * 32


@dataclass(frozen=True, slots=True)
class SmallLog:
    """The leaves of a log of some members; heads and proofs on demand."""

    origin: str
    leaves: Sequence[bytes]

    def head(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        hashes = [leaf_hash(leaf) for leaf in self.leaves[:size]]
        root = EMPTY_FRONTIER.extend(hashes).root()
        return Checkpoint(origin=self.origin, size=size, root=root)

    def read_hashes(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        return [
            EMPTY_FRONTIER.extend(
                leaf_hash(leaf) for leaf in self.leaves[number << level : (number + 1) << level]
            ).root()
            for level, number in subtrees
        ]

    def signed(self, members: Iterable[Identity], size: int | None = None) -> SignedCheckpoint:
        head = self.head(size)
        return SignedCheckpoint(head, tuple(cosigned(head, member) for member in members))

    def proof(self, index: int, signed: SignedCheckpoint) -> EntryProof:
        hashes = make_inclusion_proof(self, index=index, size=signed.checkpoint.size)
        return EntryProof(extra=self.leaves[index], index=index, hashes=hashes, signed=signed)


def cosigned(head: Checkpoint, member: Identity, *, time_s: int = TIME_S) -> SignatureLine:
    record = member.member.record
    key = heads.cosigner_key(record.label, record.keys.cosign)
    return heads.cosign(head, key, member.sign["cosign"], time_s=time_s)


def with_another_end(signed: bytes) -> bytes:
    """Return the bytes with another last one: a signature that ends so does not hold."""
    return signed[:-1] + bytes((signed[-1] ^ 1,))


def log_signed(head: Checkpoint, member: Identity) -> SignatureLine:
    key = heads.log_key(head.origin, member.member.record.keys.log)
    return heads.sign(head, key, member.sign["log"])


def wheel(name: str, content: bytes = WHEEL, **changes: str) -> FileEntry:
    return FileEntry(
        name=name,
        size=len(content),
        sha256=sha256_of(content),
        pieces=PIECES,
        media="application/zip",
        claim=changes.get("claim", "rebuilt"),
        origin=changes.get("origin", "built"),
    )


def document(purl: str, *files: FileEntry, **text: str) -> Document:
    package = Purl.parse(purl)
    assert package.version is not None
    metadata = Metadata(
        name=package.name,
        version=package.version,
        summary=text.get("summary", "A package"),
        author=text.get("author", "A. Uthor"),
        licence=text.get("licence", "MIT"),
        homepage="",
        repository=text.get("repository", ""),
        keywords=tuple(text.get("keywords", "").split()),
        requires=tuple(filter(None, text.get("requires", "").split("\n"))),
        requires_python="",
        provides_extra=(),
    )
    return Document(purl=package, files=files, contradicts=(), metadata=metadata)


def accepted(doc: Document, members: Sequence[Identity], request: str = "11" * 32) -> bytes:
    return encode_outcome(
        Accepted(
            request=Sha256(request),
            document=doc,
            k=len(members),
            level=0,
            attestors=tuple(Attestor(id=one.id, leaf=2, level=0) for one in members),
            differ=(),
        )
    )
