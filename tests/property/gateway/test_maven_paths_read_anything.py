"""Whatever path is sent below ``/maven2``: it names a plain file, or it is not found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.gateway.maven.requests import read_path
from pyrsia_node.model.errors import NotFoundError

segment = st.sampled_from(
    [b"org", b"example", b"tool", b"1.0", b"tool-1.0.jar", b"tool-1.0.jar.sha1", b"a.asc",
     b"maven-metadata.xml", b"maven-metadata.xml.md5", b"..", b".", b"", b"%2e%2e", b"%2F", b"%5c",
     b"%252e", b"%00", b"%", b"%zz", b"1.0%2B1", b"+", b"~", b"\xc3\xa9", b"1.0-SNAPSHOT"]
) | st.binary(max_size=8)  # fmt: skip


@given(st.lists(segment, max_size=9).map(b"/".join))
def test_what_gets_through_is_a_plain_path_and_nothing_else_escapes(path: bytes) -> None:
    try:
        wanted = read_path(b"/maven2/" + path)
    except NotFoundError:
        return
    found = wanted.what.path
    assert found.isascii()
    assert found.isprintable()
    assert not {"", ".", ".."} & set(found.split("/"))
    assert not any(character in found for character in "\\%\0 ")
