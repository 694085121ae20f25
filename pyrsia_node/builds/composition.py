"""From a worker's result to what is attested: the document, and the roots of the own build.

Pure. The digests are not the worker's word: they are what the gateway computed when it took the
files into the blob store (docs/spec/links.md, ``adopt``), handed in as ``stored``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from buildpipelines.spec.messages import BuildResult, OutputFile
from pyrsia_node.builds.roots import BuiltFile, own_roots
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256, parse_sha256
from pyrsia_node.model.documents import Contradiction, Document, FileEntry, Metadata
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.links import Stored

LEVEL_DIFFERS = 3
"""The worker's level for "not equal": the upstream's file is contradicted."""


@dataclass(frozen=True, slots=True)
class Composed:
    """What one member may attest for one request."""

    document: Document
    own: tuple[Sha256, Sha256, Sha256]
    level: int


def files_to_store(result: BuildResult) -> list[tuple[str, str, int | None]]:
    """Return (path, sha256, size or None) of every file that must be in the blob store."""
    wanted: list[tuple[str, str, int | None]] = []
    for file in result.files:
        wanted.append((file.path, file.sha256, file.size))
        if file.upstream_path is not None and file.upstream_sha256 is not None:
            wanted.append((file.upstream_path, file.upstream_sha256, None))
    return wanted


def compose(result: BuildResult, stored: Mapping[str, Stored]) -> Composed:
    """Return the document and the roots that ``result`` amounts to.

    Args:
        result: What the worker says it built.
        stored: By SHA-256, what the gateway found when it hashed the files itself.

    Raises:
        VerificationError: the gateway never saw a file that the worker names.
        InvalidInputError: the result does not fit the limits of the log.
    """
    served = [_entry(file, stored) for file in result.files]
    contradicted = [
        Contradiction(file.name, parse_sha256(file.upstream_sha256))
        for file in result.files
        if file.level == LEVEL_DIFFERS and file.upstream_sha256 is not None
    ]
    metadata = Metadata.from_json(cast("JsonObject", result.metadata.document()))
    document = Document(
        purl=Purl.parse(result.purl),
        files=tuple(sorted(served, key=lambda entry: entry.name)),
        contradicts=tuple(sorted(contradicted, key=lambda each: each.name)),
        metadata=metadata,
    )
    # What an outside pipeline made is made all the same: its bytes are what members compare.
    made = [file for file in result.files if file.claim != "mirrored"]
    own = own_roots(
        [
            BuiltFile(
                name=file.name,
                l0=parse_sha256(file.sha256),
                l1=parse_sha256(file.l1),
                l2=parse_sha256(file.l2),
            )
            for file in made
        ],
        metadata.digest(),
    )
    levels = [file.level for file in made if file.level in {0, 1, 2}]
    return Composed(document, own, max((level for level in levels if level), default=0))


def _entry(file: OutputFile, stored: Mapping[str, Stored]) -> FileEntry:
    """Return the bytes to serve: the upstream's own where the build equals it, else the build."""
    is_upstreams = file.claim == "mirrored" or file.level in {0, 1, 2}
    digest = file.upstream_sha256 if is_upstreams and file.upstream_sha256 else file.sha256
    found = stored.get(digest)
    if found is None:
        raise VerificationError(f"{file.name}: the gateway holds no file with sha256 {digest}")
    return FileEntry(
        name=file.name,
        size=found.size,
        sha256=parse_sha256(found.sha256),
        pieces=found.pieces,
        media=file.media,
        claim=file.claim,
        origin="upstream" if is_upstreams else "built",
    )
