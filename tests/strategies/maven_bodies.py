"""Requests, items and documents of one imaginary Maven artifact, short to write in a test."""

from __future__ import annotations

from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.mappings import AddSource, SourceMapping
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

versions = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}(-[a-z]{1,5})?", fullmatch=True)


def mapping(pattern: str = "pkg:maven/commons-codec/commons-codec") -> SourceMapping:
    """Return where the imaginary artifact's source is."""
    return SourceMapping(
        pattern,
        "git+https://git.example/commons/codec.git",
        "rel/commons-codec-{version}",
        {"jdk": 17, "goals": ("install",)},
    )


mappings = st.builds(
    SourceMapping,
    pattern=st.sampled_from(["pkg:maven/org.example/thing", "pkg:maven/org.example/*"]),
    repository=st.from_regex(r"git\+https://[a-z]{1,9}\.example(/[a-z]{1,9}){1,3}", fullmatch=True),
    tag=st.from_regex(r"([a-z]{1,5}[/-])?v?\{version\}", fullmatch=True),
    recipe=st.fixed_dictionaries(
        {},
        optional={
            "jdk": st.integers(0, 99),
            "newline": st.sampled_from(["lf", "crlf"]),
            "goals": st.lists(st.sampled_from(["clean", "install"]), max_size=3).map(tuple),
        },
    ),
) | st.builds(
    SourceMapping,
    pattern=st.just("pkg:maven/org.example/*"),
    repository=endings.map(lambda each: "https://a.example/{artifact}-{version}" + each),
)


def add_source(
    by: NodeId,
    found: SourceMapping | None = None,
    *,
    reason: str = "kept by its project",
    nonce: int = 0,
) -> AddSource:
    return AddSource(by, found or mapping(), reason, f"{nonce:032x}")
