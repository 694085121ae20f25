"""Requests, items and documents of one imaginary Maven artifact, short to write in a test."""

from __future__ import annotations

from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import ARCHIVE, ARCHIVE_ENDINGS, MAPPING, TREE, source_names
from pyrsia_node.model.transactions import BuildRequest, Pipeline, Source
from tests.strategies.build_bodies import digest
from tests.strategies.identities import GENESIS_TIME_MS

PURL = Purl.maven("commons-codec", "commons-codec", "1.15")
COMMIT = "0f" * 20


def source(kind: str = TREE, variant: str = "") -> Source:
    sha256 = digest(f"{kind} {variant}")
    return Source(kind, source_names(kind, sha256)[0], sha256, 4_096)


def request(
    sponsor: NodeId,
    *,
    purl: Purl = PURL,
    claim: str = "rebuilt",
    kind: str = TREE,
    nonce: int = 0,
) -> BuildRequest:
    """Return a request from a tree, or of an external pipeline where ``claim`` says so."""
    is_external = claim == "external"
    return BuildRequest(
        sponsor=sponsor,
        purl=purl,
        claim=claim,
        source=source(MAPPING if is_external else kind),
        pipeline=Pipeline("external" if is_external else "maven", 1, digest("pipeline")),
        toolchain=digest("toolchain"),
        lock=digest("lock"),
        recipe={} if is_external else {"commit": COMMIT, "jdk": 17, "goals": ("install",)},
        time_class="M",
        until=GENESIS_TIME_MS + 3_600_000,
        nonce=f"{nonce:032x}",
    )


def file(name: str, *, claim: str, origin: str = "built") -> FileEntry:
    return FileEntry(
        name=name,
        size=300,
        sha256=digest(name),
        pieces=digest(f"pieces of {name}"),
        media="application/java-archive",
        claim=claim,
        origin=origin,
    )


def document(
    *, purl: Purl = PURL, claim: str = "rebuilt", requires: tuple[str, ...] = ()
) -> Document:
    """Return a document of a jar, its pom and the source that it was made from."""
    stem = f"{purl.name}-{purl.version}"
    start = source(MAPPING if claim == "external" else TREE)
    files = [
        file(f"{stem}.jar", claim=claim),
        file(f"{stem}.pom", claim=claim),
        file(start.file, claim="mirrored", origin="upstream"),
    ]
    metadata = Metadata(
        name=f"{purl.namespace}:{purl.name}",
        version=purl.version or "",
        summary="Encoders and decoders",
        author="A. Developer",
        licence="Apache-2.0",
        homepage="",
        repository="https://git.example/commons/codec.git",
        keywords=(),
        requires=requires,
        requires_python="",
        provides_extra=(),
    )
    return Document(purl, tuple(sorted(files, key=lambda each: each.name)), (), metadata)


def requests(sponsors: st.SearchStrategy[NodeId]) -> st.SearchStrategy[BuildRequest]:
    """Return requests for artifacts, rebuilt from either kind of source or built elsewhere."""
    return st.builds(
        lambda sponsor, how, nonce: request(sponsor, claim=how[0], kind=how[1], nonce=nonce),
        sponsors,
        st.sampled_from([("rebuilt", TREE), ("rebuilt", ARCHIVE), ("external", MAPPING)]),
        st.integers(0, 2**64),
    )


endings = st.sampled_from(ARCHIVE_ENDINGS)
digests: st.SearchStrategy[Sha256] = st.text("0123456789abcdef", min_size=64, max_size=64).map(
    Sha256
)
