"""Package URLs: the canonical form alone names a package."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl


@pytest.mark.parametrize(
    "text",
    [
        "pkg:pypi/six@1.17.0",
        "pkg:pypi/six",
        "pkg:pypi/ruamel-yaml@0.18.6",
        "pkg:pypi/torch@2.4.0%2Bcpu",
        "pkg:pypi/pytz@1%212024.1rc1.post2.dev3",
        "pkg:maven/org.apache.commons/commons-lang3@3.14.0",
        "pkg:docker/docker.io/library/alpine@3.20",
        "pkg:npm/%40types/node@20.1.0",
    ],
)
def test_canonical_purl_is_read_and_written_back(text: str) -> None:
    assert str(Purl.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "six",
        "pkg:six",
        "pkg:/six",
        "pkg://pypi/six@1",
        "PKG:pypi/six@1",
        "pkg:PyPI/six@1",
        "pkg:pypi/Six@1",
        "pkg:pypi/a_b@1",
        "pkg:pypi/a--b@1",
        "pkg:pypi/-a@1",
        "pkg:pypi/a-@1",
        "pkg:pypi/a/b@1",
        "pkg:pypi/six@",
        "pkg:pypi/six@1.0-rc1",
        "pkg:pypi/six@v1.0",
        "pkg:pypi/six@01.0",
        "pkg:pypi/six@1.0+cpu",
        "pkg:pypi/six@1.0%2bcpu",
        "pkg:pypi/six@1.0%2B01",
        "pkg:pypi/%73ix@1.0",
        "pkg:pypi/six@1.0?arch=x",
        "pkg:pypi/six@1.0#a",
        "pkg:pypi/six@1.0\n",
        "pkg:maven//a@1",
        "pkg:maven/../a@1",
        "pkg:maven/%2E%2E/a@1",
        "pkg:maven/a%2Fb/c@1",
        "pkg:maven/a%00/c@1",
        "pkg:maven/%FF/c@1",
        "pkg:maven/é/c@1",
        "pkg:pypi/" + "a" * 600,
    ],
)
def test_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Purl.parse(text)


def test_refusal_tells_the_canonical_spelling() -> None:
    with pytest.raises(InvalidInputError, match=r"write pkg:pypi/six@1\.0%2Bcpu"):
        Purl.parse("pkg:pypi/six@1.0%2bcpu")


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        (" pkg:PyPI/Ruamel.YAML@0.18.6 ", "pkg:pypi/ruamel-yaml@0.18.6"),
        ("pkg:pypi/six@v1.17.0", "pkg:pypi/six@1.17.0"),
        ("pkg:pypi/certifi@2024.08.30", "pkg:pypi/certifi@2024.8.30"),
        ("pkg:pypi/torch@2.4.0+cpu", "pkg:pypi/torch@2.4.0%2Bcpu"),
        ("pkg://maven/org.a/b@1.0-Final", "pkg:maven/org.a/b@1.0-Final"),
    ],
)
def test_what_people_type_becomes_canonical(typed: str, canonical: str) -> None:
    assert str(Purl.from_user(typed)) == canonical


@pytest.mark.parametrize(
    "text", ["", "six", "pkg:pypi/six@1?a=b", "pkg:pypi/six@banana", "pkg:pypi/é", "pkg:a/\udcff"]
)
def test_what_is_no_purl_in_any_reading_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Purl.from_user(text)


def test_python_package_is_normalised() -> None:
    assert str(Purl.pypi("Zope.Interface", "7.0")) == "pkg:pypi/zope-interface@7.0"
    assert str(Purl.pypi("six", "1.0").without_version()) == "pkg:pypi/six"
    with pytest.raises(InvalidInputError):
        Purl.pypi("six six")
