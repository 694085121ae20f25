"""Laws of the paths of a Maven repository."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.maven import METADATA, MavenFile, locate

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)
releases = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(-rc[0-9])?", fullmatch=True)


@given(st.lists(names, min_size=1, max_size=4), names, releases, st.sampled_from(["jar", "pom"]))
def test_path_of_a_file_names_that_file(
    group: list[str], artifact: str, version: str, extension: str
) -> None:
    name = f"{artifact}-{version}.{extension}"
    found = locate([*group, artifact, version, name])
    assert isinstance(found, MavenFile)
    assert found.path.split("/") == [*group, artifact, version, name]
    assert found.is_ordinary


hostile = st.sampled_from(
    [
        "..",
        ".",
        "",
        "%2e",
        "a/b",
        "a\\b",
        "a\0",
        "org",
        "1.0",
        "a-1.0.jar",
        METADATA,
        "é",
        "x" * 300,
    ]
) | st.text(max_size=6)


@given(st.lists(hostile, max_size=8))
def test_only_invalid_input_escapes_and_what_gets_through_is_plain(segments: list[str]) -> None:
    try:
        found = locate(segments)
    except InvalidInputError:
        return
    assert found.path.split("/") == segments
    assert all(part not in {"", ".", ".."} and part.isascii() for part in segments)
    assert not any(character in part for part in segments for character in "/\\%\0 ")
