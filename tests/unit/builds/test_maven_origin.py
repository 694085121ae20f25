"""Where a Maven artifact comes from: the log says, or whoever asks; who asks is checked."""

from __future__ import annotations

from typing import Any

import pytest

from pyrsia_node.builds.maven import Origin, checked_options, departs, filled_in, origin_of
from pyrsia_node.builds.wishes import encode_options
from pyrsia_node.core.methods import artifact_of, options_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping
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


def test_package_that_nobody_places_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError, match=r"source not mapped.*pyrsia sources add"):
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
        ({"pipeline": "external", "source": "https://files.example/a.zip"}, "is told a git"),
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


RECIPE: dict[str, Any] = {
    "source_url": SOURCE,
    "tag": TAG,
    "commit": COMMIT,
    "jdk": 8,
    "maven": "3.8.7",
    "goals": ("install",),
    "profiles": (),
    "properties": ("maven.test.skip=true",),
    "module": "",
    "newline": "lf",
    "umask": 0o022,
    "timezone": "UTC",
    "locale": "C.UTF-8",
    "epoch": 1,
    "reference": "none",
}


def test_request_that_says_what_the_log_says_departs_in_nothing() -> None:
    assert departs(RECIPE, ORIGIN, kind="tree") == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_url", SOURCE + "/"),
        ("tag", ""),
        ("tag", TAG + "1"),
        ("jdk", 17),
        ("goals", ("install", "exec:exec")),
        ("goals", ()),
        ("profiles", ("release",)),
        ("properties", ("maven.test.skip=true", "project.build.sourceDirectory=x")),
        ("properties", ("a=b",)),
        ("module", "core"),
        ("timezone", "Asia/Tokyo"),
        ("locale", "tr_TR.UTF-8"),
    ],
)
def test_every_field_that_decides_what_comes_out_is_held_against_the_log(
    name: str, value: Any
) -> None:
    assert departs({**RECIPE, name: value}, ORIGIN, kind="tree") == (name,)


def test_properties_and_module_of_the_mapping_are_those_of_the_request() -> None:
    said: dict[str, Any] = {
        "properties": ("a=b",),
        "module": "core",
        "goals": ("package", "install"),
    }
    origin = Origin(SOURCE, TAG, said)
    good = {**RECIPE, **said, "properties": ("a=b", "maven.test.skip=true")}
    assert departs(good, origin, kind="tree") == ()
    assert departs(RECIPE, origin, kind="tree") == ("goals", "module", "properties")


def test_published_file_tells_the_jdk_whatever_the_mapping_says() -> None:
    """It is held against the file's own marks by the worker, and the build against the file."""
    published = {**RECIPE, "jdk": 17, "reference": "commons-codec-1.15.jar"}
    assert departs(published, ORIGIN, kind="tree") == ()


def test_request_without_a_mapping_departs_in_its_source() -> None:
    assert departs(RECIPE, None, kind="tree") == ("source_url",)


def test_external_pipeline_has_no_more_of_a_recipe_than_source_and_tag() -> None:
    assert departs({"source_url": SOURCE, "tag": TAG}, ORIGIN, kind="mapping") == ()
    assert departs({}, ORIGIN, kind="mapping") == ("source_url", "tag")


def test_archive_without_a_tag_is_mapped_by_its_address() -> None:
    origin = Origin("https://files.example/a.zip", "", {})
    archive = {**RECIPE, "source_url": origin.source, "tag": ""}
    assert departs(archive, origin, kind="archive") == ()


def test_mapping_of_the_log_is_filled_in_with_the_version() -> None:
    mapping = SourceMapping(
        "pkg:maven/commons-codec/*",
        "git+https://git.example/{artifact}.git",
        "rel/{artifact}-{version}",
        ORIGIN.recipe,
    )
    assert origin_of(mapping, CODEC) == ORIGIN
    assert origin_of(None, CODEC) is None


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
