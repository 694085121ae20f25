"""Mappings: patterns, addresses, tags and recipes that are legal, and those that are named."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.builds import RecipeValue
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import REASON_LENGTH_MAX
from pyrsia_node.model.mappings import (
    RECIPE_KEYS,
    AddSource,
    SourceMapping,
    check_mapping,
    check_pattern,
    patterns_for,
)
from pyrsia_node.model.purl import Purl
from tests.strategies import maven_bodies as maven
from tests.strategies.identities import identities

ME = identities(1)[0].id
GIT = maven.mapping()
ARCHIVE = SourceMapping(
    "pkg:maven/org.apache.commons/*",
    "https://archive.example/{artifact}/{artifact}-{version}-src.tar.gz",
)
GROUP = dataclasses.replace(GIT, pattern="pkg:maven/commons-codec/*")


@pytest.mark.parametrize("mapping", [GIT, ARCHIVE, GROUP, SourceMapping(GIT.pattern, "")])
def test_mapping_reads_back(mapping: SourceMapping) -> None:
    body = AddSource(ME, mapping, "the project's own", "00" * 16)
    assert AddSource.from_json(body.to_json()) == body


def test_placeholders_are_filled_in_for_a_version() -> None:
    purl = Purl.maven("org.apache.commons", "commons-lang3", "3.17.0")
    assert ARCHIVE.source_url(purl) == (
        "https://archive.example/commons-lang3/commons-lang3-3.17.0-src.tar.gz"
    )
    assert ARCHIVE.tag_of(purl) == ""
    assert GIT.source_url(maven.PURL) == GIT.repository
    assert GIT.tag_of(maven.PURL) == "rel/commons-codec-1.15"


@pytest.mark.parametrize(
    "pattern",
    [
        "pkg:maven/*",
        "pkg:maven/a",
        "pkg:maven/a/b*",
        "pkg:maven/a/*/*",
        "pkg:maven/a*/b",
        "pkg:maven/a/b@1",
        "pkg:maven/a/*@1",
        "pkg:maven/a..b/c",
        "pkg:maven/a%2Eb/c",
        "pkg:pypi/six",
        "pkg:pypi/six/*",
        "a:b",
        "",
    ],
)
def test_pattern_names_an_artifact_or_a_group_of_maven(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="pattern"):
        check_pattern(pattern)


def test_patterns_of_a_package_run_from_the_longest() -> None:
    assert patterns_for(maven.PURL) == (
        "pkg:maven/commons-codec/commons-codec",
        "pkg:maven/commons-codec/*",
    )
    assert patterns_for(Purl.pypi("six", "1.17.0")) == ()


@pytest.mark.parametrize(
    "repository",
    [
        "http://git.example/a/b",
        "git+http://git.example/a/b",
        "git+ssh://git.example/a/b",
        "git://git.example/a/b",
        "file:///etc/passwd",
        "git+https://user@git.example/a",
        "git+https://user:secret@git.example/a",
        "git+https://git.example/a?x=1",
        "git+https://git.example/a#x",
        "git+https://git.example",
        "git+https://git.example/",
        "git+https:///a",
        "git+https://git.example/a/../b",
        "git+https://git.example/./b",
        "git+https://git.example/a/%2e%2e/b",
        "git+https://git.example/a//b",
        "git+https://git.example/{name}",
        "git+https://{artifact}.example/a",
        "git+https://git.example:0/a",
        "git+https://git.example/a b",
        "git+https://Git.example/a",
        "git+https://git.example/ä",
        "git+https://git.example/a\n",
        "git+https://git.example/" + "a" * 200,
    ],
)
def test_address_that_is_not_plain_https_is_refused(repository: str) -> None:
    body = AddSource(ME, dataclasses.replace(GIT, repository=repository), "why", "00" * 16)
    with pytest.raises(InvalidInputError, match="repository"):
        AddSource.from_json(body.to_json())


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        (dataclasses.replace(GIT, tag=""), "a mapping without a tag"),
        (dataclasses.replace(GIT, tag="v1.15"), r"has no \{version\}"),
        (dataclasses.replace(GIT, tag="-{version}"), "is no name of a git tag"),
        (dataclasses.replace(GIT, tag="/{version}"), "is no name of a git tag"),
        (dataclasses.replace(GIT, tag="{version}.lock"), "is no name of a git tag"),
        (dataclasses.replace(GIT, tag="a..{version}"), "is no name of a git tag"),
        (dataclasses.replace(GIT, tag="{version} x"), "is no name of a git tag"),
        (dataclasses.replace(GIT, tag="{version}/{group}"), "is no name of a git tag"),
        (dataclasses.replace(ARCHIVE, tag="v{version}"), "an archive has no tag"),
        (
            dataclasses.replace(ARCHIVE, repository="https://a.example/{version}"),
            "nor ends in .tar.bz2",
        ),
        (
            dataclasses.replace(ARCHIVE, repository="https://a.example/x.zip"),
            r"has no \{version\}",
        ),
        (SourceMapping(GIT.pattern, "", GIT.tag), "without a repository there is no tag"),
        (SourceMapping(GIT.pattern, "", "", {"jdk": 17}), "without a repository"),
    ],
)
def test_mapping_whose_parts_do_not_fit_is_refused_by_name(
    mapping: SourceMapping, why: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"mapping of {mapping.pattern[:20]}.*{why}"):
        check_mapping(mapping)


LEGAL: dict[str, RecipeValue] = {
    "jdk": 17,
    "umask": 0o022,
    "epoch": 1_700_000_000,
    "goals": ("clean", "install"),
    "profiles": ("release",),
    "properties": ("rat.skip=true", "msg=two words"),
    "newline": "crlf",
    "timezone": "Europe/Berlin",
    "locale": "C.UTF-8",
    "module": "core/api",
}


def test_every_field_of_a_recipe_that_a_mapping_may_say_has_a_legal_value() -> None:
    assert LEGAL.keys() == RECIPE_KEYS
    check_mapping(dataclasses.replace(GIT, recipe=LEGAL))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("jdk", -1),
        ("jdk", True),
        ("jdk", "17"),
        ("umask", 0o1000),
        ("epoch", 2**34),
        ("newline", "cr"),
        ("module", "../up"),
        ("module", "/root"),
        ("module", "a//b"),
        ("goals", "install"),
        ("goals", ("",)),
        ("goals", ("a\nb",)),
        ("goals", ("x",) * 33),
        ("timezone", ""),
        ("locale", "é"),
        ("locale", "x" * 257),
        ("commit", "0f" * 20),
        ("source_url", "https://a.example/"),
        ("sandbox", "off"),
    ],
)
def test_recipe_of_a_mapping_says_nothing_else(key: str, value: RecipeValue) -> None:
    with pytest.raises(InvalidInputError, match=f"recipe field '?{key}"):
        check_mapping(dataclasses.replace(GIT, recipe={key: value}))


def test_recipe_of_a_mapping_is_short() -> None:
    large = dataclasses.replace(GIT, recipe={"properties": ("x" * 200,) * 12})
    with pytest.raises(InvalidInputError, match="exceeds 2000"):
        check_mapping(large)


@pytest.mark.parametrize("reason", ["", "x" * (REASON_LENGTH_MAX + 1)])
def test_mapping_has_a_reason_of_bounded_length(reason: str) -> None:
    body = AddSource(ME, GIT, reason, "00" * 16)
    with pytest.raises(InvalidInputError, match="reason"):
        AddSource.from_json(body.to_json())


@given(maven.mappings, maven.versions)
def test_whatever_is_legal_fills_in_to_an_address_and_a_tag_without_braces(
    mapping: SourceMapping, version: str
) -> None:
    check_mapping(mapping)
    purl = Purl.maven("org.example", "thing", version)
    assert "{" not in mapping.source_url(purl) + mapping.tag_of(purl)
    assert version in mapping.source_url(purl) + mapping.tag_of(purl)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_only_our_error_escapes_from_a_mapping(pattern: str, repository: str, tag: str) -> None:
    mapping = SourceMapping(pattern, repository, tag)
    with pytest.raises(InvalidInputError):
        check_mapping(mapping)
