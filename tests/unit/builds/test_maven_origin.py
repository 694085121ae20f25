"""Where a Maven artifact comes from: the log says, or whoever asks; who asks is checked."""

from __future__ import annotations

from typing import Any

import pytest

from pyrsia_node.builds.maven import Origin, checked_options, filled_in, is_mapped
from pyrsia_node.builds.wishes import encode_options
from pyrsia_node.core.methods import artifact_of, options_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.links import BuildParams

CODEC = Purl.maven("commons-codec", "commons-codec", "1.15")
SOURCE, TAG = "git+https://git.example/commons-codec.git", "rel/commons-codec-1.15"
ORIGIN = Origin(SOURCE, TAG, {"jdk": 8, "goals": ("install",)})
COMMIT = "a" * 40


def options(**given: object) -> str:
    return encode_options(given)  # type: ignore[arg-type] # JSON, as a peer sends it


def params(name: str = "commons-codec:commons-codec", **more: object) -> BuildParams:
    return BuildParams.parse({"ecosystem": "maven", "name": name, "version": "1.15", **more})


def test_mapping_of_the_log_says_source_tag_and_recipe() -> None:
    assert filled_in(CODEC, "", ORIGIN) == {
        "source": SOURCE,
        "tag": TAG,
        "jdk": 8,
        "goals": ("install",),
    }


def test_wish_overrides_what_the_mapping_says() -> None:
    given = options(source="git+https://git.example/fork", tag="v1", jdk=17)
    assert filled_in(CODEC, given, ORIGIN) == {
        "source": "git+https://git.example/fork",
        "tag": "v1",
        "jdk": 17,
        "goals": ("install",),
    }


def test_commit_stands_in_place_of_the_mapping_s_tag() -> None:
    found = filled_in(CODEC, options(commit=COMMIT), ORIGIN)
    assert (found["source"], found["commit"], "tag" in found) == (SOURCE, COMMIT, False)


def test_archive_of_a_mapping_has_no_tag() -> None:
    archive = Origin("https://files.example/codec-1.15.tar.gz", "", {})
    assert filled_in(CODEC, "", archive) == {"source": archive.source}


def test_package_that_nobody_places_is_refused_with_both_ways_out() -> None:
    with pytest.raises(InvalidInputError, match=r"pyrsia sources add.*--source"):
        filled_in(CODEC, options(jdk=17), None)


def test_external_pipeline_needs_no_source_and_takes_no_recipe_of_the_mapping() -> None:
    external = options(pipeline="external")
    assert filled_in(CODEC, external, None) == {"pipeline": "external"}
    assert filled_in(CODEC, external, ORIGIN) == {
        "pipeline": "external",
        "source": SOURCE,
        "tag": TAG,
    }


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"source": SOURCE, "tag": "v1", "commit": COMMIT}, "tag and commit"),
        ({"source": SOURCE}, "which tag or commit"),
        ({"source": "https://files.example/a.zip", "tag": "v1"}, "is an archive"),
        ({"source": "git+http://git.example/a", "tag": "v1"}, "source"),
        ({"source": "git+ssh://git.example/a", "tag": "v1"}, "source"),
        ({"source": "git+https://user:secret@git.example/a", "tag": "v1"}, "source"),
        ({"source": "git+https://git.example/a?b=c", "tag": "v1"}, "source"),
        ({"source": "git+https://git.example", "tag": "v1"}, "source"),
        ({"source": "/srv/a", "tag": "v1"}, "source"),
        ({"commit": "abc"}, "commit"),
        ({"commit": COMMIT + "\n"}, "commit"),
        ({"jdk": "17"}, "jdk"),
        ({"jdk": 0}, "jdk"),
        ({"umask": 0o1000}, "umask"),
        ({"goals": "install"}, "goals"),
        ({"goals": ["a b"]}, "goals"),
        ({"newline": "cr"}, "newline"),
        ({"module": "a\nb"}, "module"),
        ({"pipeline": "ours"}, "pipeline"),
        ({"pipeline": "external", "jdk": 17}, "jdk is for the network's own pipeline"),
        ({"shell": "sh"}, "shell"),
    ],
)
def test_options_that_are_none_are_refused_by_name(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        checked_options(encode_options(given))


def test_options_pass_unchanged() -> None:
    given = options(
        source=SOURCE, tag=TAG, jdk=17, goals=["clean", "install"], properties=["a=b"], umask=18
    )
    assert checked_options(given) == given
    assert not checked_options("")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"source_url": SOURCE, "tag": TAG}, True),
        ({"source_url": SOURCE, "tag": ""}, False),
        ({"source_url": SOURCE}, False),
        ({"source_url": SOURCE + "/", "tag": TAG}, False),
        ({"tag": TAG}, False),
    ],
)
def test_request_is_mapped_exactly_if_source_and_tag_are_those_of_the_log(
    recipe: dict[str, Any], *, expected: bool
) -> None:
    assert is_mapped(recipe, ORIGIN) is expected
    assert not is_mapped(recipe, None)


def test_archive_without_a_tag_is_mapped_by_its_address() -> None:
    origin = Origin("https://files.example/a.zip", "", {})
    assert is_mapped({"source_url": origin.source, "tag": ""}, origin)
    assert is_mapped({"source_url": origin.source}, origin)


def test_artifact_is_named_as_people_of_maven_write_it() -> None:
    assert str(artifact_of("commons-codec:commons-codec", "1.15")) == str(CODEC)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("commons-codec", "1"),
        ("a:b:c", "1"),
        (":b", "1"),
        ("a:", "1"),
        ("a/b:c", "1"),
        ("a..b:c", "1"),
        ("a:b", "1-SNAPSHOT"),
        ("a:b", "../1"),
    ],
)
def test_coordinates_that_are_none_are_refused(name: str, version: str) -> None:
    with pytest.raises(InvalidInputError):
        artifact_of(name, version)


def test_options_of_a_wish_at_the_node_are_those_of_maven() -> None:
    assert options_of(params(options={"source": SOURCE, "tag": TAG, "jdk": 17})) == options(
        source=SOURCE, tag=TAG, jdk=17
    )
    assert not options_of(params())


def test_options_are_for_maven_alone() -> None:
    image = {"ecosystem": "docker", "name": "alpine", "version": "1", "options": {"jdk": 17}}
    with pytest.raises(InvalidInputError, match="options are for Maven"):
        options_of(BuildParams.parse(image))
