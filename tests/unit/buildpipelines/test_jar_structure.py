"""Jars: every trick that gives an archive a second reading is refused, or read as bytes inside."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import pytest

from buildpipelines.compare.artifact import read_artifact
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.jar import Jar, JarLimits, read_jar
from buildpipelines.extract.limits import ArchiveLimits
from tests.hostile.jars import MANIFEST, jar
from tests.hostile.zips import DATA, TRICKS, with_entry

FILES = {"pkg/data.bin": DATA, "pkg/other.bin": b"other"}
NAME = "pkg-1.0.jar"


def read(data: bytes, limits: JarLimits | None = None) -> Jar:
    return read_jar(NAME, data, limits)


def stored(files: dict[str, bytes] | None = None) -> bytes:
    return jar(FILES if files is None else files, compression=zipfile.ZIP_STORED)


def cause_of(data: bytes, limits: JarLimits | None = None) -> str:
    with pytest.raises(ArchiveError) as caught:
        read(data, limits)
    return caught.value.cause


def test_true_jar_is_read_with_the_digest_of_every_file() -> None:
    found = read(jar(FILES))
    assert found.digests.keys() == {*FILES, MANIFEST}
    assert found.small_file("pkg/data.bin") == DATA
    assert found.has_manifest_first


@pytest.mark.parametrize("trick", TRICKS)
def test_jar_with_a_second_reading_is_refused(trick: str) -> None:
    change, cause = TRICKS[trick]
    read(stored())
    assert cause_of(change(stored())) == cause


@pytest.mark.parametrize("trick", TRICKS)
def test_nested_archive_with_a_second_reading_is_bytes_and_said_to_be(trick: str) -> None:
    change, cause = TRICKS[trick]
    inner = stored()
    assert read(jar({"lib/in.jar": inner})).nested.keys() == {"lib/in.jar"}
    found = read(jar({"lib/in.jar": change(inner)}))
    assert not found.nested
    assert found.plain["lib/in.jar"].startswith(cause)


@pytest.mark.parametrize("trick", TRICKS)
def test_two_nested_archives_of_tricks_are_equal_only_to_the_byte(trick: str) -> None:
    change, _ = TRICKS[trick]
    inner = change(stored())
    one, other = (read_artifact(NAME, jar({"lib/in.jar": data})) for data in (inner, inner + b"\0"))
    assert one.l2 != other.l2
    assert one.l2 != read_artifact(NAME, jar({"lib/in.jar": stored()})).l2


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("../escaped", "path traversal"),
        ("/etc/passwd", "absolute path"),
        ("pkg\\x", "entry name"),
        ("pkg//x", "entry name"),
        ("pkg/data.bin/below", "path through link"),
        ("META-INF/manifest.mf", "jar structure"),
        ("meta-inf/MANIFEST.MF", "jar structure"),
        ("x" * 2000, "entry name"),
    ],
)
def test_entry_that_lies_is_refused_by_name(name: str, cause: str) -> None:
    assert cause_of(with_entry(jar(FILES), name)) == cause


def test_link_is_no_entry_of_a_jar() -> None:
    assert cause_of(with_entry(jar(FILES), "pkg/link", b"/etc", 0o120777)) == "entry type"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["pkg/", "pkg/data.bin", MANIFEST])
def test_name_that_is_there_twice_is_refused_even_of_a_folder(name: str) -> None:
    data = io.BytesIO(jar({**FILES, "pkg/": b""}))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"")
    assert cause_of(data.getvalue()) == "duplicate name"


def announcing(data: bytes, size: int) -> bytes:
    """Return an archive of one entry whose headers announce another unpacked size."""
    result = bytearray(data)
    struct.pack_into("<L", result, data.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<L", result, data.index(b"PK\x01\x02") + 24, size)
    return bytes(result)


def test_bytes_that_a_folder_hides_are_refused() -> None:
    # Deflated, so that packed bytes may be there while the unpacked size says zero.
    data = jar({"pkg_": b"hidden"}, manifest=None).replace(b"pkg_", b"pkg/")
    assert cause_of(announcing(data, 0)) == "archive damaged"


@pytest.mark.parametrize(
    ("names", "is_first"),
    [
        ([MANIFEST, "a"], True),
        (["META-INF/", MANIFEST, "a"], True),
        (["META-INF/", "a", MANIFEST], False),
        (["a", MANIFEST], False),
        (["a"], False),
        ([], False),
    ],
)
def test_place_of_the_manifest_is_that_of_readers_from_the_front(
    names: list[str], is_first: object
) -> None:
    data = jar(dict.fromkeys(names, b""), manifest=None, order=lambda _: names)
    assert read(data).has_manifest_first is is_first


def nested(depth: int) -> bytes:
    data = jar({"a": b"x"})
    for _ in range(depth):
        data = jar({"in.jar": data})
    return data


def depth_of(found: Jar) -> int:
    return 1 + max(map(depth_of, found.nested.values())) if found.nested else 0


def test_archives_are_looked_into_down_to_a_fixed_depth() -> None:
    limits = JarLimits(depth_max=3)
    assert depth_of(read(nested(3), limits)) == 3
    deepest = read(nested(4), limits)
    for _ in range(3):
        deepest = deepest.nested["in.jar"]
    assert deepest.plain == {"in.jar": "nested deeper than 3"}


SMALL = JarLimits(ArchiveLimits(entries_max=10, file_bytes_max=5000, total_bytes_max=8000))


@pytest.mark.parametrize(
    ("files", "limits", "cause"),
    [
        ({f"f{n}": b"" for n in range(11)}, SMALL, "too many entries"),
        ({"f": bytes(5001)}, SMALL, "archive too large"),
        ({"f": bytes(4500), "g": bytes(4500)}, SMALL, "archive too large"),
    ],
)
def test_bombs_are_refused(files: dict[str, bytes], limits: JarLimits, cause: str) -> None:
    assert cause_of(jar(files, manifest=None), limits) == cause


def test_much_from_little_is_refused_before_it_is_unpacked() -> None:
    data = announcing(jar({"f": bytes(1000)}, manifest=None), 80 << 20)
    assert cause_of(data) == "archive ratio"


def test_budget_is_for_everything_together_and_does_not_depend_on_order() -> None:
    inner = jar({"data": bytes(3500)}, manifest=None)
    files = {f"{n}.jar": inner for n in range(4)}
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        found = read(jar(files, manifest=None, order=order), SMALL)
        assert list(found.nested) == ["0.jar", "1.jar"]
        assert found.plain.keys() == {"2.jar", "3.jar"}


def test_number_of_nested_archives_is_bounded() -> None:
    inner = jar({"a": b""})
    found = read(jar({"1.jar": inner, "2.zip": inner}), JarLimits(nested_max=1))
    assert found.nested.keys() == {"1.jar"}
    assert found.plain == {"2.zip": "too many nested archives"}


@pytest.mark.parametrize("suffix", ["jar", "war", "ear", "aar", "zip"])
def test_every_kind_of_archive_is_read_by_its_name(suffix: str) -> None:
    with pytest.raises(ArchiveError):
        read_artifact(f"pkg-1.0.{suffix}", b"no archive")
    assert read_artifact(f"pkg-1.0.{suffix}", jar(FILES)).jar is not None
    assert read_artifact("pkg-1.0.pom", b"<project/>").jar is None


def test_tricks_are_what_the_corpus_says() -> None:
    tricks: list[Callable[[bytes], bytes]] = [change for change, _ in TRICKS.values()]
    assert len({change(stored()) for change in tricks}) == len(TRICKS)
