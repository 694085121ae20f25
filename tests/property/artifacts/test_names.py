"""Names from clients: understood rightly, refused clearly, never a path."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.artifacts.names import (
    FileName,
    is_file_name,
    normalise_project,
    parse_file_name,
    sort_versions,
)
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl


@given(st.text(max_size=300))
def test_only_our_error_leaves_the_parsers(name: str) -> None:
    for parse in (parse_file_name, normalise_project):
        with contextlib.suppress(InvalidInputError):
            parse(name)


@given(st.text(max_size=60))
def test_what_passes_is_never_a_path(name: str) -> None:
    if is_file_name(name):
        assert "/" not in name
        assert "\0" not in name
        assert name.isascii()
        assert name not in {".", ".."}


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True))
def test_normal_form_is_a_fixed_point_that_a_purl_takes(name: str) -> None:
    normal = normalise_project(name)
    assert normalise_project(normal) == normal
    assert Purl.pypi(name).name == normal


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("six-1.17.0-py2.py3-none-any.whl", FileName("six", "1.17.0")),
        ("Foo_Bar-1.0-1-py3-none-any.whl", FileName("foo-bar", "1.0")),
        ("zope.interface-7.0.tar.gz", FileName("zope-interface", "7.0")),
        ("foo-bar-1.0.zip", FileName("foo-bar", "1.0")),
        ("x-1!2.0+local.1-py3-none-any.whl", FileName("x", "1!2.0+local.1")),
    ],
)
def test_file_names_are_read(name: str, expected: FileName) -> None:
    assert parse_file_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "six",
        "six-1.0.exe",
        "../six-1.0.tar.gz",
        "six-1.0.tar.gz/..",
        "six-x.whl",
        "é-1.0.zip",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_file_name(name)


def test_versions_are_in_the_order_of_pep_440() -> None:
    versions = {"1.10", "1.9", "1.9rc1", "not a version", "2.0.dev1"}
    assert sort_versions(versions) == ["not a version", "1.9rc1", "1.9", "1.10", "2.0.dev1"]
