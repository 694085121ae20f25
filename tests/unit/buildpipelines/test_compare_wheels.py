"""Levels of equality of two wheels, and the words for what differs."""

from __future__ import annotations

import zipfile

import pytest

from buildpipelines.compare.verdict import Comparison
from buildpipelines.compare.wheel import compare
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.wheel import Wheel, read_wheel
from buildpipelines.stabilize.wheel import level1, level2, listing_digest
from tests.hostile.sdists import wheel

FILES = {"pkg/__init__.py": b"value = 42\n", "pkg/run.sh": b"#!/bin/sh\n"}


def read(data: bytes) -> Wheel:
    return read_wheel("pkg-1.0-py3-none-any.whl", data, ArchiveLimits())


def verdict(built: bytes, published: bytes) -> Comparison:
    return compare(read(built), read(published), is_identical=built == published)


def at_time(info: zipfile.ZipInfo) -> None:
    info.date_time = (2021, 2, 3, 4, 5, 6)


def with_umask(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o100664 << 16


def by_windows(info: zipfile.ZipInfo) -> None:
    info.create_system, info.external_attr = 0, 0


def test_same_bytes_are_level_0() -> None:
    assert verdict(wheel(FILES), wheel(FILES)) == Comparison(0, ())


@pytest.mark.parametrize(
    ("published", "word"),
    [
        (wheel(FILES, edit=at_time), "2021-02-03 04:05:06"),
        (wheel(FILES, edit=with_umask), "100664 by system 3"),
        (wheel(FILES, edit=by_windows), "0 by system 0"),
        (wheel(FILES, compression=zipfile.ZIP_STORED), "compression of 5 entries"),
        (wheel(FILES, order=lambda names: names[::-1]), "order of entries"),
        (wheel(FILES | {"pkg/": b""}), "folder entries"),
    ],
)
def test_differences_of_the_container_are_level_1_and_named(published: bytes, word: str) -> None:
    found = verdict(wheel(FILES), published)
    assert found.level == 1
    assert word in " ".join(found.differences)


def test_another_generator_is_level_2_and_both_are_named() -> None:
    found = verdict(wheel(FILES, generator="maker 2"), wheel(FILES))
    assert found.level == 2
    assert found.differences[0] == (
        "pkg-1.0.dist-info/WHEEL: line 2: 'Generator: maker 2' in the build, "
        "'Generator: maker 1' published"
    )
    assert "RECORD" in found.differences[-1]


def executable(info: zipfile.ZipInfo) -> None:
    if info.filename == "pkg/run.sh":
        info.external_attr = 0o100755 << 16


def setuid(info: zipfile.ZipInfo) -> None:
    info.external_attr = 0o104644 << 16


@pytest.mark.parametrize(
    ("published", "line"),
    [
        (
            wheel(FILES | {"pkg/__init__.py": b"value = 43\n"}),
            "pkg/__init__.py: line 1: 'value = 42' in the build, 'value = 43' published",
        ),
        (wheel(FILES | {"pkg/more.py": b""}), "pkg/more.py: only in the published file"),
        (wheel({"pkg/__init__.py": b"value = 42\n"}), "pkg/run.sh: only in the build"),
        (wheel(FILES, edit=executable), "pkg/run.sh: mode: 100644 in the build, 100755 published"),
        (wheel(FILES, edit=setuid), "pkg/run.sh: mode: 100644 in the build, 104644 published"),
        (wheel(FILES | {"empty/": b""}), "empty/: only in the published file"),
        (
            wheel(FILES | {"pkg/run.sh": b"\xff\xfe"}),
            "pkg/run.sh: content: a8076d3d28d21e02 in the build, b3d510ef04275ca8 published",
        ),
    ],
)
def test_everything_else_is_level_3_and_named(published: bytes, line: str) -> None:
    found = verdict(wheel(FILES), published)
    assert found.level == 3
    assert line in found.differences


def test_explanations_are_bounded() -> None:
    many = {f"pkg/{number:04}-{'n' * 200}.py": b"a" for number in range(200)}
    found = verdict(wheel(many), wheel(dict.fromkeys(many, b"b" * 400)))
    assert len(found.differences) == 64
    assert max(map(len, found.differences)) <= 320


def test_golden_digests_of_the_normal_forms() -> None:
    found = read(wheel(FILES))
    assert listing_digest(level1(found), "l1") == GOLDEN_L1
    assert listing_digest(level2(found), "l2") == GOLDEN_L2


GOLDEN_L1 = "95d5f004bf02eba7fa27dd9f5b020f2bf1e0035b5b934286bfe39a2921c98973"
GOLDEN_L2 = "0d1fca4d2d0bfbdce1fc52219c45c5e07bfde003e39ddf8f4a282b7524c3c5dd"
