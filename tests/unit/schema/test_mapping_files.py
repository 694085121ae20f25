"""Files of mappings: the original's JSON, our TOML, and what is refused by name."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping, check_mapping
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.mapping_files import (
    FILE_CHARACTERS_MAX,
    MAPPINGS_MAX,
    pattern_of,
    read_mappings,
    read_version_mapping,
)

CODEC = {
    "package_type": "Maven2",
    "package_specific_id": "commons-codec:commons-codec:1.15",
    "source_repository": {
        "Git": {"url": "https://git.example/commons/codec", "tag": "rel/commons-codec-1.15"}
    },
    "build_spec_url": "https://git.example/commons-codec-1.15.buildspec",
}
EXPECTED = SourceMapping(
    "pkg:maven/commons-codec/commons-codec",
    "git+https://git.example/commons/codec",
    "rel/commons-codec-{version}",
)
TOML = """
[[mapping]]
pattern = "pkg:maven/commons-codec/commons-codec"
repository = "git+https://git.example/commons/codec"
tag = "rel/commons-codec-{version}"

[[mapping]]
pattern = "org.example:*"
repository = "https://a.example/{artifact}-{version}.tar.gz"
recipe = { jdk = 17, goals = ["clean", "install"], newline = "crlf" }
"""


def changed(**members: object) -> str:
    return json.dumps({**CODEC, **members})


def git(**members: object) -> str:
    return changed(source_repository={"Git": {**CODEC["source_repository"]["Git"], **members}})  # type: ignore[index] # as it stands above


@pytest.mark.parametrize("tag", ["1.15", "v1.15", "codec2-1.15", "codec-1.15-RC1", "codec_1.15"])
def test_version_in_a_tag_becomes_its_place(tag: str) -> None:
    [found] = read_mappings(git(tag=tag))
    assert found.tag == tag.replace("1.15", "{version}")


def test_original_mapping_of_a_version_is_read_as_it_stands() -> None:
    found = read_version_mapping(json.dumps(CODEC))
    assert found.purl == Purl.maven("commons-codec", "commons-codec", "1.15")
    assert (found.repository, found.tag) == (EXPECTED.repository, "rel/commons-codec-1.15")
    assert found.has_build_spec


@pytest.mark.parametrize("text", [json.dumps(CODEC), f" [ {json.dumps(CODEC)} ]\n"])
def test_original_mapping_speaks_of_all_versions_by_its_tag(text: str) -> None:
    assert read_mappings(text) == (EXPECTED,)


def test_toml_file_of_mappings_is_read() -> None:
    first, second = read_mappings(TOML)
    assert first == EXPECTED
    assert second.pattern == "pkg:maven/org.example/*"
    assert second.recipe == {"jdk": 17, "goals": ("clean", "install"), "newline": "crlf"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (git(tag=None), "mapping of commons-codec:commons-codec:1.15: a mapping without a tag"),
        (git(tag=""), "a mapping without a tag"),
        (changed(source_repository=None), "source_repository is no object"),
        (changed(source_repository={"Svn": {}}), "source_repository.Git is no object"),
        (changed(package_type="Docker"), "package_type is not Maven2"),
        (changed(package_specific_id="a:b"), "is not G:A:V"),
        (changed(package_specific_id="a:b:1-SNAPSHOT"), "snapshot"),
        (changed(package_specific_id="../a:b:1"), "no group id"),
        (git(url="http://git.example/a"), "repository .* is not git.https"),
        (git(url="git@git.example:a/b"), "repository .* is not git.https"),
        (git(url="https://user:pw@git.example/a"), "repository .* is not git.https"),
        (git(tag="v1.15 --upload-pack=x"), "is no name of a git tag"),
        (git(tag="release"), "does not hold the version"),
        (git(tag="v1.15-of-1.15"), "does not hold the version once"),
        (git(tag="rel/1.15.1"), "by itself"),
        (git(tag="rel/11.15"), "by itself"),
        (git(tag="rel/2.1.15"), "by itself"),
        (git(tag=7), "tag is no text"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not"),
        ("[[mapping]]\nrepository='x'\npattern=1", "pattern is not text"),
        ("[[mapping]]\nrepository='x'", "missing"),
        ("mapping = 1", "tables"),
        ("[mapping]\nx = 1", "is not JSON"),
        ("[[mapping]]\nother = 1", "unknown"),
        ("x = 1", "tables"),
        ("", "tables"),
        ("mapping = []", "0 mappings"),
        (TOML + TOML, "pkg:maven/commons-codec/commons-codec is mapped twice"),
        (TOML.replace('tag = "rel', 'tag = "') + "", "is no name of a git tag"),
        (TOML.replace("jdk = 17", "jdk = 17.5"), "float|profile"),
        (TOML.replace("jdk = 17", "sandbox = false"), "recipe field 'sandbox'"),
        (TOML.replace("jdk = 17", "day = 1979-05-27"), "date|profile"),
        ("x" * (FILE_CHARACTERS_MAX + 1), "at most"),
    ],
)
def test_file_that_maps_nothing_legal_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        read_mappings(text)


def test_file_of_too_many_mappings_is_refused() -> None:
    table = '[[mapping]]\npattern = "a:b{}"\nrepository = "https://a.example/{{version}}.zip"\n'
    text = "".join(table.format(number) for number in range(MAPPINGS_MAX + 1))
    with pytest.raises(InvalidInputError, match="201 mappings are in it, not 1 to 200"):
        read_mappings(text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("a.b:c", "pkg:maven/a.b/c"),
        ("a.b:*", "pkg:maven/a.b/*"),
        ("pkg:maven/a.b/*", "pkg:maven/a.b/*"),
    ],
)
def test_people_write_a_pattern_as_maven_does(text: str, pattern: str) -> None:
    assert pattern_of(text) == pattern


@pytest.mark.parametrize("text", ["a", "a:b:1", "*:*", "a:", ":b", "a/b:c", "pkg:pypi/six"])
def test_text_that_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="pattern"):
        pattern_of(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*CODEC, "Git", "url", "tag", "mapping", "pattern", "recipe"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.text(max_size=60) | _values.map(json.dumps))
def test_only_our_error_escapes_from_a_file_and_what_passes_is_legal(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        for each in read_mappings(text):
            check_mapping(each)
    with contextlib.suppress(InvalidInputError):
        read_version_mapping(text)
