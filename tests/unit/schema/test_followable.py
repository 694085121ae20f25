"""A mapping is brought only if a build could follow what it says of a recipe."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.recipes.maven import parse_options
from pyrsia_node.model.builds import RecipeValue
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping, check_mapping
from pyrsia_node.schema.followable import check_followable
from tests.strategies import maven_bodies as maven

WORDS = st.text('aZ9-D."$ =!:', min_size=1, max_size=6)
LISTS = st.lists(WORDS, max_size=2).map(tuple)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "jdk": st.integers(0, 99),
        "umask": st.integers(0, 0o777),
        "epoch": st.integers(0, 2**33),
        "newline": st.sampled_from(["lf", "crlf"]),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin", "../x", "?"]),
        "locale": st.sampled_from(["C.UTF-8", "tr_TR.UTF-8", "POSIX"]),
        "module": st.sampled_from(["", "core", "core/api", "a+b"]),
        "goals": LISTS,
        "profiles": LISTS,
        "properties": LISTS,
    },
)


def mapping(**recipe: RecipeValue) -> SourceMapping:
    found = dataclasses.replace(maven.mapping(), recipe=recipe)
    check_mapping(found)
    return found


@pytest.mark.parametrize(
    "recipe",
    [
        {"jdk": 0},
        {"umask": 0o777},
        {"epoch": 0},
        {"timezone": "../../etc/passwd"},
        {"locale": "POSIX"},
        {"module": "a+b"},
        {"goals": ("-Dmaven.repo.local=/x",)},
        {"profiles": ("two words",)},
        {"properties": ("=",)},
        {"properties": ("maven.repo.local=/x",)},
        {"properties": ("a=1", "a=2")},
    ],
    ids=str,
)
def test_field_that_no_build_takes_is_named(recipe: dict[str, RecipeValue]) -> None:
    (name,) = recipe
    with pytest.raises(InvalidInputError, match=f"no build could follow its recipe: field '{name}"):
        check_followable(mapping(**recipe))


@given(RECIPES)
def test_what_passes_is_what_a_build_worker_takes(recipe: dict[str, RecipeValue]) -> None:
    try:
        found = mapping(**recipe)
        check_followable(found)
    except InvalidInputError:
        return
    url, tag = found.source_url(maven.PURL), found.tag_of(maven.PURL)
    options = parse_options({**found.recipe, "source": url, "tag": tag})
    assert options.goals == (recipe.get("goals") or ("install",))
    assert (options.source, options.tag, options.jdk) == (url, tag, recipe.get("jdk"))
