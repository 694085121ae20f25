"""What a path below ``/maven2`` asks for."""

from __future__ import annotations

import pytest

from pyrsia_node.gateway.maven.requests import Wanted, read_path
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.model.maven import MavenFile, MavenListing, MavenProject

TOOL = MavenProject("org.example", "tool")
JAR = MavenFile(TOOL, "1.0", "tool-1.0.jar")


@pytest.mark.parametrize(
    ("suffix", "sidecar", "checksum"),
    [
        ("", "", ""),
        (".sha1", "", "sha1"),
        (".sha512", "", "sha512"),
        (".asc", ".asc", ""),
        (".asc.md5", ".asc", "md5"),
        (".tlog-proof", ".tlog-proof", ""),
        (".intoto.jsonl", ".intoto.jsonl", ""),
    ],
)
def test_sidecars_and_checksums_are_told_from_their_file(
    suffix: str, sidecar: str, checksum: str
) -> None:
    path = f"/maven2/org/example/tool/1.0/tool-1.0.jar{suffix}".encode()
    assert read_path(path) == Wanted(JAR, sidecar, checksum)


def test_listing_has_checksums_and_nothing_else() -> None:
    listing = MavenListing("org.example.tool", TOOL)
    assert read_path(b"/maven2/org/example/tool/maven-metadata.xml") == Wanted(listing)
    found = read_path(b"/maven2/org/example/tool/maven-metadata.xml.md5")
    assert found == Wanted(listing, checksum="md5")
    with pytest.raises(NotFoundError):
        read_path(b"/maven2/org/maven-metadata.xml.asc")


def test_special_characters_may_be_encoded_and_nothing_else() -> None:
    plain = read_path(b"/maven2/g/a/1+2/a-1+2.jar")
    assert read_path(b"/maven2/g/a/1%2B2/a-1%2B2.jar") == plain
    assert read_path(b"/maven2/g/a/1%2b2/a-1%2B2.jar") == plain
    for hidden in (b"/maven2/g/a/1/%61-1.jar", b"/maven2/g/a/1/a%2d1.jar", b"/maven2/g/a/1%2e0/x"):
        with pytest.raises(NotFoundError, match="encodes what needs no encoding"):
            read_path(hidden)
