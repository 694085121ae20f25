"""What entries of the log say about images: which files an image has, what a tag means. Pure.

A file of an image's document is named by its role and digest, so one leaf alone says what a tag is
and which bytes belong to it (docs/design/registry.md, "In the log"). A document that is not in that
form is passed over by who reads entries: it can make nothing be served.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from pyrsia_node.artifacts.statements import PackageStatements, ProvedStatement
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.artifacts.verified_log import ProvedEntry
from pyrsia_node.model.documents import FileEntry
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.image_files import ROOT, named_digest, role_of
from pyrsia_node.model.oci import ImageName, OciDigest, is_digest

MANIFEST_ROLES: Final = frozenset({ROOT, "manifest"})


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A manifest, config or layer that an entry names. ``digest`` is how the image names it."""

    role: str
    digest: OciDigest
    file: FileEntry
    index: int
    """The leaf of the entry."""
    closed: ProvedStatement | None = None
    """What withdrew the entry, if anything did."""

    @property
    def artifact(self) -> Artifact:
        """Return what the fetcher needs."""
        return Artifact(self.file.sha256, self.file.size, self.file.pieces)

    @property
    def is_manifest(self) -> bool:
        """Whether it is a manifest or index."""
        return self.role in MANIFEST_ROLES


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An accepted entry about an image: what ``version``, a tag or digest, was agreed to be."""

    proved: ProvedEntry
    version: str
    root: ImageFile
    files: tuple[ImageFile, ...]

    @property
    def index(self) -> int:
        """Return the leaf."""
        return self.proved.index


def read_entry(proved: ProvedEntry, name: ImageName) -> ImageEntry:
    """Return what an entry says about an image.

    Raises:
        InvalidInputError: It is about something else, or its files are not those of one image.
    """
    document = proved.entry.document
    if document.purl.without_version() != name.purl():
        raise InvalidInputError(f"entry {proved.index} is of {document.purl}")
    files = tuple(_read_file(file, proved.index) for file in document.files)
    roots = [file for file in files if file.role == ROOT]
    if len(roots) != 1:
        raise InvalidInputError(f"entry {proved.index} has {len(roots)} root manifests")
    version = document.purl.version
    assert version is not None  # a document names one; see model.documents
    if is_digest(version) and version != str(roots[0].digest):
        raise InvalidInputError(f"entry {proved.index} names {version} for {roots[0].digest}")
    return ImageEntry(proved, version, roots[0], files)


def _read_file(file: FileEntry, index: int) -> ImageFile:
    try:
        return ImageFile(role_of(file.name), named_digest(file.name, file.sha256), file, index)
    except InvalidInputError as error:
        raise InvalidInputError(f"entry {index}: {error}") from error


@dataclass(slots=True)
class LoggedRepository:
    """All that the log says about one image's name, as of a size of the log."""

    name: ImageName
    size: int
    is_settled: bool
    """Whether the index covered that size: if not, something may still turn up."""
    entries: dict[int, ImageEntry] = field(default_factory=dict)
    """By leaf, ascending; withdrawn ones among them."""
    said: PackageStatements = field(default_factory=lambda: PackageStatements({}, ()))
    _files: dict[str, ImageFile] = field(default_factory=dict)
    _tags: dict[str, ImageEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, entry in self.entries.items():
            closed = self.said.withdrawn.get(index)
            for file in entry.files:
                self._note(str(file.digest), replace(file, closed=closed))
            known = self._tags.get(entry.version)
            # A withdrawn entry is what a tag means only where there is nothing else.
            if known is None or closed is None or known.index in self.said.withdrawn:
                self._tags[entry.version] = entry

    @property
    def is_known(self) -> bool:
        """Whether there is an entry that was not withdrawn."""
        return any(index not in self.said.withdrawn for index in self.entries)

    @property
    def file_count(self) -> int:
        """Return how many files its entries name: what it costs to keep in memory."""
        return sum(len(entry.files) for entry in self.entries.values())

    def manifest(self, reference: str) -> ImageFile:
        """Return the manifest that a tag or digest means; raises NotFoundError.

        A tag means the newest entry that was not withdrawn, a digest any entry's manifest.
        """
        if is_digest(reference):
            found = self._files.get(reference)
            if found is None or not found.is_manifest:
                raise NotFoundError(f"no entry of the log names manifest {self.name}@{reference}")
            return found
        entry = self._tags.get(reference)
        if entry is None:
            raise NotFoundError(f"the log has no accepted import of {self.name}:{reference}")
        return replace(entry.root, closed=self.said.withdrawn.get(entry.index))

    def file(self, digest: OciDigest) -> ImageFile:
        """Return the file of this digest that some entry of the repository names.

        Raises:
            NotFoundError: None does. That another repository has it does not count.
        """
        found = self._files.get(str(digest))
        if found is None:
            raise NotFoundError(f"no entry of the log names {digest} in {self.name}")
        return found

    def tags(self) -> list[str]:
        """Return the tags that can be pulled, sorted bytewise."""
        return sorted(
            tag
            for tag, entry in self._tags.items()
            if not is_digest(tag) and entry.index not in self.said.withdrawn
        )

    def changes(self, tag: str) -> list[ImageEntry]:
        """Return every entry of a tag, withdrawn ones too, oldest first."""
        return [entry for entry in self.entries.values() if entry.version == tag]

    def _note(self, digest: str, file: ImageFile) -> None:
        known = self._files.get(digest)
        # Of several entries that name it, one that was not withdrawn; then the one for a manifest.
        if known is None or _rank(file) > _rank(known):
            self._files[digest] = file


def _rank(file: ImageFile) -> tuple[bool, bool]:
    return file.closed is None, file.is_manifest
