"""Coordinates, paths, metadata and the order of versions, for whatever anybody may write."""

from __future__ import annotations

import contextlib
import io
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from buildpipelines.errors import FormatError
from buildpipelines.inputs.maven_metadata import locked_metadata, named_prefix, read_goal_prefix
from buildpipelines.inputs.maven_proxy import plugin_prefix
from buildpipelines.spec.coordinates import (
    Coordinates,
    parse_coordinates,
    parse_file_path,
    parse_maven_purl,
)
from buildpipelines.spec.lock import Lock, LockedFile, make_lock
from buildpipelines.spec.maven_order import VERSION_CHARACTERS_MAX, version_key
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl

groups = st.from_regex(r"[a-z][a-z0-9_-]{0,8}(\.[a-zA-Z0-9_][a-z0-9-]{0,8}){0,4}", fullmatch=True)
artifacts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
versions = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,20}", fullmatch=True).filter(
    lambda text: not text.endswith("-SNAPSHOT")
)
coordinates = st.builds(Coordinates, groups, artifacts, versions)
odd_versions = st.lists(
    st.sampled_from([".", "-", "1", "0", "10", "a", "rc", "alpha", "ga", "final", "sp", "x"])
).map("".join)


@given(coordinates)
def test_coordinates_survive_their_purl_and_their_name(one: Coordinates) -> None:
    assert parse_maven_purl(one.purl) == one
    assert parse_coordinates(one.name, one.version) == one


@given(coordinates)
def test_path_of_a_file_is_read_as_it_was_written(one: Coordinates) -> None:
    for file in (one.file("pom"), one.file("jar"), one.file("tar.gz", "sources")):
        assert parse_file_path(f"{one.folder}/{file}") == (one.folder, file)
        assert one.owns(file)


@given(coordinates, st.text(max_size=20))
def test_only_names_that_begin_as_the_artifact_are_its_files(one: Coordinates, rest: str) -> None:
    name = f"{one.artifact}-{one.version}{rest}"
    assert not one.owns(name) or rest[0] in ".-"
    assert not one.owns(f"x{name}")


@given(st.text() | st.builds("pkg:maven/{}/{}@{}".format, st.text(), st.text(), st.text()))
def test_purl_is_read_in_its_normal_form_or_refused_as_malformed(text: str) -> None:
    with contextlib.suppress(FormatError):
        assert parse_maven_purl(text).purl == text


@given(coordinates)
def test_worker_and_log_write_one_purl(one: Coordinates) -> None:
    with contextlib.suppress(InvalidInputError):  # the log is stricter about lengths
        assert str(Purl.maven(one.group, one.artifact, one.version)) == one.purl


@given(st.text(), st.text())
def test_only_our_error_escapes_from_coordinates(name: str, version: str) -> None:
    with contextlib.suppress(FormatError):
        assert parse_coordinates(name, version).name == name


@given(
    st.text()
    | st.lists(st.sampled_from(["..", ".", "", "a", "%2e%2e", "a\\b", "a\0", "é", "b-1.jar"])).map(
        "/".join
    )
)
def test_no_path_leaves_the_repository(path: str) -> None:
    with contextlib.suppress(FormatError):
        folder, file = parse_file_path(path)
        assert f"{folder}/{file}" == path
        steps = path.split("/")
        assert all(step and not step.startswith(".") for step in steps)
        assert path.isascii()
        assert path.isprintable()


@given(odd_versions, odd_versions, odd_versions)
def test_order_of_versions_is_an_order(one: str, two: str, three: str) -> None:
    first, second, third = map(version_key, (one, two, three))
    assert (first < second) + (second < first) + (first == second) == 1
    if first <= second <= third:
        assert first <= third


@given(st.text(max_size=300))
@example("1" * VERSION_CHARACTERS_MAX)
@example("1" * (VERSION_CHARACTERS_MAX + 1))
def test_every_text_has_a_place_in_the_order_or_is_too_long(text: str) -> None:
    try:
        key = version_key(text)
    except FormatError:
        assert len(text) > VERSION_CHARACTERS_MAX
        return
    assert len(text) <= VERSION_CHARACTERS_MAX
    assert not key < version_key(text)
    if len(text) + 2 <= VERSION_CHARACTERS_MAX:
        assert key == version_key(f"{text}-0")


# ------------------------------------------------------------------ metadata of a lock

locked = st.lists(coordinates, min_size=1, max_size=6, unique_by=lambda c: c.folder).map(
    lambda found: make_lock(
        LockedFile("maven", each.folder, each.file("jar"), f"{number:064x}", 1)
        for number, each in enumerate(found)
    )
)


@given(locked, st.sampled_from([None, "goal"]))
def test_metadata_of_a_lock_names_its_versions_and_no_others(
    lock: Lock, prefix: str | None
) -> None:
    for file in lock.files:
        artifact_folder, _, version = file.project.rpartition("/")
        made = locked_metadata(lock, artifact_folder, lambda _sha256: prefix)
        assert made is not None
        document = ET.fromstring(made)  # noqa: S314 - it was made here
        versions = [each.text for each in document.iter("version")]
        assert version in versions
        assert set(versions) == {
            each.project.rpartition("/")[2]
            for each in lock.files
            if each.project.rpartition("/")[0] == artifact_folder
        }
        newest = document.findtext("versioning/release")
        assert newest is not None
        assert all(version_key(each or "") <= version_key(newest) for each in versions)
        group_folder = artifact_folder.rpartition("/")[0]
        group = locked_metadata(lock, group_folder, lambda _sha256: "goal")
        assert group is not None
        assert [each.text for each in ET.fromstring(group).iter("prefix")] == ["goal"]  # noqa: S314 - it was made here


@given(locked, st.text(max_size=20))
def test_folder_that_holds_nothing_locked_has_no_metadata(lock: Lock, folder: str) -> None:
    below = {each.project for each in lock.files}
    if not any(each.startswith(f"{folder}/") for each in below):
        assert locked_metadata(lock, folder, lambda _sha256: None) is None


@given(artifacts)
def test_plugin_without_a_prefix_has_that_of_its_name(word: str) -> None:
    if "maven" not in word and "plugin" not in word:
        plain = word.strip("-")
        assert named_prefix(f"maven-{plain}-plugin") == plain
        assert named_prefix(f"{plain}-maven-plugin") == plain


@given(st.binary(max_size=200))
def test_prefix_of_any_descriptor_is_a_plain_word_or_none(text: bytes) -> None:
    for each in (text, b"<goalPrefix>" + text, b"<goalPrefix>" + text + b"</goalPrefix>"):
        found = read_goal_prefix(each)
        assert found is None or found.replace(".", "").replace("-", "").replace("_", "").isalnum()


@given(st.data())
def test_damaged_plugin_has_no_prefix_and_raises_nothing(data: st.DataObject) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/maven/plugin.xml", "<goalPrefix>jar</goalPrefix>")
    whole = out.getvalue()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + 1 :]
    with tempfile.NamedTemporaryFile() as file:
        file.write(damaged)
        file.flush()
        assert plugin_prefix(Path(file.name)) in (None, "jar")
