"""The tar reader and the repacking of source distributions: one test a rule."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.sdist import SourceTree, repack
from tests.hostile.sdists import file_member, other_member, tar_gz

LIMITS = ArchiveLimits(
    entries_max=50, path_bytes_max=200, depth_max=8, file_bytes_max=10_000, total_bytes_max=20_000
)


def unpack(data: bytes, name: str = "p-1.tar.gz") -> tuple[SourceTree, dict[str, tarfile.TarInfo]]:
    out = io.BytesIO()
    tree = repack(io.BytesIO(data), file_name=name, out=out, limits=LIMITS)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return tree, {info.name: info for info in tar}


def cause_of(data: bytes, name: str = "p-1.tar.gz") -> str:
    with pytest.raises(ArchiveError) as caught:
        unpack(data, name)
    return caught.value.cause


def changed(data: bytes, offset: int, value: bytes, *, fix_checksum: bool = True) -> bytes:
    """Return the .tar.gz with bytes of its first header replaced."""
    raw = bytearray(gzip.decompress(data))
    raw[offset : offset + len(value)] = value
    if fix_checksum:
        raw[148:156] = b"        "
        raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_common_format_is_read_with_names_times_and_executable_bits(layout: int) -> None:
    raw = io.BytesIO()
    long = "p-1/" + "/".join(["d" * 60] * 2) + "/" + "f" * 50
    with tarfile.open(fileobj=raw, mode="w:gz", format=layout) as tar:
        for info, data in (
            other_member("p-1", tarfile.DIRTYPE),
            file_member("p-1/pyproject.toml", b"[x]"),
            file_member("p-1/run", b"#!", mode=0o6775),
            file_member(long, b"content"),
        ):
            tar.addfile(info, io.BytesIO(data))
    tree, found = unpack(raw.getvalue())
    assert tree.top == "p-1"
    assert tree.kept == {"pyproject.toml": b"[x]"}
    assert tree.newest_mtime == 1_600_000_000
    assert found["p-1/run"].mode == 0o755
    assert found["p-1/pyproject.toml"].mode == 0o644
    assert found[long].size == 7
    assert all(info.mtime == 1_600_000_000 and info.uid == 0 for info in found.values())


def test_links_that_stay_inside_are_kept() -> None:
    members = [
        file_member("p-1/a/file", b"x"),
        other_member("p-1/a/up", tarfile.SYMTYPE, "../a/file"),
        other_member("p-1/hard", tarfile.LNKTYPE, "p-1/a/file"),
    ]
    _, found = unpack(tar_gz(members))
    assert found["p-1/a/up"].linkname == "../a/file"
    assert found["p-1/hard"].linkname == "p-1/a/file"


@pytest.mark.parametrize(
    ("member", "cause"),
    [
        (file_member("p-1/../../x"), "path traversal"),
        (file_member("/p-1/x"), "absolute path"),
        (file_member("p-1//x"), "entry name"),
        (file_member("p-1/a\\b"), "entry name"),
        (file_member("p-1/a\nb"), "entry name"),
        (file_member("p-1/" + "n" * 300), "entry name"),
        (file_member("p-1/" + "d/" * 9 + "f"), "entry name"),
        (file_member("q-1/x"), "sdist layout"),
        (file_member("p-1/first"), "duplicate name"),
        (file_member("p-1/first/below"), "path through link"),
        (file_member("p-1/large", bytes(10_001)), "archive too large"),
        (other_member("p-1/s", tarfile.SYMTYPE, "../.."), "link escapes"),
        (other_member("p-1/s", tarfile.SYMTYPE, "a/../../../x"), "link escapes"),
        (other_member("p-1/s", tarfile.SYMTYPE, "/etc/passwd"), "link escapes"),
        (other_member("p-1/s", tarfile.SYMTYPE, ""), "link escapes"),
        (other_member("p-1/h", tarfile.LNKTYPE, "p-1/later"), "link escapes"),
        (other_member("p-1/h", tarfile.LNKTYPE, "../etc/passwd"), "path traversal"),
        (other_member("p-1/c", tarfile.CHRTYPE), "device entry"),
        (other_member("p-1/b", tarfile.BLKTYPE), "device entry"),
        (other_member("p-1/f", tarfile.FIFOTYPE), "device entry"),
        (other_member("p-1/v", b"V"), "entry type"),
        (other_member("p-1/s", tarfile.GNUTYPE_SPARSE), "entry type"),
    ],
)
def test_entry_that_breaks_a_rule_is_refused(
    member: tuple[tarfile.TarInfo, bytes], cause: str
) -> None:
    assert cause_of(tar_gz([file_member("p-1/first"), member])) == cause


def test_numbers_of_entries_and_bytes_are_bounded() -> None:
    many = [file_member(f"p-1/{number}") for number in range(60)]
    assert cause_of(tar_gz(many)) == "too many entries"
    much = [file_member(f"p-1/{number}", bytes(9_000)) for number in range(3)]
    assert cause_of(tar_gz(much)) == "archive too large"


def test_archive_of_an_unknown_kind_is_refused() -> None:
    assert cause_of(b"", "p-1.tar.xz") == "sdist format"
    assert cause_of(b"hello", "p-1.tar.gz") == "not gzip"
    assert cause_of(tar_gz([]), "p-1.tar.gz") == "sdist layout"


def test_cut_archive_is_refused_wherever_it_is_cut() -> None:
    data = tar_gz([file_member("p-1/a", b"content" * 300)])
    for length in range(len(data) - 1):
        assert cause_of(data[:length]) in ("archive cut", "not gzip"), length
    raw = gzip.decompress(data)
    assert cause_of(gzip.compress(raw[:600])) == "archive cut"


def test_bytes_after_the_end_are_refused() -> None:
    data = tar_gz([file_member("p-1/a", b"x")])
    assert unpack(data + bytes(1000))
    assert cause_of(data + b"more") == "data after archive"
    assert cause_of(gzip.compress(gzip.decompress(data) + b"more")) == "data after archive"
    assert cause_of(data + gzip.compress(b"x")) == "data after archive"
    assert cause_of(data + gzip.compress(b"") * 100) == "too many entries"


def test_header_with_a_wrong_checksum_or_number_is_refused() -> None:
    data = tar_gz([file_member("p-1/a", b"x")])
    assert cause_of(changed(data, 0, b"q", fix_checksum=False)) == "archive damaged"
    assert cause_of(changed(data, 124, b"9999999x")) == "archive damaged"


def test_extended_headers_are_bounded_and_unambiguous() -> None:
    info, content = file_member("p-1/a", b"x")
    info.pax_headers = {"comment": "c" * 100_000}
    assert cause_of(tar_gz([(info, content)])) == "entry name"
    info.pax_headers = {"GNU.sparse.major": "1"}
    assert cause_of(tar_gz([(info, content)])) == "entry type"
    info.pax_headers = {"hdrcharset": "BINARY"}
    assert cause_of(tar_gz([(info, content)])) == "entry name"


def test_zip_source_distributions_are_read_too() -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        info = zipfile.ZipInfo("p-1/run", (2020, 9, 13, 12, 26, 40))
        info.external_attr = 0o100755 << 16
        archive.writestr(info, b"#!")
        archive.writestr(zipfile.ZipInfo("p-1/setup.py"), b"setup")
        link = zipfile.ZipInfo("p-1/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"run")
    tree, found = unpack(raw.getvalue(), "p-1.zip")
    assert found["p-1/run"].mode == 0o755
    assert found["p-1/run"].mtime == 1_600_000_000
    assert found["p-1/link"].linkname == "run"
    assert tree.kept == {"setup.py": b"setup"}


def test_zip_link_that_leaves_the_folder_is_refused() -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        link = zipfile.ZipInfo("p-1/link")
        link.create_system = 3
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"../../etc")
    assert cause_of(raw.getvalue(), "p-1.zip") == "link escapes"
