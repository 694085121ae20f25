"""``maven-metadata.xml``: what is written for clients, and what is believed of upstreams'."""

from __future__ import annotations

from time import perf_counter

import pytest

from pyrsia_node.artifacts.maven.listings import (
    Listing,
    Plugin,
    merge,
    parse_listing,
    plugin_of,
    render,
    seconds_of,
    timestamp,
)
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.maven import MavenProject

PROJECT = MavenProject("org.example", "tool")


def versions(*names: str) -> Listing:
    return Listing(frozenset(names))


def test_latest_and_release_are_the_highest_version_in_mavens_order() -> None:
    text = render(versions("1.9", "1.10", "1.10-rc1"), group="x", project=PROJECT).decode()
    assert "<latest>1.10</latest>" in text
    assert "<release>1.10</release>" in text
    order = [text.index(f"<version>{each}<") for each in ("1.9", "1.10-rc1", "1.10")]
    assert order == sorted(order)


def test_group_with_plugins_alone_has_no_versions() -> None:
    listing = Listing(plugins=(Plugin("exec", "exec-maven-plugin", "Exec & more"),))
    text = render(listing, group="org.example.tool", project=PROJECT).decode()
    assert "<groupId>org.example.tool</groupId>" in text
    assert "<versioning>" not in text
    assert "Exec &amp; more" in text


def test_what_both_list_is_listed_once_and_the_first_plugin_keeps_its_prefix() -> None:
    ours = Listing(frozenset({"1"}), "20230101000000", (Plugin("a", "a-maven-plugin", "ours"),))
    theirs = Listing(frozenset({"1", "2"}), "20240101000000", (Plugin("a", "evil", "theirs"),))
    merged = merge([ours, theirs])
    assert merged.versions == {"1", "2"}
    assert merged.updated == "20240101000000"
    assert [each.artifact for each in merged.plugins] == ["a-maven-plugin"]


def test_snapshots_and_what_is_no_version_are_left_out() -> None:
    listed = ["1.0", "1.0-SNAPSHOT", "../../x", "", "2.0 beta", "x" * 200, "2.0"]
    body = "".join(f"<version>{each}</version>" for each in listed)
    text = f"<metadata><versioning><versions>{body}</versions></versioning></metadata>"
    assert parse_listing(text.encode()).versions == {"1.0", "2.0"}


def test_versions_elsewhere_in_the_document_mean_nothing() -> None:
    text = b"<metadata><version>1.0</version><versions><version>2.0</version></versions></metadata>"
    assert parse_listing(text).is_empty


def test_plugins_are_read_with_their_prefixes() -> None:
    text = (
        b"<metadata><plugins><plugin><name>Exec</name><prefix>exec</prefix>"
        b"<artifactId>exec-maven-plugin</artifactId></plugin>"
        b"<plugin><prefix>../x</prefix><artifactId>y</artifactId></plugin>"
        b"<plugin><prefix>z</prefix></plugin></plugins></metadata>"
    )
    assert parse_listing(text).plugins == (Plugin("exec", "exec-maven-plugin", "Exec"),)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<!DOCTYPE m [<!ENTITY a 'aaaa'>]><metadata>&a;</metadata>", "document type"),
        (b"<metadata>&unknown;</metadata>", "malformed"),
        (b"<metadata>" * 20, "elements deep"),
        (b"", "malformed"),
        (b"<?xml version='1.0' encoding='klingon'?><metadata/>", "malformed"),
        (b"<metadata/>" + b" " * 4 * 1024 * 1024, "longer than"),
    ],
)
def test_hostile_documents_are_refused_in_words(body: bytes, text: str) -> None:
    with pytest.raises(VerificationError, match=text):
        parse_listing(body)


def test_more_names_than_anybody_has_are_refused() -> None:
    body = "".join(f"<version>{each}</version>" for each in range(4_001))
    text = f"<metadata><versioning><versions>{body}</versions></versioning></metadata>"
    with pytest.raises(VerificationError, match="more than 4000 names"):
        parse_listing(text.encode())


@pytest.mark.parametrize("part", ["1a", "1-", "1.", "a-", "-", "1"])
def test_largest_listing_that_is_believed_is_written_within_a_second(part: str) -> None:
    """Its cost is the upstream's choice, and everybody's clients wait."""
    texts = (f"{part * 28}{each}"[:64] for each in range(4_000))
    body = "".join(f"<version>{each}</version>" for each in texts)
    text = f"<metadata><versioning><versions>{body}</versions></versioning></metadata>"
    began = perf_counter()
    listing = parse_listing(text.encode())
    render(Listing(listing.versions | {"1"}), group="x", project=PROJECT)
    assert perf_counter() - began < 1.0


def test_versions_that_nobody_publishes_are_left_out() -> None:
    texts = ["1" * 64, "1" * 65, ".".join("1" * 16), ".".join("1" * 17)]
    body = "".join(f"<version>{each}</version>" for each in texts)
    text = f"<metadata><versioning><versions>{body}</versions></versioning></metadata>"
    assert parse_listing(text.encode()).versions == {texts[0], texts[2]}


def test_prefix_follows_mavens_convention_of_names() -> None:
    found = {
        name: plugin.prefix if plugin else None
        for name in ("maven-jar-plugin", "exec-maven-plugin", "commons-io", "maven-plugin")
        for plugin in [plugin_of(name)]
    }
    assert found == {
        "maven-jar-plugin": "jar",
        "exec-maven-plugin": "exec",
        "commons-io": None,
        "maven-plugin": None,
    }


def test_times_are_spelled_in_utc() -> None:
    assert timestamp(1_700_000_000_999) == "20231114221320"
    assert seconds_of("20231114221320") == 1_700_000_000
    assert seconds_of("20231399000000") is None
    assert seconds_of("") is None
