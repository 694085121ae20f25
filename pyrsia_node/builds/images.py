"""Mirrored images as transactions and documents: what a sponsor asks for, what a member attests.

Pure. Everything but the bytes follows from the root manifest that a request pins: the inputs lock,
the toolchain (none) and the pipeline are the same at every node, so members compare them with
their own instead of fetching them. Nothing is built, so the roots of the own "build" are over all
files, by their SHA-256 at every level.
Specification: docs/spec/leaves.md, "Images"; design: docs/design/registry.md, "In the log".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pyrsia_node.builds.composition import Composed
from pyrsia_node.builds.roots import BuiltFile, own_roots
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256, parse_sha256, sha256_of
from pyrsia_node.model.documents import Document, FileEntry, Metadata, holds_address
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.image_files import ROOT, file_name, named_digest
from pyrsia_node.model.oci import ImageName, parse_reference
from pyrsia_node.model.oci_terms import OciDigest, is_digest
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import IMAGE
from pyrsia_node.model.transactions import BuildRequest, Pipeline, RecipeValue, Source
from pyrsia_node.schema.mirroring import (
    PLATFORMS_MAX,
    ImageFacts,
    Look,
    Mirrored,
    MirroredFile,
)

TOOLCHAIN: Final = canonical.dumps({"toolchain": "none"})
"""The toolchain document of what needs none."""

PIPELINE: Final = Pipeline(
    id="docker", version=1, digest=sha256_of(canonical.dumps({"pipeline": "mirror", "version": 1}))
)
"""Version 1: files as docs/spec/leaves.md "Images" says, metadata as ``_metadata`` here."""

SMALL_BYTES: Final = 100 * 1024**2
MEDIUM_BYTES: Final = 1024**3

_PLATFORM: Final = re.compile(r"[a-z0-9]+(/[A-Za-z0-9._-]+){1,2}")
_BASE_REGISTRY: Final = "docker.io"
"""The registry of base images that are named without one: the same at every node."""


def image_of(purl: Purl) -> tuple[ImageName, str | None, OciDigest | None]:
    """Return the image that a purl with version names, and its tag or its digest."""
    assert purl.version is not None
    name = ImageName.from_purl(purl)
    if is_digest(purl.version):
        return name, None, OciDigest.parse(purl.version)
    return name, purl.version, None


def lock_document(source: Source) -> bytes:
    """Return the inputs lock of a mirrored image: its root alone."""
    locked: JsonObject = {"file": source.file, "sha256": source.sha256, "size": source.size}
    return canonical.dumps({"ecosystem": "docker", "inputs": [locked]})


def root_source(root: MirroredFile) -> Source:
    """Return the source of a request for the image with this root."""
    return Source(
        kind=IMAGE,
        file=file_name(ROOT, OciDigest.parse(root.digest)),
        sha256=parse_sha256(root.sha256),
        size=root.size,
    )


def recipe_of(platforms: Sequence[str]) -> dict[str, RecipeValue]:
    """Return the recipe that asks for these platforms, in one order; [] is all."""
    return {"platforms": tuple(sorted(set(platforms)))}


def platforms_of(recipe: Mapping[str, RecipeValue]) -> list[str]:
    """Return the platforms that a recipe asks for.

    Raises:
        InvalidInputError: It is no recipe of a mirrored image.
    """
    platforms = recipe.get("platforms")
    if set(recipe) != {"platforms"} or not isinstance(platforms, tuple):
        raise InvalidInputError("the recipe of a mirrored image is {platforms: [TEXT]}")
    if len(platforms) > PLATFORMS_MAX or list(platforms) != sorted(set(platforms)):
        raise InvalidInputError(
            f"platforms of a recipe are sorted, distinct and at most {PLATFORMS_MAX}"
        )
    for each in platforms:
        if not _PLATFORM.fullmatch(each):
            raise InvalidInputError(f"platform {each!r:.80} is not of the form os/arch[/variant]")
    return list(platforms)


def why_refused(request: BuildRequest) -> str:
    """Return the cause for which a member refuses a request for a mirrored image, or nothing."""
    if request.purl.type != "docker" or request.pipeline != PIPELINE:
        return "pipeline"
    if request.toolchain != sha256_of(TOOLCHAIN):
        return "toolchain"
    if request.lock != sha256_of(lock_document(request.source)):
        return "lock"
    try:
        platforms_of(request.recipe)
    except InvalidInputError:
        return "recipe"
    return ""


def pinned_digest(source: Source) -> OciDigest:
    """Return the digest by which the root that a request pins is fetched."""
    return named_digest(source.file, source.sha256)


def root_of_mirrored(mirrored: Mirrored) -> MirroredFile:
    """Return the root among what was fetched.

    Raises:
        InvalidInputError: There is not exactly one.
    """
    roots = [each for each in mirrored.files if each.role == ROOT]
    if len(roots) != 1:
        raise InvalidInputError(f"an image has exactly one root, not {len(roots)}")
    return roots[0]


def compose_image(purl: Purl, mirrored: Mirrored) -> Composed:
    """Return the document and the roots that a fetched image amounts to.

    Args:
        purl: The image, with its tag or digest.
        mirrored: What the gateway fetched and hashed.

    Raises:
        InvalidInputError: It does not fit the rules or limits of the log; the text says how many
            files there are, so that fewer platforms can be asked for.
    """
    entries: dict[str, FileEntry] = {}
    for each in mirrored.files:
        entry = _entry(each)
        if entries.setdefault(entry.name, entry) != entry:
            raise InvalidInputError(f"two files of {purl} are called {entry.name}")
    document = Document(
        purl=purl,
        files=tuple(sorted(entries.values(), key=lambda each: each.name)),
        contradicts=(),
        metadata=_metadata(purl, mirrored.facts),
    )
    try:
        Document.from_json(document.to_json())
    except InvalidInputError as error:
        raise InvalidInputError(f"{purl} has {len(entries)} files: {error}") from None
    files = [BuiltFile(each.name, each.sha256, each.sha256, each.sha256) for each in document.files]
    return Composed(document, own_roots(files, document.metadata.digest()), 0)


def total_bytes(mirrored: Mirrored) -> int:
    """Return how many bytes a fetched image has."""
    return sum(each.size for each in mirrored.files)


def class_for_bytes(size: int) -> str:
    """Return the deadline class for an image of so many bytes, at a line of 1 MB/s or better."""
    if size <= SMALL_BYTES:
        return "S"
    return "M" if size <= MEDIUM_BYTES else "L"


def check_pin(look: Look, pinned: str) -> None:
    """Check that a tag is what whoever asked for it saw; raises InvalidInputError."""
    if pinned and look.digest != pinned:
        raise InvalidInputError(f"the tag is {look.digest} at its upstream by now, not {pinned}")


def _entry(file: MirroredFile) -> FileEntry:
    return FileEntry(
        name=file_name(file.role, OciDigest.parse(file.digest)),
        size=file.size,
        sha256=Sha256(file.sha256),
        pieces=file.pieces,
        media=file.media,
        claim="mirrored",
        origin="upstream",
    )


def _metadata(purl: Purl, facts: ImageFacts) -> Metadata:
    assert purl.version is not None
    return Metadata(
        name=str(ImageName.from_purl(purl)),
        version=purl.version,
        summary=facts.summary,
        author="" if holds_address(facts.author) else facts.author,
        licence=facts.licence,
        homepage=facts.homepage,
        repository=facts.repository,
        keywords=tuple(facts.keywords),
        requires=tuple(sorted({base for base in map(_base, facts.base) if base})),
        requires_python="",
        provides_extra=(),
    )


def _base(text: str) -> str:
    """Return the purl of an image that another is based on; empty if the text names none."""
    try:
        if text.startswith("pkg:"):
            return str(Purl.parse(text))
        reference = parse_reference(text, default_host=_BASE_REGISTRY)
        return str(Purl.parse(str(reference.name.purl(reference.version))))
    except InvalidInputError:
        return ""
