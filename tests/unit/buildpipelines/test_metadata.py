"""Package metadata: agreed by bytes alone, without addresses, bounded."""

from __future__ import annotations

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.recipes.metadata import extract_metadata
from buildpipelines.spec import canonical

FULL = """\
Metadata-Version: 2.4
Name: Pkg
Version: 1.0
Summary: does\tthings
Author-email: Ada Lovelace <ada@example.com>, Bob <bob@example.com>, eve@example.com
License: MIT
 License
License-Expression: MIT
Project-URL: Source Code, https://code.example/pkg
Project-URL: Homepage, https://pkg.example
Keywords: one,two , three
Requires-Dist: a>=1
Requires-Dist: b ; extra == "x"
Requires-Python: >=3.8
Provides-Extra: x

Name: the description is no header
"""


def test_fields_are_found_and_addresses_left_out() -> None:
    found = extract_metadata(FULL.encode())
    assert (found.name, found.version, found.summary) == ("Pkg", "1.0", "does things")
    assert found.author == "Ada Lovelace, Bob"
    assert (found.licence, found.homepage) == ("MIT", "https://pkg.example")
    assert found.repository == "https://code.example/pkg"
    assert found.keywords == ("one", "two", "three")
    assert found.requires == ("a>=1", 'b ; extra == "x"')
    assert (found.requires_python, found.provides_extra) == (">=3.8", ("x",))
    assert "@" not in str(found.document())


@pytest.mark.parametrize(
    ("lines", "author"),
    [
        ("Author: Ada", "Ada"),
        ("Author: UNKNOWN\nMaintainer: Bob", "Bob"),
        ('Author-email: "Ada, L." <a@b.c>', "Ada, L."),
        ("Author-email: a@b.c", ""),
        ("Author: Ada (ada@example.com)", "Ada"),
    ],
)
def test_author_is_a_name(lines: str, author: str) -> None:
    assert extract_metadata(f"Name: p\nVersion: 1\n{lines}\n".encode()).author == author


def test_windows_lines_and_folded_lines_mean_the_same() -> None:
    unix = b"Name: p\nVersion: 1\nLicense: a\n  b\n"
    assert extract_metadata(unix) == extract_metadata(unix.replace(b"\n", b"\r\n"))
    assert extract_metadata(unix).licence == "a b"


@pytest.mark.parametrize("content", [b"", b"Name: p", b"Version: 1", b"\n\nName: p\nVersion: 1"])
def test_metadata_without_name_or_version_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError):
        extract_metadata(content)


def test_largest_metadata_fits_a_log_entry() -> None:
    text = "\N{MUSICAL SYMBOL G CLEF}" + '"' * 9000
    lines = ["Name: p", "Version: 1"]
    lines += [f"{key}: {text}" for key in ("Summary", "Author", "License", "Home-page", "Keywords")]
    lines += [f"Project-URL: Source, {text}"]
    lines += [f"Requires-Dist: {text}"] * 9000 + [f"Provides-Extra: {text}"] * 900
    found = extract_metadata("\n".join(lines).encode()[: 4 * 1024 * 1024])
    assert len(canonical.dumps(found.document())) < 30_000
    assert found.requires


def test_control_characters_and_bad_bytes_become_harmless() -> None:
    found = extract_metadata(b"Name: p\nVersion: 1\nSummary: a\x1b[31m\x00\xff\xc2\x85b\n")
    assert found.summary == "a [31m \ufffd b"
