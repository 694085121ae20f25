"""Zip and wheel structure: every trick that gives a wheel a second reading is refused."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.wheel import Wheel, read_wheel
from buildpipelines.extract.zip import ZipArchive
from tests.hostile.sdists import record_digest, wheel
from tests.hostile.zips import DATA, TRICKS, with_entry

NAME = "pkg-1.0-py3-none-any.whl"
FILES = {"pkg/__init__.py": b"value = 42\n", "pkg/data.bin": DATA}
LIMITS = ArchiveLimits(entries_max=100, file_bytes_max=100_000, total_bytes_max=200_000)


def read(data: bytes, name: str = NAME) -> Wheel:
    return read_wheel(name, data, LIMITS)


def cause_of(data: bytes, name: str = NAME) -> str:
    with pytest.raises(ArchiveError) as caught:
        read(data, name)
    return caught.value.cause


def test_true_wheel_is_read_with_the_digest_of_every_file() -> None:
    found = read(wheel(FILES))
    assert found.dist_info == "pkg-1.0.dist-info"
    assert found.digests.keys() == {
        *FILES,
        *(f"pkg-1.0.dist-info/{n}" for n in ("METADATA", "WHEEL", "RECORD")),
    }
    for name, data in FILES.items():
        entry = found.archive.find(name)
        assert entry is not None
        assert found.archive.read(entry) == data


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_streamed_wheel_with_data_descriptors_is_read(compression: int) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    out = Unseekable()
    with (
        zipfile.ZipFile(io.BytesIO(wheel(FILES))) as old,
        zipfile.ZipFile(out, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert read(out.getvalue()).digests.keys() == read(wheel(FILES)).digests.keys()


def test_zip64_sizes_are_read_where_both_headers_carry_them() -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(wheel(FILES))) as old,
        zipfile.ZipFile(out, "w") as new,
    ):
        for name in old.namelist():
            with new.open(name, "w", force_zip64=True) as file:
                file.write(old.read(name))
    assert read(out.getvalue()).digests.keys() == read(wheel(FILES)).digests.keys()


@pytest.mark.parametrize("trick", TRICKS)
def test_zip_with_a_second_reading_is_refused(trick: str) -> None:
    change, cause = TRICKS[trick]
    assert cause_of(change(wheel(FILES, compression=zipfile.ZIP_STORED))) == cause


def test_zip_of_nothing_is_no_wheel() -> None:
    assert cause_of(b"PK\x05\x06" + bytes(18)) == "wheel structure"


@pytest.mark.parametrize(
    ("name", "mode", "cause"),
    [
        ("../escaped", 0o100644, "path traversal"),
        ("pkg/../../escaped", 0o100644, "path traversal"),
        ("/etc/passwd", 0o100644, "absolute path"),
        ("pkg/./x", 0o100644, "entry name"),
        ("pkg\\x", 0o100644, "entry name"),
        ("pkg/link", 0o120777, "entry type"),
        ("pkg/device", 0o020644, "entry type"),
        ("pkg/__init__.py/below", 0o100644, "path through link"),
        ("pkg/unlisted.py", 0o100644, "wheel RECORD"),
        ("other-2.0.dist-info/METADATA", 0o100644, "wheel structure"),
    ],
)
def test_wheel_with_an_entry_that_breaks_a_rule_is_refused(
    name: str, mode: int, cause: str
) -> None:
    assert cause_of(with_entry(wheel(FILES), name, b"/etc", mode)) == cause


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_name_is_refused() -> None:
    assert cause_of(with_entry(wheel(FILES), "pkg/__init__.py")) == "duplicate name"


def test_second_name_in_an_extra_field_is_refused() -> None:
    def add_extra(info: zipfile.ZipInfo) -> None:
        info.extra = struct.pack("<2H", 0x7075, 5) + b"\x01abcd"

    assert cause_of(wheel(FILES, edit=add_extra)) == "zip structure"


def record(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


TRUE_ROW = f"pkg/__init__.py,sha256={record_digest(FILES['pkg/__init__.py'])}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not listed"),
        (b"\xff", "does not parse"),
        (record("a,b"), "three fields"),
        (record("pkg/__init__.py,sha256=AAAA,11"), "another hash"),
        (record("pkg/absent.py,sha256=AAAA,11"), "not in the wheel"),
        (record(f"pkg/__init__.py,sha256={record_digest(b'other')},11"), "another hash"),
        (record(f"{TRUE_ROW},11", f"{TRUE_ROW},11"), "twice"),
        (record(f"{TRUE_ROW},99"), "size"),
        (record("pkg/__init__.py,,"), "another hash"),
    ],
)
def test_record_that_is_not_true_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ArchiveError, match=problem) as caught:
        read(wheel(FILES, record=content))
    assert caught.value.cause == "wheel RECORD"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("other-1.0-py3-none-any.whl", "wheel structure"),
        ("pkg-2.0-py3-none-any.whl", "wheel structure"),
        ("pkg-1.0.whl", "wheel name"),
        ("pkg.zip", "wheel name"),
    ],
)
def test_wheel_that_does_not_fit_its_file_name_is_refused(name: str, cause: str) -> None:
    assert cause_of(wheel(FILES), name) == cause


def test_sizes_and_numbers_are_bounded() -> None:
    assert cause_of(wheel({"pkg/large": bytes(100_001)})) == "archive too large"
    assert cause_of(wheel({f"pkg/{n}": b"" for n in range(100)})) == "too many entries"
    zeros = {f"pkg/{n}": bytes(100_000) for n in range(3)}
    assert cause_of(wheel(zeros)) == "archive too large"


def test_bomb_is_refused_before_anything_is_unpacked() -> None:
    data = wheel({"pkg/zeros": bytes(70 * 1024 * 1024)})
    with pytest.raises(ArchiveError) as caught:
        ZipArchive(data, ArchiveLimits())
    assert caught.value.cause == "archive ratio"
