"""Laws of ``maven-metadata.xml`` and of checksum files: what is written can be read, and only our
error escapes."""

from __future__ import annotations

import contextlib
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.artifacts.maven.checksums import read_checksum
from pyrsia_node.artifacts.maven.listings import Listing, Plugin, merge, parse_listing, render
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.maven import MavenProject

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}", fullmatch=True)
releases = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}(-rc[0-9])?", fullmatch=True)
plugins = st.builds(Plugin, names, names, st.text("abc <&>'", max_size=8).map(str.strip))
listings = st.builds(
    Listing,
    st.frozensets(releases, min_size=1, max_size=5),
    st.just("") | st.from_regex(r"20[0-9]{12}", fullmatch=True),
    st.lists(plugins, max_size=3, unique_by=lambda each: each.prefix).map(
        lambda found: tuple(sorted(found, key=lambda each: each.prefix))
    ),
)


@given(listings)
def test_listing_survives_being_written(listing: Listing) -> None:
    data = render(listing, group="org.example", project=MavenProject("org", "example"))
    assert parse_listing(data) == listing


@given(listings, listings)
def test_merging_loses_no_version_and_does_not_depend_on_the_order(
    one: Listing, other: Listing
) -> None:
    merged = merge([one, other])
    assert merged.versions == one.versions | other.versions == merge([other, one]).versions
    assert merge([merged, merged]) == merged


fragments = st.sampled_from(
    [b"<metadata>", b"</metadata>", b"<versioning>", b"<versions>", b"<version>1", b"</version>",
     b"<plugins>", b"<plugin>", b"<prefix>", b"&lt;", b"<![CDATA[", b"]]>", b"<!--", b"<?xml ?>",
     b"<!DOCTYPE a>", b"\x00", b"\xff\xfe", b"<a b='c'/>"]
)  # fmt: skip


@given(st.binary(max_size=60) | st.lists(fragments, max_size=12).map(b"".join))
def test_only_our_error_escapes_the_reader(data: bytes) -> None:
    with contextlib.suppress(VerificationError):
        parse_listing(data)


kinds = st.sampled_from(["md5", "sha1", "sha256"])


@given(st.binary(max_size=20), kinds, st.sampled_from(["{}", "{}  a.jar\n", "a.jar: {}", "{}\r\n"]))
def test_checksum_is_found_whatever_stands_beside_it(data: bytes, kind: str, form: str) -> None:
    digest = hashlib.new(kind, data).hexdigest()
    assert read_checksum(form.format(digest).encode(), kind) == digest
    assert read_checksum(form.format(digest.upper()).encode(), kind) == digest


@given(st.binary(max_size=200), kinds)
def test_what_holds_no_digest_of_that_length_gives_none(data: bytes, kind: str) -> None:
    length = {"md5": 32, "sha1": 40, "sha256": 64}[kind]
    found = read_checksum(data, kind)
    assert found is None or (len(found) == length and found.encode() in data.lower())
