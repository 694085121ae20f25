"""DOC, FILE and METADATA: what a build made, as the members attest it and the log keeps it.

The document is the whole of what offline verification and the index rest on. Its digest is the
``result`` that attestations name. Nothing here fetches or hashes files.
Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields, check_sorted
from pyrsia_node.model.image_files import check_image_files
from pyrsia_node.model.limits import DOC_BYTES_MAX
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl

CLAIMS: Final = ("external", "mirrored", "rebuilt")
"""Claim classes: ``rebuilt`` from source; ``mirrored``: the same bytes fetched by k nodes; or
``external``: k nodes got the same bytes from pipelines that they cannot look into."""

BUILD_CLAIMS: Final = ("external", "rebuilt")
"""Claims of what was built: their files stand in no document of a request of another claim."""

ORIGINS: Final = ("built", "upstream")
"""Whose bytes a file entry names: the network's build, or the file that the upstream publishes."""

_FILES_MAX: Final = 512
_TEXTS_MAX: Final = 1_000
_TEXT_LENGTH_MAX: Final = 8_000
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")
# ASCII: what Unicode calls white space may differ between the Pythons that nodes run.
_MAIL_ADDRESS: Final = re.compile(r"[^\s<>@]@[^\s<>@]+\.[A-Za-z]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file to serve. ``size`` in bytes; ``pieces`` is the BLAKE3 piece root, hex."""

    name: str
    size: int
    sha256: Sha256
    pieces: str
    media: str
    claim: str
    origin: str

    def to_json(self) -> JsonObject:
        """Return the FILE object."""
        return {
            "claim": self.claim,
            "from": self.origin,
            "media": self.media,
            "name": self.name,
            "pieces": self.pieces,
            "sha256": self.sha256,
            "size": self.size,
        }

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> FileEntry:
        """Return the entry that a FILE object spells.

        Raises:
            InvalidInputError: Not a legal FILE; a mirrored file that is not the upstream's.
        """
        got = Fields(value, where, _FILE_MEMBERS)
        entry = cls(
            name=got.file_name("name"),
            size=got.integer("size", low=0, high=INTEGER_MAX),
            sha256=got.sha256("sha256"),
            pieces=got.hex("pieces", size=32),
            media=got.matching("media", _MEDIA_TYPE, "a media type"),
            claim=got.one_of("claim", CLAIMS),
            origin=got.one_of("from", ORIGINS),
        )
        if entry.claim == "mirrored" and entry.origin != "upstream":
            raise got.refused("from", "is not upstream though the file is mirrored")
        return entry


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A file that the upstream publishes with other bytes than the build: its digest there."""

    name: str
    sha256: Sha256

    def to_json(self) -> JsonObject:
        """Return the object."""
        return {"name": self.name, "sha256": self.sha256}

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> Contradiction:
        """Return the contradiction that the object spells.

        Raises:
            InvalidInputError: Not a legal object.
        """
        got = Fields(value, where, frozenset({"name", "sha256"}))
        return cls(name=got.file_name("name"), sha256=got.sha256("sha256"))


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the package says of itself; empty where it says nothing. No e-mail addresses."""

    name: str
    version: str
    summary: str
    author: str
    licence: str
    homepage: str
    repository: str
    keywords: tuple[str, ...]
    requires: tuple[str, ...]
    requires_python: str
    provides_extra: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """Return the METADATA object."""
        return {
            "author": self.author,
            "homepage": self.homepage,
            "keywords": list(self.keywords),
            "licence": self.licence,
            "name": self.name,
            "provides_extra": list(self.provides_extra),
            "repository": self.repository,
            "requires": list(self.requires),
            "requires_python": self.requires_python,
            "summary": self.summary,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, value: JsonValue, where: str = "metadata") -> Metadata:
        """Return the metadata that the object spells.

        Raises:
            InvalidInputError: Not a legal METADATA, or the author holds an e-mail address.
        """
        got = Fields(value, where, _METADATA_MEMBERS)

        def text(name: str) -> str:
            return got.text(name, length_max=_TEXT_LENGTH_MAX)

        def texts(name: str) -> tuple[str, ...]:
            return got.texts(name, count_max=_TEXTS_MAX, length_max=_TEXT_LENGTH_MAX)

        metadata = cls(
            name=got.text("name", length_min=1, length_max=_TEXT_LENGTH_MAX),
            version=got.text("version", length_min=1, length_max=_TEXT_LENGTH_MAX),
            summary=text("summary"),
            author=text("author"),
            licence=text("licence"),
            homepage=text("homepage"),
            repository=text("repository"),
            keywords=texts("keywords"),
            requires=texts("requires"),
            requires_python=text("requires_python"),
            provides_extra=texts("provides_extra"),
        )
        # The log cannot forget, so what is private stays out of it: a rule, not a habit.
        if holds_address(metadata.author):
            raise got.refused("author", "holds an e-mail address")
        return metadata

    def digest(self) -> Sha256:
        """Return SHA-256 of the canonical METADATA."""
        return sha256_of(canonical.dumps(self.to_json()))


@dataclass(frozen=True, slots=True)
class Document:
    """What a build made: the files to serve, what contradicts the upstream, the metadata."""

    purl: Purl
    files: tuple[FileEntry, ...]
    contradicts: tuple[Contradiction, ...]
    metadata: Metadata

    def to_json(self) -> JsonObject:
        """Return the DOC object."""
        return {
            "contradicts": [each.to_json() for each in self.contradicts],
            "files": [each.to_json() for each in self.files],
            "metadata": self.metadata.to_json(),
            "purl": str(self.purl),
        }

    def encode(self) -> bytes:
        """Return the canonical bytes.

        Raises:
            InvalidInputError: They exceed ``DOC_BYTES_MAX``, or a text is not Unicode.
        """
        data = canonical.dumps(self.to_json())
        if len(data) > DOC_BYTES_MAX:
            raise InvalidInputError(f"doc of {len(data)} bytes exceeds {DOC_BYTES_MAX}")
        return data

    def digest(self) -> Sha256:
        """Return the ``result`` that attestations name: SHA-256 of the canonical bytes."""
        return sha256_of(self.encode())

    @classmethod
    def from_json(cls, value: JsonValue, where: str = "doc") -> Document:
        """Return the document that a DOC object spells.

        Raises:
            InvalidInputError: Not a legal DOC. Files and contradictions are sorted by name and
                distinct; each contradiction names a built file with another digest; an image
                has exactly one root, and its files are called as ``image_files`` says.
        """
        got = Fields(value, where, _DOC_MEMBERS)
        purl = Purl.parse(got.text("purl", length_max=PURL_LENGTH_MAX))
        if purl.version is None:
            raise got.refused("purl", "names no version")
        document = cls(
            purl=purl,
            files=tuple(
                FileEntry.from_json(each, f"{where}.files")
                for each in got.array("files", length_min=1, length_max=_FILES_MAX)
            ),
            contradicts=tuple(
                Contradiction.from_json(each, f"{where}.contradicts")
                for each in got.array("contradicts", length_max=_FILES_MAX)
            ),
            metadata=Metadata.from_json(got.value("metadata"), f"{where}.metadata"),
        )
        document._check_names(where)
        if purl.type == "docker":
            published = {each.name: each.sha256 for each in document.contradicts}
            check_image_files(document.files, version=purl.version, contradicted=published)
        document.encode()
        return document

    def _check_names(self, where: str) -> None:
        check_sorted([each.name for each in self.files], f"{where}.files")
        check_sorted([each.name for each in self.contradicts], f"{where}.contradicts")
        built = {each.name: each.sha256 for each in self.files if each.origin == "built"}
        for each in self.contradicts:
            if built.get(each.name, each.sha256) == each.sha256:
                raise InvalidInputError(
                    f"{where}.contradicts: {each.name} is no built file with another digest"
                )


def holds_address(text: str) -> bool:
    """Tell whether a text holds an e-mail address, which no ``author`` of the log may."""
    return _MAIL_ADDRESS.search(text) is not None


_FILE_MEMBERS: Final = frozenset({"claim", "from", "media", "name", "pieces", "sha256", "size"})
_METADATA_MEMBERS: Final = frozenset(field.name for field in fields(Metadata))
_DOC_MEMBERS: Final = frozenset({"contradicts", "files", "metadata", "purl"})
