"""The layer reader: what it tells of an entry, and what it refuses."""

from __future__ import annotations

import io
import tarfile
import tracemalloc

import pytest

from buildpipelines.compare.layer import compare_layers
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.layer import Entry, LayerReader
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.stabilize.layer import Layer, level1
from tests.hostile.layers import Item, layer, packed


def entries(data: bytes, limits: ArchiveLimits | None = None) -> list[Entry]:
    return list(LayerReader(io.BytesIO(data).read, limits or ArchiveLimits()).entries())


def read(*items: Item) -> Layer:
    reader = LayerReader(io.BytesIO(layer(items)).read)
    listing = level1(reader.entries())
    return Layer(listing, reader.diff_id)


def test_entry_tells_everything_that_a_container_could_notice() -> None:
    pax = {"SCHILY.xattr.security.capability": "cap", "atime": "3.25"}
    data = layer(
        [
            Item("./dev/", "dir", mode=0o1777),
            Item("dev/null", "char", mode=0o666, device=(1, 3)),
            Item("bin/su", content=b"x", mode=0o4755, owner=(0, 33), names=("r", "w"), pax=pax),
            Item("etc/.wh.motd"),
            Item("units/a\\x2db.slice", "symlink", link="/dev/null", mtime=5.5),
        ]
    )
    folder, device, program, whiteout, link = entries(data)
    assert (folder.path, folder.kind, folder.mode) == ("dev", "dir", 0o1777)
    assert (device.kind, device.device) == ("char", (1, 3))
    assert (program.mode, program.uid, program.gid) == (0o4755, 0, 33)
    assert program.records == (("SCHILY.xattr.security.capability", b"cap".hex()),)
    assert program.access_times == (("atime", b"3.25".hex()),)
    assert whiteout.path == "etc/.wh.motd"
    assert (link.path, link.link, link.mtime_ns) == (
        "units/a\\x2db.slice",
        "/dev/null",
        5_500_000_000,
    )


@pytest.mark.parametrize(
    ("items", "cause"),
    [
        ([Item("/etc/passwd")], "absolute path"),
        ([Item("a/../../b")], "path traversal"),
        ([Item("a"), Item("a")], "duplicate name"),
        ([Item("a", "dir"), Item("a", "dir", mode=0o777)], "duplicate name"),
        ([Item("a", "symlink", link="/"), Item("a/b")], "path through link"),
        ([Item("a", "hardlink", link="/etc/shadow")], "absolute path"),
        ([Item("a", pax={"GNU.sparse.major": "1"})], "entry type"),
        ([Item("a", pax={"mtime": "now"})], "archive damaged"),
        ([Item("a" * 2000)], "entry name"),
    ],
)
def test_layer_with_two_readings_is_refused(items: list[Item], cause: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        entries(layer(items))
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (
            [Item("a", mode=0o755), Item("b", "hardlink", link="a", mode=0o4755)],
            "one file and differ",
        ),
        ([Item("d", "dir"), Item("b", "hardlink", link="d")], "hard link to a folder"),
        (
            [Item("a", "hardlink", link="b"), Item("b", "hardlink", link="a")],
            "link to itself",
        ),
    ],
)
def test_hard_links_whose_order_would_decide_are_refused(items: list[Item], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        level1(entries(layer(items)))


def test_folder_told_twice_in_the_same_words_is_one() -> None:
    assert len(entries(layer([Item("d", "dir"), Item("d", "dir")]))) == 1


def test_bombs_are_stopped_at_the_limits() -> None:
    small = ArchiveLimits(entries_max=3, file_bytes_max=1000, total_bytes_max=3000)
    with pytest.raises(ArchiveError, match="too many entries"):
        entries(layer([Item(f"f{n}") for n in range(4)]), small)
    with pytest.raises(ArchiveError, match="archive too large"):
        entries(layer([Item("f", content=bytes(1001))]), small)
    info = tarfile.TarInfo("f")
    info.size = 80 * 1024 * 1024
    zeros = packed(bytes(1024 * 1024), level=9)
    with pytest.raises(ArchiveError, match="archive ratio"):
        entries(packed(info.tobuf()) + 80 * zeros)


def test_memory_does_not_grow_with_a_layer() -> None:
    info = tarfile.TarInfo("big")
    info.size = 48 * 1024 * 1024
    parts = iter([info.tobuf(), *[bytes(1024 * 1024)] * 48, bytes(1024)])
    tracemalloc.start()
    [entry] = LayerReader(lambda _: next(parts, b"")).entries()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert entry.size == info.size
    assert peak < 8 * 1024 * 1024


def test_bytes_after_the_end_and_cut_layers_are_refused() -> None:
    good = layer([Item("f", content=b"x" * 700)])
    with pytest.raises(ArchiveError, match="data after archive"):
        entries(good + b"hidden" + bytes(506))
    with pytest.raises(ArchiveError, match="archive cut"):
        entries(good[:900])
    with pytest.raises(ArchiveError, match="layer compression"):
        entries(b"\x28\xb5\x2f\xfd" + good)


def test_difference_names_path_attribute_and_both_values() -> None:
    ours = read(Item("bin/su", content=b"x", mode=0o755, owner=(0, 0)))
    theirs = read(Item("bin/su", content=b"x", mode=0o4755, owner=(0, 7)))
    found = compare_layers(ours, theirs, is_identical=False)
    assert found.level == 3
    assert found.differences == (
        "bin/su: mode: 0755 in the build, 4755 published",
        "bin/su: gid: 0 in the build, 7 published",
    )


def test_recompressed_layer_is_level_1_and_says_so() -> None:
    plain = layer([Item("f", content=b"x" * 5000)])
    one, other = (
        LayerReader(io.BytesIO(data).read) for data in (packed(plain, level=1), packed(plain))
    )
    first, second = (Layer(level1(r.entries()), r.diff_id) for r in (one, other))
    assert compare_layers(first, second, is_identical=False).differences == ("layer: compression",)


def test_format_of_the_tar_alone_is_level_1() -> None:
    items = [Item("d", "dir"), Item("d/" + "n" * 150, content=b"x")]
    forms = [layer(items, style=style) for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    listings = [level1(entries(form)) for form in forms]
    assert forms[0] != forms[1]
    assert listings[0] == listings[1]
