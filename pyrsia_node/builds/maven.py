"""Where a Maven artifact comes from: what a sponsor fills in, and what every member checks. Pure.

A name's source is said by the mapping in the log, which a quorum approved, or by whoever asks; the
second counts only for what an upstream publishes under this very name and version, because then a
wrong source contradicts itself. Else a sponsor could publish under a name that nobody gave it.
Design: docs/design/maven.md, "Where a package comes from"; docs/adr/0013.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from buildpipelines.spec.messages import BuildResult, RecipeValue
from pyrsia_node.builds.wishes import decode_options, encode_options
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.maven_builds import GIT, PIPELINE_EXTERNAL, MavenOptions

MAVEN: Final = "maven"
NOT_MAPPED: Final = "source not mapped"
"""Cause of a member that finds neither a mapping nor anything published."""

EXTERNAL: Final = "mapping"
"""Kind of source of a build that an outside pipeline did."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What the log says about one version: its source, the tag in it ("" for an archive), a recipe.

    ``source`` and ``tag`` are filled in: they hold no ``{version}`` any more.
    """

    source: str
    tag: str
    recipe: Mapping[str, RecipeValue]


def checked_options(options: str) -> str:
    """Return a wish's options as they were, if they are options of Maven builds.

    Raises:
        InvalidInputError: They are not, or contradict each other; the text names the option.
    """
    if not options:
        return ""
    given = MavenOptions.parse({k: _plain(v) for k, v in decode_options(options).items()})
    if given.tag is not None and given.commit is not None:
        raise InvalidInputError("options: tag and commit both say which state is meant; give one")
    is_archive = given.source is not None and not given.source.startswith(GIT)
    if is_archive and (given.tag or given.commit):
        raise InvalidInputError(f"options: {given.source} is an archive and has no tag or commit")
    if given.source is not None and not is_archive and not (given.tag or given.commit):
        raise InvalidInputError(f"options: which tag or commit of {given.source} is not said")
    if given.pipeline == PIPELINE_EXTERNAL:
        more = sorted(given.dump().keys() - {"pipeline", "source", "tag"})
        if more:
            raise InvalidInputError(
                f"options: {more[0]} is for the network's own pipeline, not for an external one"
            )
    return encode_options(cast("JsonObject", given.dump()))


def filled_in(purl: Purl, options: str, origin: Origin | None) -> dict[str, RecipeValue]:
    """Return what the worker is told: the wish's options, over what the log says.

    Args:
        purl: What is wanted.
        options: As ``checked_options`` gave them.
        origin: What the log says of it, if anything.

    Raises:
        InvalidInputError: Nobody says where the package comes from.
    """
    given: dict[str, RecipeValue] = dict(decode_options(options))
    is_external = given.get("pipeline") == PIPELINE_EXTERNAL
    if "source" not in given and origin is None and not is_external:
        raise InvalidInputError(
            f"nothing says where {purl} comes from: no mapping in the log fits it. Name one for"
            " all with `pyrsia sources add`, or, for what an upstream publishes, give --source"
        )
    if origin is None:
        return given
    said: dict[str, RecipeValue] = {} if is_external else dict(origin.recipe)
    if "source" not in given:
        said["source"] = origin.source
        if origin.tag and "commit" not in given:
            said["tag"] = origin.tag
    return {**said, **given}


def is_mapped(recipe: Mapping[str, RecipeValue], origin: Origin | None) -> bool:
    """Tell whether a request's recipe names the source and the tag that the log gives."""
    return origin is not None and (recipe.get("source_url"), recipe.get("tag", "")) == (
        origin.source,
        origin.tag,
    )


def unpublished(result: BuildResult) -> list[str]:
    """Return the files of a build under whose names the upstream publishes nothing."""
    return [
        file.name
        for file in result.files
        if file.claim != "mirrored" and file.upstream_sha256 is None
    ]


def not_mapped_text(purl: Purl, result: BuildResult) -> str:
    """Return why a build must not be asked for, in words for whoever wants it; "" if it may."""
    missing = unpublished(result)
    if not missing:
        return ""
    return (
        f"{NOT_MAPPED}: no mapping in the log says that {purl} comes from"
        f" {result.recipe.get('source_url') or 'there'}, and the upstream publishes no"
        f" {missing[0]}, which would show a wrong source; `pyrsia sources add` names it for all"
    )


def _plain(value: RecipeValue) -> object:
    return list(value) if isinstance(value, tuple) else value
