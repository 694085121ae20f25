"""The file that a build starts from: its kinds, its names, and which claim needs which. Pure.

A tree, an archive and a mapping are called by their own digest, so that a name never means two
files. How such a file is made, and that it is what a repository has, is the builders' business.
Specification: docs/spec/leaves.md, "Images" and "Maven"; docs/design/maven.md, "Source".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.image_files import ROOT, context_name, named_digest, role_of
from pyrsia_node.model.oci_terms import is_digest
from pyrsia_node.model.purl import Purl

IMAGE: Final = "image"
"""Kind of the source of a mirrored image: its root manifest."""

CONTEXT: Final = "context"
"""Kind of the source of a rebuilt image: the files that its build may read."""

SDIST: Final = "sdist"
"""Kind of the source of a Python package: a source distribution."""

TREE: Final = "tree"
"""Kind of a source that is the tree of a git commit, as a canonical tar."""

ARCHIVE: Final = "archive"
"""Kind of a source that is an archive exactly as it was fetched."""

MAPPING: Final = "mapping"
"""Kind of the source of an external build: what the pipeline was asked."""

ARCHIVE_ENDINGS: Final = (".tar.bz2", ".tar.gz", ".tar.xz", ".zip")
"""How the name of an archive ends."""

_KINDS: Final = (ARCHIVE, CONTEXT, IMAGE, MAPPING, SDIST, TREE)
_NAME_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a build starts from, by ``kind``; ``size`` in bytes."""

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
            kind=got.one_of("kind", _KINDS),
            file=got.file_name("file"),
            sha256=got.sha256("sha256"),
            size=got.integer("size", low=0, high=INTEGER_MAX),
        )


def source_names(kind: str, sha256: Sha256) -> tuple[str, ...]:
    """Return what a source of a kind may be called; nothing where its digest does not say it."""
    digits = sha256[:_NAME_DIGITS]
    match kind:
        case "tree":
            return (f"source-{digits}.tar",)
        case "archive":
            return tuple(f"source-{digits}{ending}" for ending in ARCHIVE_ENDINGS)
        case "mapping":
            return (f"mapping-{digits}.json",)
        case "context":
            return (context_name(sha256),)
        case _:
            return ()


def check_source(source: Source, purl: Purl, claim: str) -> None:
    """Check that a request starts from what its claim needs.

    Raises:
        InvalidInputError: It does not, the file is not called as its kind is, or the purl names
            another digest.
    """
    if source.kind not in _kinds(purl, claim):
        raise InvalidInputError(
            f"build_request.source: kind {source.kind} does not fit a {claim} {purl.type} package"
        )
    names = source_names(source.kind, source.sha256)
    if names and source.file not in names:
        raise InvalidInputError(
            f"build_request.source: {source.file} is not called as a {source.kind}: {names[0]}"
        )
    if source.kind == IMAGE:
        _check_root(source, purl)
    elif purl.type == "docker" and not is_digest(purl.version or ""):
        # A tag moves by sightings alone.
        raise InvalidInputError(f"build_request: {purl} is {claim} by its digest alone")


def _kinds(purl: Purl, claim: str) -> tuple[str, ...]:
    """Return the kinds of source that fit a claim about a package."""
    if claim == "external":
        return (MAPPING,)
    match purl.type:
        case "docker":
            return (IMAGE,) if claim == "mirrored" else (CONTEXT,)
        case "maven":
            # What an upstream publishes is proxied; nothing of it is imported into the log.
            return () if claim == "mirrored" else (TREE, ARCHIVE)
        case _:
            return (SDIST,)


def _check_root(source: Source, purl: Purl) -> None:
    digest = str(named_digest(source.file, source.sha256))
    if role_of(source.file) != ROOT:
        raise InvalidInputError(f"build_request.source: {source.file} is not the root of an image")
    if is_digest(purl.version or "") and purl.version != digest:
        raise InvalidInputError(f"build_request.source: {digest} is not what {purl} names")


_SOURCE_MEMBERS: Final = frozenset({"file", "kind", "sha256", "size"})
