"""The METADATA value of docs/spec/leaves.md: what search and people see of a package. Pure.

Its canonical JSON is hashed into every attestation, so each field has a fixed limit. How the
fields are found in an ecosystem's own metadata is the recipe's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from buildpipelines.spec import fields

TEXT_FIELDS: Final = (
    "name",
    "version",
    "summary",
    "author",
    "licence",
    "homepage",
    "repository",
    "requires_python",
)
LIST_FIELDS: Final = ("keywords", "requires", "provides_extra")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Agreed facts about a package version; empty where the package says nothing."""

    name: str
    version: str
    summary: str = ""
    author: str = ""
    licence: str = ""
    homepage: str = ""
    repository: str = ""
    keywords: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requires_python: str = ""
    provides_extra: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return it as a JSON object with every field present."""
        texts: dict[str, object] = {key: getattr(self, key) for key in TEXT_FIELDS}
        return texts | {key: list(getattr(self, key)) for key in LIST_FIELDS}


def parse_metadata(value: Mapping[str, object]) -> Metadata:
    """Read a metadata object.

    Raises:
        FormatError: a field is missing, unknown, of another type or far beyond its limit.
    """
    fields.exactly(value, {*TEXT_FIELDS, *LIST_FIELDS})
    return Metadata(
        name=fields.text(value, "name", characters_max=256),
        version=fields.text(value, "version", characters_max=256),
        summary=fields.text(value, "summary", characters_max=2048),
        author=fields.text(value, "author", characters_max=512),
        licence=fields.text(value, "licence", characters_max=512),
        homepage=fields.text(value, "homepage", characters_max=1024),
        repository=fields.text(value, "repository", characters_max=1024),
        keywords=fields.texts(value, "keywords", count_max=64, characters_max=256),
        requires=fields.texts(value, "requires", count_max=512, characters_max=512),
        requires_python=fields.text(value, "requires_python", characters_max=256),
        provides_extra=fields.texts(value, "provides_extra", count_max=256, characters_max=256),
    )
