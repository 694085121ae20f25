"""The one reading of a manifest, and what each rule does to it."""

from __future__ import annotations

import time

import pytest

from buildpipelines.stabilize.manifest import (
    BUILD_METADATA,
    NEVER_STRIP,
    ORDERLESS,
    Manifest,
    attribute_rule,
    manifest_digest,
    parse_manifest,
    sort_clauses,
    split_clauses,
    stable_manifest,
)

HEAD = b"Manifest-Version: 1.0\r\n"


def digest(content: bytes) -> str:
    found = parse_manifest(content)
    assert found is not None
    return manifest_digest(stable_manifest(found))


def test_lines_are_unfolded_and_sections_told_apart() -> None:
    content = HEAD + b"Class-Path: a.jar b\r\n .jar\r\n\r\nName: a/B.class\r\nSealed: true\r\n\r\n"
    assert parse_manifest(content) == Manifest(
        {"Manifest-Version": "1.0", "Class-Path": "a.jar b.jar"}, {"a/B.class": {"Sealed": "true"}}
    )


def test_line_that_is_folded_very_often_costs_time_in_proportion() -> None:
    content = b"A: x\n" + b" y\n" * 300_000
    began = time.thread_time()
    found = parse_manifest(content)
    assert time.thread_time() - began < 2  # many times that, if each line copied all before it
    assert found is not None
    assert len(found.main["A"]) == 300_001


def test_character_that_is_folded_in_its_middle_is_read() -> None:
    assert parse_manifest("Vendor: Zoë\n".encode().replace(b"\xc3\xab", b"\xc3\n \xab")) == (
        Manifest({"Vendor": "Zoë"}, {})
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"A: 1",
        b"\r\nA: 1\r\n",
        b" A: 1\n",
        b"A: 1\n\n b\n",
        b"A: 1\rB: 2\r\n",
        b"A:1\n",
        b"A : 1\n",
        b"A\n",
        b"-A: 1\n",
        b"A: 1\na: 1\n",
        b"A: \xff\n",
        b"A: b\x00c\n",
        b"A: b\x1b[2J\n",
        b"A: 1\n\nB: 2\n",
        b"A: 1\n\nname: x\n",
        b"A: 1\n\nName: x\nB: 1\n\nName: x\nB: 1\n",
        b"A" * 71 + b": 1\n",
        b"A: " + b"x" * 510 + b"\n",
    ],
)
def test_manifest_with_more_or_less_than_one_reading_is_none(content: bytes) -> None:
    assert parse_manifest(content) is None


@pytest.mark.parametrize(
    "other",
    [
        b"Manifest-Version: 1.0\nMain-Class: a.Main\n\nName: a/\nSealed: true\n",
        b"Main-Class: a.Main\nManifest-Version: 1.0\n\n\n\nName: a/\nSealed: true\n\n",
        b"Manifest-Version: 1.0\r\nMain-Class: a\n .Main\n\nName: a\r\n /\nSealed: true\n\n",
    ],
)
def test_the_way_a_manifest_is_written_says_nothing(other: bytes) -> None:
    usual = b"Manifest-Version: 1.0\r\nMain-Class: a.Main\r\n\r\nName: a/\r\nSealed: true\r\n\r\n"
    assert digest(other) == digest(usual)


@pytest.mark.parametrize("name", sorted(BUILD_METADATA))
def test_build_metadata_says_nothing_whoever_wrote_it(name: str) -> None:
    one, other = (HEAD + f"{name.title()}: {v}\r\n".encode() for v in ("a", "b"))
    assert digest(one) == digest(other) == digest(HEAD)
    section = b"\r\nName: a/\r\nSealed: true\r\n"
    assert digest(HEAD + section + f"{name}: x\r\n".encode()) == digest(HEAD + section)


@pytest.mark.parametrize("name", sorted(NEVER_STRIP))
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
def test_what_decides_what_runs_is_never_taken_out(name: str, spelling: object) -> None:
    assert callable(spelling)
    spelled = spelling(name)
    assert attribute_rule(spelled) == ""
    one, other = (HEAD + f"{spelled}: {v}\r\n".encode() for v in ("a", "b"))
    assert len({digest(one), digest(other), digest(HEAD)}) == 3
    section = HEAD + b"\r\nName: a/\r\nX: 1\r\n"
    assert digest(section + f"{spelled}: x\r\n".encode()) != digest(section)


def test_no_list_of_a_rule_holds_what_is_never_stripped() -> None:
    assert not NEVER_STRIP & (BUILD_METADATA | ORDERLESS)
    assert all(name == name.lower() for name in NEVER_STRIP | BUILD_METADATA | ORDERLESS)


@pytest.mark.parametrize(
    "name",
    [
        "Implementation-Version",
        "Implementation-Title",
        "Specification-Version",
        "Bundle-SymbolicName",
        "Bundle-Version",
        "Bundle-Activator",
        "Bundle-ClassPath",
        "Import-Package",
        "Require-Capability",
        "Can-Retransform-Classes",
        "Boot-Class-Path",
        "Launcher-Plugin",
        "X-Compile-Target-JDK",
        "Codebase",
        "Trusted-Only",
        "Made-Up",
    ],
)
def test_attributes_that_something_reads_count(name: str) -> None:
    assert digest(HEAD + f"{name}: a\r\n".encode()) != digest(HEAD + f"{name}: b\r\n".encode())


@pytest.mark.parametrize(
    ("value", "clauses"),
    [
        ("", [""]),
        ("a,b", ["a", "b"]),
        ('a;uses:="x,y",b', ['a;uses:="x,y"', "b"]),
        (r'a;x="p\",q",b', [r'a;x="p\",q"', "b"]),
        (r'a;x="p\\",b', [r'a;x="p\\"', "b"]),
        ('a;x="p,b', None),
        (r"a\,b", ["a\\", "b"]),
    ],
)
def test_clauses_are_split_outside_of_quotes(value: str, clauses: list[str] | None) -> None:
    assert split_clauses(value) == clauses


def test_order_of_clauses_says_nothing_in_headers_that_are_sets_alone() -> None:
    for name in sorted(ORDERLESS):
        assert digest(HEAD + f"{name}: a,b\r\n".encode()) == digest(
            HEAD + f"{name}: b,a\r\n".encode()
        )
        assert digest(HEAD + f"{name}: a,a\r\n".encode()) != digest(
            HEAD + f"{name}: a\r\n".encode()
        )
    for name in ("Class-Path", "Require-Bundle", "Bundle-ClassPath"):
        assert digest(HEAD + f"{name}: a,b\r\n".encode()) != digest(
            HEAD + f"{name}: b,a\r\n".encode()
        )


def test_header_with_an_open_quote_keeps_its_order() -> None:
    assert sort_clauses('b,"a') == 'b,"a'
