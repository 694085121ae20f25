"""Which file of an index is whose, and which one tells how a release was made."""

from __future__ import annotations

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.recipes.releases import (
    FLOOR,
    choose_cutoff,
    choose_reference,
    choose_sdist,
    is_wheel_of,
    parse_purl,
    purl_of,
    same_wheel,
)

NATIVE = [
    "p-1.0-cp310-cp310-manylinux_2_17_x86_64.whl",
    "p-1.0-cp311-cp311-macosx_11_0_arm64.whl",
    "p-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
    "p-1.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "p-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "p-1.0-cp312-cp312-win_amd64.whl",
    "p-1.0.tar.gz",
]


def choose(files: list[str]) -> str | None:
    return choose_reference(files, python=(3, 11), machine="x86_64")


def test_pure_wheel_is_the_reference_before_any_native_one() -> None:
    assert choose([*NATIVE, "p-1.0-py2.py3-none-any.whl"]) == "p-1.0-py2.py3-none-any.whl"


def test_native_reference_is_the_one_for_this_python_and_machine() -> None:
    assert choose(NATIVE) == NATIVE[4]
    assert choose(NATIVE[:4]) == NATIVE[2]
    assert choose(["p-1.0-cp37-abi3-manylinux_2_17_x86_64.whl"]) is not None
    assert choose([NATIVE[0], NATIVE[1], NATIVE[5], "p-1.0-py2-none-any.whl", "junk.whl"]) is None


def test_names_are_compared_in_normal_form() -> None:
    assert is_wheel_of("Foo_Bar-1.0.0-py3-none-any.whl", "foo-bar", "1.0")
    assert not is_wheel_of("foo_bar-1.0.1-py3-none-any.whl", "foo-bar", "1.0")
    assert same_wheel("PyYAML-6.0-py3-none-any.whl", "pyyaml-6.0-py3-none-any.whl")
    assert not same_wheel("p-1-py3-none-any.whl", "p-1-py2-none-any.whl")
    assert choose_sdist(["p-1.0.zip", "P-1.0.tar.gz", "p-1.1.tar.gz"], "p", "1.0") == "P-1.0.tar.gz"
    assert choose_sdist(["p-1.1.tar.gz", "odd"], "p", "1.0") is None


def test_cutoff_is_the_release_but_never_before_the_toolchain_knows_the_tools() -> None:
    assert choose_cutoff(["2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"]) == "2025-02-01T00:00:00Z"
    assert choose_cutoff(["2010-01-01T00:00:00Z"]) == FLOOR
    assert choose_cutoff(["unknown", "2025-01-01T00:00:00Z"]) == "2025-01-01T00:00:00Z"
    assert choose_cutoff(["unknown"]) == "none"


@pytest.mark.parametrize(
    ("name", "version", "purl"),
    [
        ("Six", "1.17.0", "pkg:pypi/six@1.17.0"),
        ("a_b", "2024.01.05", "pkg:pypi/a-b@2024.1.5"),
        ("p", "1!2.0+local.1", "pkg:pypi/p@1%212.0%2Blocal.1"),
    ],
)
def test_package_url_is_in_normal_form(name: str, version: str, purl: str) -> None:
    assert purl_of(name, version) == purl
    assert purl_of(*parse_purl(purl)) == purl


@pytest.mark.parametrize(
    "purl",
    ["pkg:pypi/Six@1.0", "pkg:pypi/six", "pkg:npm/six@1.0", "pkg:pypi/six@x y", "pkg:pypi/s@1.00"],
)
def test_other_package_urls_are_refused(purl: str) -> None:
    with pytest.raises(FormatError):
        parse_purl(purl)
