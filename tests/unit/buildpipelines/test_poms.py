"""What the log says of an artifact comes from its pom and parents alone; hostile XML is refused."""

from __future__ import annotations

import time

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.recipes.pom import Pom, extract_metadata, is_parent, parent_path, read_pom
from buildpipelines.recipes.xml import DEPTH_MAX, ELEMENTS_MAX, parse_xml
from buildpipelines.spec.coordinates import parse_coordinates
from buildpipelines.spec.metadata import Metadata

CODEC = parse_coordinates("org.example:codec", "1.0")
PARENT = b"""<project xmlns="http://maven.apache.org/POM/4.0.0">
 <groupId>org.example</groupId><artifactId>parent</artifactId><version>7</version>
 <properties><io.version>2.11.0</io.version><lang>3.12</lang></properties>
 <licenses><license><name>Apache-2.0</name><url>http://x.example</url></license></licenses>
 <developers><developer><name>Ann Example</name><email>ann@x.example</email></developer>
  <developer><name>Bob &lt;bob@x.example&gt;</name></developer></developers>
 <dependencyManagement><dependencies>
  <dependency><groupId>commons-io</groupId><artifactId>commons-io</artifactId>
   <version>${io.version}</version><scope>runtime</scope></dependency>
 </dependencies></dependencyManagement>
 <dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId>
  <version>4.13.2</version><scope>test</scope></dependency></dependencies>
</project>"""
CHILD = b"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
 <parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>7</version></parent>
 <artifactId>codec</artifactId><version>1.0</version>
 <name>Codec</name>
 <description>
   Encodes\n   and   decodes.
 </description>
 <properties><lang>3.17.0</lang></properties>
 <url>https://codec.example/${project.artifactId}</url>
 <scm><url>https://git.example/codec</url></scm>
 <dependencies>
  <dependency><groupId>commons-io</groupId><artifactId>commons-io</artifactId></dependency>
  <dependency><groupId>org.apache.commons</groupId><artifactId>commons-lang3</artifactId>
   <version>${lang}</version><optional>true</optional></dependency>
  <dependency><groupId>a</groupId><artifactId>range</artifactId><version>[1,2)</version>
  </dependency>
  <dependency><groupId>${project.groupId}</groupId><artifactId>own</artifactId>
   <version>${project.version}</version></dependency>
  <dependency><groupId>${unknown}</groupId><artifactId>own</artifactId></dependency>
 </dependencies>
</project>"""


def line(child: bytes = CHILD, *parents: bytes) -> list[Pom]:
    return [read_pom(each) for each in (child, *(parents or (PARENT,)))]


def test_metadata_is_the_pom_with_what_it_inherits() -> None:
    assert extract_metadata(line(), CODEC) == Metadata(
        name="org.example:codec",
        version="1.0",
        summary="Encodes and decodes.",
        author="Ann Example, Bob",
        licence="Apache-2.0",
        homepage="https://codec.example/codec",
        repository="https://git.example/codec",
        requires=(
            "pkg:maven/a/range compile",
            "pkg:maven/commons-io/commons-io@2.11.0 runtime",
            "pkg:maven/junit/junit@4.13.2 test",
            "pkg:maven/org.apache.commons/commons-lang3@3.17.0 compile optional",
            "pkg:maven/org.example/own@1.0 compile",
        ),
    )


def test_without_its_parents_a_pom_says_what_it_says_itself() -> None:
    found = extract_metadata([read_pom(CHILD)], CODEC)
    assert (found.licence, found.author) == ("", "")
    assert "pkg:maven/commons-io/commons-io compile" in found.requires


def test_parent_is_where_the_pom_says() -> None:
    parent = read_pom(CHILD).parent
    assert parent is not None
    assert (parent.coordinates.folder, parent.file) == ("org/example/parent/7", "parent-7.pom")
    assert read_pom(PARENT).parent is None
    assert read_pom(CHILD.replace(b">7<", b">${revision}<")).parent is None


@pytest.mark.parametrize(
    ("folder", "relative", "path"),
    [
        ("core", None, "pom.xml"),
        ("a/b", None, "a/pom.xml"),
        ("a/b", "../../parent", "parent/pom.xml"),
        ("a/b", "../c/./other.xml", "a/c/other.xml"),
        ("core", "", None),
        ("", None, None),
        ("core", "../../pom.xml", None),
        ("core", "/etc/pom.xml", None),
    ],
)
def test_parent_lies_where_the_relative_path_leads(
    folder: str, relative: str | None, path: str | None
) -> None:
    line = b"" if relative is None else f"<relativePath>{relative}</relativePath>".encode()
    child = read_pom(CHILD.replace(b"</parent>", line + b"</parent>"))
    assert parent_path(child, folder) == path


def test_pom_without_a_parent_has_no_path_to_one() -> None:
    assert parent_path(read_pom(PARENT), "core") is None


def test_parent_is_the_one_that_is_named() -> None:
    child, parent = read_pom(CHILD), read_pom(PARENT)
    assert is_parent(parent, child)
    assert not is_parent(read_pom(PARENT.replace(b">7<", b">8<")), child)
    assert not is_parent(child, parent)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<artifactId>codec<", b"<artifactId>kodec<"),
        (b"</artifactId><version>1.0<", b"</artifactId><version>1.1<"),
        (b"<groupId>org.example</groupId>", b"<groupId>org.sample</groupId>"),
    ],
)
def test_pom_of_another_artifact_is_refused_by_name(old: bytes, new: bytes) -> None:
    assert old in CHILD
    with pytest.raises(FormatError, match=r"not of org\.example:codec:1\.0"):
        extract_metadata([read_pom(CHILD.replace(old, new, 1))], CODEC)


@pytest.mark.parametrize(
    "value", [b"${description}", b"${project.artifactId}${d}", b"${a}${a}", b"${b}${b}"]
)
def test_properties_that_go_round_end(value: bytes) -> None:
    more = b"<a>${b}${b}</a><b>${a}${a}</b><d>${d}${d}</d><description>${description}</description>"
    text = CHILD.replace(b"<lang>", more + b"<lang>", 1).replace(b"Encodes", value)
    assert len(extract_metadata(line(text), CODEC).summary) <= 1000


def test_texts_and_lists_are_bounded() -> None:
    one = "<dependency><groupId>g</groupId><artifactId>a{}</artifactId></dependency>"
    many = "".join(one.format(n) for n in range(3000)).encode()
    text = CHILD.replace(b"<dependencies>", b"<dependencies>" + many)
    text = text.replace(b"Encodes", "é".encode() * 5000).replace(b"codec.example", b"x" * 900)
    found = extract_metadata(line(text), CODEC)
    assert len(found.requires) == 400
    assert len(found.summary.encode()) <= 1000
    assert found.homepage == ""


def test_a_pom_made_of_references_costs_what_it_weighs() -> None:
    one = "<dependency><groupId>${{p}}</groupId><artifactId>a{}${{p}}</artifactId></dependency>"
    many = "".join(one.format(n) for n in range(1500)).encode()
    endless = b"<p>" + b"${y}" * 250_000 + b"</p><q>${q}${p}</q>"
    text = CHILD.replace(b"<lang>", endless + b"<lang>", 1)
    text = text.replace(b"<dependencies>", b"<dependencies>" + many).replace(b"Encodes", b"${q}")
    began = time.thread_time()
    extract_metadata(line(text), CODEC)
    assert time.thread_time() - began < 1  # in hours, once


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<project>",
        b"<settings/>",
        b"<project/><project/>",
        b'<!DOCTYPE project [<!ENTITY a "b">]><project>&a;</project>',
        b'<!DOCTYPE project SYSTEM "file:///etc/passwd"><project/>',
        b"<project>&unknown;</project>",
        b'<?xml version="1.0" encoding="nonsense"?><project/>',
        b"<project>\xff</project>",
        b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1),
    ],
    ids=range(10),
)
def test_hostile_documents_are_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        read_pom(text)


def test_the_number_of_elements_is_bounded() -> None:
    with pytest.raises(FormatError, match=str(ELEMENTS_MAX)):
        parse_xml(b"<p>" + b"<a/>" * ELEMENTS_MAX + b"</p>")


def test_names_are_read_without_their_prefix() -> None:
    root = parse_xml(b'<m:project xmlns:m="x"><m:version> 1 </m:version></m:project>')
    assert (root.name, root.value("version"), root.value("version", "x")) == ("project", "1", "")
