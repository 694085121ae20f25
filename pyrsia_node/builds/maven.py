"""Where a Maven artifact comes from: what a sponsor fills in, and what every member checks. Pure.

A name's source is said by the mapping in the log, which a quorum approved. What only the asker
names is built where a member's operator opted in, and then the result must be what an upstream
publishes, file for file: a difference would tell of that source alone, and take the published file
from everybody.
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
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import MAPPING
from pyrsia_node.schema.maven_builds import GIT, PIPELINE_EXTERNAL, MavenOptions, check_recipe_of

MAVEN: Final = "maven"
NOT_MAPPED: Final = "source not mapped"
"""Cause of a member whose log does not say that this source may be built under this name."""

SKIP_TESTS: Final = "maven.test.skip=true"
"""A property that the pipeline adds where none says anything of tests."""

_DEFAULTS: Final[Mapping[str, RecipeValue]] = {
    "goals": ("install",),
    "locale": "C.UTF-8",
    "module": "",
    "profiles": (),
    "properties": (),
    "timezone": "UTC",
}
"""Fields that no published file tells, and what they are where nobody says anything."""

EQUAL_LEVELS: Final = frozenset({0, 1, 2})
"""Levels at which a build is the published file."""

_TOLD_BY_FILES: Final = ("epoch", "jdk", "newline", "umask")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the log says about one version: its source, the tag in it ("" for an archive), a recipe.

    ``source`` and ``tag`` are filled in: they hold no ``{version}`` any more.
    """

    source: str
    tag: str
    recipe: Mapping[str, RecipeValue]


def origin_of(mapping: SourceMapping | None, purl: Purl) -> Origin | None:
    """Return what a mapping of the log says of one version."""
    if mapping is None:
        return None
    return Origin(mapping.source_url(purl), mapping.tag_of(purl), mapping.recipe)


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
        if is_archive:
            raise InvalidInputError(
                f"options: {given.source} is an archive, and an external pipeline is told a git"
                " repository and its tag"
            )
        more = sorted(given.dump().keys() - {"pipeline", "source", "tag"})
        if more:
            raise InvalidInputError(
                f"options: {more[0]} is for the network's own pipeline, not for an external one"
            )
    check_recipe_of(given.dump())
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
            f"{NOT_MAPPED}: nothing says where {purl} comes from, no mapping in the log fits it:"
            " `pyrsia sources add` names its source for all"
        )
    if origin is None:
        return given
    said: dict[str, RecipeValue] = {} if is_external else dict(origin.recipe)
    if "source" not in given:
        said["source"] = origin.source
        if origin.tag and "commit" not in given:
            said["tag"] = origin.tag
    return {**said, **given}


def departs(
    recipe: Mapping[str, RecipeValue], origin: Origin | None, *, kind: str
) -> tuple[str, ...]:
    """Return in which fields a request's recipe is not what the log says; () if it is.

    Whoever may choose goals or properties for a source chooses what comes out of it, so what the
    mapping leaves out must be as nobody said it. What a published file tells is another matter:
    the worker holds the recipe against the file's own marks, and the build against the file.

    Args:
        recipe: Of the request.
        origin: What the log says of the package.
        kind: Of the source; of a mapping (an external pipeline) there is no more of a recipe.
    """
    if origin is None:
        return ("source_url",)
    wanted: dict[str, RecipeValue] = {"source_url": origin.source, "tag": origin.tag}
    given = {"tag": "", **recipe}
    if kind != MAPPING:
        names = [*_DEFAULTS, *(_TOLD_BY_FILES if recipe.get("reference") == "none" else ())]
        wanted |= {name: value for name, value in origin.recipe.items() if name in names}
        wanted = {**_DEFAULTS, **wanted}
        given = {**_DEFAULTS, **given}
    return tuple(
        name
        for name, value in wanted.items()
        if _without_skip(name, given.get(name)) != _without_skip(name, value)
    )


def _without_skip(name: str, value: RecipeValue | None) -> object:
    """Return a field without what the pipeline adds to properties that say nothing of tests."""
    if name != "properties" or not isinstance(value, tuple):
        return value
    return tuple(each for each in value if each != SKIP_TESTS)


def departing_wish(purl: Purl, options: Mapping[str, RecipeValue], origin: Origin | None) -> str:
    """Return why members refuse what a wish would lead to, before anything is tried; "" if not.

    Args:
        purl: What is wanted.
        options: As ``filled_in`` gave them.
        origin: What the log says of the package.
    """
    recipe = {name: value for name, value in options.items() if name != "source"}
    recipe["source_url"] = options.get("source", "")
    kind = MAPPING if options.get("pipeline") == PIPELINE_EXTERNAL else ""
    return departing_text(purl, recipe, origin, kind=kind)


def departing_text(
    purl: Purl, recipe: Mapping[str, RecipeValue], origin: Origin | None, *, kind: str
) -> str:
    """Return, for people, in what a recipe is not what the log says; "" if it is.

    Args:
        purl: What is wanted.
        recipe: As ``departs`` takes it.
        origin: What the log says of the package.
        kind: Of the source.
    """
    fields = departs(recipe, origin, kind=kind)
    if not fields:
        return ""
    source = recipe.get("source_url") or "an unnamed source"
    what = f"no mapping in the log says that {purl} comes from {source}"
    if origin is not None:
        what = f"the mapping of {purl} in the log says otherwise of {', '.join(fields)}"
    return f"{NOT_MAPPED}: {what}; `pyrsia sources add` says it for all"


def not_as_published(result: BuildResult) -> list[str]:
    """Return the files of a build that are not what the upstream publishes under their names.

    Those that it does not publish at all are among them: else a source of somebody's own could
    slip a file in beside those that are compared.
    """
    return [
        file.name
        for file in result.files
        if file.claim != "mirrored" and file.level not in EQUAL_LEVELS
    ]


def _plain(value: RecipeValue) -> object:
    return list(value) if isinstance(value, tuple) else value
