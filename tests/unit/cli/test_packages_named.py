"""Packages in statements: each ecosystem is named as its people name it."""

from __future__ import annotations

import pytest

from pyrsia_cli.commands.statements import any_purl, version_purl
from pyrsia_node.model.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "purl"),
    [
        ("Six==1.17.0", "pkg:pypi/six@1.17.0"),
        ("six", "pkg:pypi/six"),
        ("org.example:tool:2.0", "pkg:maven/org.example/tool@2.0"),
        ("junit:junit", "pkg:maven/junit/junit"),
        ("pkg:maven/a.b/c@1", "pkg:maven/a.b/c@1"),
        ("pkg:docker/ghcr.io/a/b@1", "pkg:docker/ghcr.io/a/b@1"),
    ],
)
def test_package_is_read_as_its_people_write_it(text: str, purl: str) -> None:
    assert str(any_purl(text)) == purl


@pytest.mark.parametrize("text", ["six", "junit:junit", "pkg:maven/a.b/c"])
def test_statement_about_a_version_needs_one(text: str) -> None:
    with pytest.raises(InvalidInputError, match="NAME==VERSION or GROUP:ARTIFACT:VERSION"):
        version_purl(text)


@pytest.mark.parametrize("text", ["a:b:c:d", ":a", "a:b:1-SNAPSHOT", "a/b:c"])
def test_coordinates_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        any_purl(text)
