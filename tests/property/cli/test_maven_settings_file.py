"""settings.xml: in and out is nothing, twice is once, and every other byte stays."""

from __future__ import annotations

import contextlib
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyrsia_cli.clients_maven import maven_bypasses, maven_with, maven_without
from pyrsia_node.model.errors import InvalidInputError

URL = "http://127.0.0.1:7888/maven2"
HOST = "127.0.0.1"
OTHER = "<mirror><id>o</id><mirrorOf>central</mirrorOf><url>https://o.example</url></mirror>"
NAMED = '<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">'

ET.register_namespace("", "http://maven.apache.org/SETTINGS/1.0.0")  # Maven reads no prefixes

_blanks = st.sampled_from(("", "\n", "\n  ", " ", "\t", "\r\n    ", "\n\n"))
_comments = st.sampled_from(("", "<!-- mine -->", "<!-- pyrsia -->", "<!-- <mirrors/> é -->"))
_others = st.sampled_from(
    (
        "",
        "<offline>false</offline>",
        "<servers><server><id>a</id><password>a&gt;b</password></server></servers>",
        "<profiles><profile><id>p</id></profile></profiles>",
        "<![CDATA[]]>",
    )
)
_tags = st.sampled_from(("<settings>", NAMED, "<settings a='x>y' >", '<settings\n  a=">" >'))


@st.composite
def settings_files(draw: st.DrawFn) -> str:
    """Any settings.xml, with and without mirrors, written in any of a few manners."""

    def gap() -> str:
        return draw(_blanks) + draw(_comments) + draw(_blanks)

    mirrors = draw(
        st.sampled_from(
            (
                "",
                "<mirrors/>",
                "<mirrors />",
                "<mirrors></mirrors>",
                "<mirrors>\n  </mirrors>",
                f"<mirrors>{OTHER}</mirrors>",
                f"<mirrors>\r\n    <!-- first -->{OTHER}\n  </mirrors  >",
            )
        )
    )
    head = draw(st.sampled_from(("", '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff")))
    parts = [gap(), draw(_others), gap(), mirrors, gap()]
    if not any(part.strip() for part in parts) and draw(st.booleans()):
        return head + draw(_tags)[:-1] + "/>" + draw(_blanks)
    return head + draw(_tags) + "".join(parts) + "</settings>" + draw(_blanks)


files = settings_files()
patterns = st.sampled_from(("*", "central", "external:*", "*,!team", "a&b<c"))


def mirrors_of(text: str) -> list[tuple[str | None, ...]]:
    """Return (id, mirrorOf, url) of every mirror, as Maven would read them."""
    root = ET.fromstring(text.removeprefix("\ufeff"))  # noqa: S314 - our own text
    found = [each for each in root.iter() if each.tag.rpartition("}")[2] == "mirror"]
    return [tuple(child.text for child in each) for each in found]


@given(files, patterns)
@example("<settings/>", "*")
@example("<settings />\n", "central")
@example("", "*")
def test_what_goes_into_settings_xml_comes_out_again_to_the_byte(text: str, of: str) -> None:
    once = maven_with(text, URL, mirror_of=of)
    assert maven_with(once, URL, mirror_of=of) == once
    assert maven_without(once) == text
    assert maven_without(text) == text


@given(files, patterns)
def test_node_is_the_first_mirror_and_the_others_stay(text: str, of: str) -> None:
    once = maven_with(text, URL, mirror_of=of)
    assert mirrors_of(once) == [("pyrsia", of, URL), *mirrors_of(text)]


@given(files, patterns, patterns)
def test_another_pattern_replaces_the_first(text: str, first: str, second: str) -> None:
    again = maven_with(maven_with(text, URL, mirror_of=first), URL, mirror_of=second)
    assert again == maven_with(text, URL, mirror_of=second)


@given(files)
def test_node_comes_out_of_a_file_that_another_program_wrote_anew(text: str) -> None:
    """Without comments, and with other blanks: the id alone tells which mirror is ours."""
    root = ET.fromstring(maven_with(text, URL).removeprefix("\ufeff"))  # noqa: S314 - our own text
    ET.indent(root, "\t")
    anew = ET.tostring(root, encoding="unicode")
    assert mirrors_of(maven_without(anew)) == mirrors_of(text)


@given(st.text(max_size=60) | st.text("<>/!-? settingmro\"'=&;", max_size=60))
@example("<settings><!-- pyrsia: written by")
@example("<settings><mirrors><mirror><id>pyrsia</id></mirror></mirrors>")
@example("<settings a='\x00'/>")
def test_whatever_the_file_holds_only_our_error_escapes(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        maven_with(text, URL)
    with contextlib.suppress(InvalidInputError):
        maven_without(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<settings>", "not well-formed"),
        ("settings", "not well-formed"),
        (" ", "not well-formed"),
        ("<project/>", "no settings.xml: its root is <project>"),
        ("<settings><mirrors/><mirrors/></settings>", "two <mirrors>"),
        ("<!DOCTYPE settings [<!ENTITY a 'b'>]><settings>&a;</settings>", "document type"),
        ("<settings>&a;</settings>", "not well-formed"),
        ("<settings>" + "<a>" * 70 + "</a>" * 70 + "</settings>", "too deep"),
    ],
)
def test_file_that_is_no_settings_xml_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        maven_with(text, URL)
    with pytest.raises(InvalidInputError, match=why):
        maven_without(text)


@pytest.mark.parametrize("of", ["", "a b", "é", "x" * 201, "a\n"])
def test_pattern_that_is_none_is_refused(of: str) -> None:
    with pytest.raises(InvalidInputError, match="no pattern"):
        maven_with("", URL, mirror_of=of)


def test_what_fetches_past_the_node_is_named() -> None:
    text = (
        f"<settings><mirrors>{OTHER}"
        "<mirror><id>late</id><mirrorOf>external:*</mirrorOf><url>https://l.example</url></mirror>"
        "</mirrors><proxies><proxy><id>corp</id><active>true</active><host>p.example</host>"
        "</proxy><proxy><id>good</id><nonProxyHosts>a|127.0.0.1</nonProxyHosts></proxy></proxies>"
        "<profiles><profile><repositories><repository><id>team</id></repository></repositories>"
        "</profile></profiles></settings>"
    )
    assert maven_bypasses(maven_with(text, URL), HOST) == [
        "mirror o of central",
        "proxy corp (unless its nonProxyHosts names 127.0.0.1)",
    ]
    assert maven_bypasses(maven_with(text, URL, mirror_of="central"), HOST) == [
        "mirror late of external:*",
        "repository team",
        "proxy corp (unless its nonProxyHosts names 127.0.0.1)",
    ]
