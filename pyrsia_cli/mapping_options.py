"""What a file of mappings says of one artifact, as the options of a wish. Pure.

Such a file is an input of one build, like ``--source``; what counts for all is in the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping, patterns_for
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.mapping_files import read_mappings, read_version_mapping


@dataclass(frozen=True, slots=True)
class FileOfMappings:
    """A file that was read: of one version (the original's JSON), or of patterns (TOML)."""

    purl: Purl | None = None
    said: dict[str, object] = field(default_factory=dict)
    patterns: tuple[SourceMapping, ...] = ()
    has_build_spec: bool = False

    def options_of(self, purl: Purl) -> dict[str, object]:
        """Return what the file says of an artifact.

        Raises:
            InvalidInputError: It says nothing of it.
        """
        if self.purl is not None:
            if purl != self.purl:
                raise InvalidInputError(f"the mapping is of {self.purl}, not of {purl}")
            return self.said
        by_pattern = {each.pattern: each for each in self.patterns}
        found = next((by_pattern[p] for p in patterns_for(purl) if p in by_pattern), None)
        if found is None or found.is_taken_back:
            raise InvalidInputError(f"no mapping of the file fits {purl}")
        tag = found.tag_of(purl)
        recipe = {k: list(v) if isinstance(v, tuple) else v for k, v in found.recipe.items()}
        return {**recipe, "source": found.source_url(purl), **({"tag": tag} if tag else {})}


def read_mapping_file(text: str) -> FileOfMappings:
    """Return what a file of either form holds.

    Raises:
        InvalidInputError: It is malformed, or a mapping in it is refused by name.
    """
    if not text.lstrip().startswith("{"):
        return FileOfMappings(patterns=read_mappings(text))
    one = read_version_mapping(text)
    said: dict[str, object] = {"source": one.repository, "tag": one.tag}
    return FileOfMappings(purl=one.purl, said=said, has_build_spec=one.has_build_spec)
