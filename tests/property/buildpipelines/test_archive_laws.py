"""Hostile archives: only our error escapes. Wheels: levels keep what matters and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zipfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from buildpipelines.compare.wheel import compare
from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.sdist import SourceTree, repack
from buildpipelines.extract.wheel import Wheel, read_wheel
from buildpipelines.inputs.pages import parse_page
from buildpipelines.recipes.metadata import extract_metadata
from buildpipelines.recipes.pypi import back_end
from buildpipelines.spec import canonical
from buildpipelines.stabilize.wheel import level1, level2, listing_digest, without_generator
from buildpipelines.worker.tamper import tamper_with
from tests.hostile.sdists import file_member, sdist, tar_gz, wheel
from tests.strategies.archives import is_tree, mutate

LIMITS = ArchiveLimits(entries_max=200, file_bytes_max=1 << 20, total_bytes_max=4 << 20)
NAME = "pkg-1.0-py3-none-any.whl"

steps = st.text("abcXYZ019._", min_size=1, max_size=6).filter(lambda s: s not in (".", ".."))
paths = st.lists(steps, min_size=1, max_size=3).map(lambda parts: "pkg/" + "/".join(parts))


trees = st.dictionaries(paths, st.binary(max_size=60), min_size=1, max_size=6).filter(is_tree)


def read(data: bytes) -> Wheel:
    return read_wheel(NAME, data, LIMITS)


def digests(data: bytes) -> tuple[str, str]:
    found = read(data)
    return listing_digest(level1(found), "l1"), listing_digest(level2(found), "l2")


@given(trees)
def test_wheel_is_equal_to_itself_at_every_level(files: dict[str, bytes]) -> None:
    found = read(wheel(files))
    assert compare(found, read(wheel(files)), is_identical=False).level == 1
    assert compare(found, found, is_identical=True).level == 0


@given(trees, st.permutations(range(12)), st.integers(1981, 2100), st.sampled_from([0, 8]))
def test_container_changes_never_change_level_1(
    files: dict[str, bytes], order: list[int], year: int, method: int
) -> None:
    def touch(info: zipfile.ZipInfo) -> None:
        info.date_time = (year, 1, 2, 3, 4, 6)
        info.external_attr |= 0o022 << 16
        info.extra = b"\x99\x99\x00\x00"

    def reorder(names: list[str]) -> list[str]:
        ranked = zip(order, sorted(names), strict=False)
        return [name for _, name in sorted(ranked)]

    changed = wheel(files, edit=touch, order=reorder, compression=method)
    assert digests(changed) == digests(wheel(files))
    assert compare(read(changed), read(wheel(files)), is_identical=False).level == 1


@given(trees, st.text("ab 1.", max_size=8), st.text("ab 1.", max_size=8))
def test_generator_never_changes_level_2(files: dict[str, bytes], one: str, two: str) -> None:
    assume(one != two)
    (l1a, l2a), (l1b, l2b) = (digests(wheel(files, generator=g)) for g in (one, two))
    assert l2a == l2b
    assert l1a != l1b


@given(st.binary(max_size=200))
def test_generator_rule_is_idempotent(content: bytes) -> None:
    assert without_generator(without_generator(content)) == without_generator(content)


@given(trees, st.data())
def test_every_content_change_changes_every_level(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(st.binary(max_size=60).filter(lambda c: c != files[name]))
    changed = wheel(files | {name: content})
    assert set(digests(changed)).isdisjoint(digests(wheel(files)))
    assert compare(read(changed), read(wheel(files)), is_identical=False).level == 3


@given(trees, paths)
def test_every_added_removed_or_renamed_file_changes_every_level(
    files: dict[str, bytes], name: str
) -> None:
    assume(name not in files and is_tree(files | {name: b""}))
    more = wheel(files | {name: b""})
    assert set(digests(more)).isdisjoint(digests(wheel(files)))
    old = min(files)
    renamed = {k: v for k, v in files.items() if k != old} | {name: files[old]}
    assume(is_tree(renamed))
    assert set(digests(wheel(renamed))).isdisjoint(digests(wheel(files)))


@given(trees, st.sampled_from([0o100, 0o010, 0o001, 0o4000, 0o2000, 0o1000, 0o400]), st.data())
def test_every_bit_that_is_not_umask_changes_every_level(
    files: dict[str, bytes], bit: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(files)))

    def flip(info: zipfile.ZipInfo) -> None:
        if info.filename == name:
            info.external_attr ^= bit << 16

    assert set(digests(wheel(files, edit=flip))).isdisjoint(digests(wheel(files)))


@given(trees.filter(lambda files: any(files.values())), st.text(max_size=8), st.text(max_size=8))
def test_tampering_makes_a_well_formed_wheel_that_equals_no_other(
    files: dict[str, bytes], one: str, two: str
) -> None:
    assume(one != two and max(map(len, files.values())) >= 8)
    true = read(wheel(files))
    spoiled = [tamper_with(true, text) for text in (one, two)]
    assert len({digests(wheel(files))[1], *(digests(data)[1] for data in spoiled)}) == 3
    assert tamper_with(true, one) == spoiled[0]


WHEEL = wheel({"pkg/__init__.py": b"value = 42\n" * 20, "pkg/data": bytes(range(256))})


@given(st.data())
def test_mutated_wheel_is_refused_or_means_the_same(draw: st.DataObject) -> None:
    with contextlib.suppress(ArchiveError):
        # What survives a mutation is a container detail: contents are under RECORD and CRC.
        assert read(mutate(WHEEL, draw)).digests == read(WHEEL).digests


SDIST = gzip.decompress(sdist("pkg", "1.0"))


@given(st.data(), st.booleans())
def test_only_our_error_escapes_from_a_mutated_sdist(
    draw: st.DataObject,
    is_outside: bool,  # noqa: FBT001 - drawn
) -> None:
    if is_outside:
        data = mutate(gzip.compress(SDIST, mtime=0), draw)
    else:
        data = gzip.compress(mutate(SDIST, draw), mtime=0)
    with contextlib.suppress(ArchiveError):
        repack(io.BytesIO(data), file_name="p.tar.gz", out=io.BytesIO(), limits=LIMITS)


@given(st.binary(max_size=2000), st.sampled_from(["p.tar.gz", "p.zip"]))
def test_only_our_error_escapes_from_random_bytes(data: bytes, name: str) -> None:
    with pytest.raises(ArchiveError):
        repack(io.BytesIO(data), file_name=name, out=io.BytesIO(), limits=LIMITS)
    with pytest.raises(ArchiveError):
        read(data)


@given(st.dictionaries(paths, st.binary(max_size=60), min_size=1, max_size=6).filter(is_tree))
def test_repacked_sdist_holds_exactly_the_files_of_the_original(files: dict[str, bytes]) -> None:
    data = tar_gz([file_member(name, content) for name, content in files.items()])
    out = io.BytesIO()
    tree = repack(io.BytesIO(data), file_name="p.tar.gz", out=out, limits=LIMITS)
    assert tree.entries == len(files)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        found = {}
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            found[info.name] = file.read()
    assert found == files


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda t: t.encode(errors="replace")))
def test_only_our_error_escapes_from_pages_metadata_and_declarations(data: bytes) -> None:
    for kind in ("text/html", "application/json"):
        with contextlib.suppress(FormatError):
            parse_page(data, content_type=kind, url="https://x.example/simple/p/")
    with contextlib.suppress(BuildFailure):
        back_end(SourceTree(kept={"pyproject.toml": data}))
    found = extract_metadata(b"Name: p\nVersion: 1\n" + data)
    assert len(canonical.dumps(found.document())) < 30_000
