"""Sources: the tar follows from the tree alone, and of hostile ones only our error escapes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.errors import ArchiveError
from buildpipelines.extract import limits
from buildpipelines.extract.limits import ArchiveLimits, Budget
from buildpipelines.extract.source import SourceTar, archive_format, repack_source
from buildpipelines.extract.source_streams import StreamReader, bzip2_reader, xz_reader
from buildpipelines.extract.tar import TarReader
from buildpipelines.inputs.git import COMMIT
from buildpipelines.inputs.git_objects import ObjectReader, parse_tree, write_tree
from buildpipelines.inputs.maven_upstream import read_checksum
from buildpipelines.spec.maven_fields import TAG
from tests.strategies.archives import is_tree

LIMITS = ArchiveLimits(entries_max=200, file_bytes_max=1 << 20, total_bytes_max=4 << 20)
ENDINGS = (".tar.gz", ".tar.xz", ".tar.bz2", ".zip")

steps = st.text("abXY01._-äß ", min_size=1, max_size=6).filter(
    lambda s: s not in (".", "..") and s.lower() != ".git"
)
long_steps = st.builds(str.__mul__, st.sampled_from(["long", "ü"]), st.integers(10, 40))
paths = st.lists(steps | long_steps, min_size=1, max_size=4).map("/".join)


Tree = dict[str, tuple[bytes, bool]]
# Bytes are drawn from the code's own constants as well, and an LFS pointer is refused by its name.
contents = st.binary(max_size=700).filter(lambda data: not data.startswith(b"version "))
trees: st.SearchStrategy[Tree] = st.dictionaries(
    paths, st.tuples(contents, st.booleans()), min_size=1, max_size=6
).filter(is_tree)


def folders(files: Mapping[str, object]) -> list[str]:
    found = {name.rpartition("/")[0] for name in files}
    found |= {"/".join(n.split("/")[:k]) for n in files for k in range(1, n.count("/") + 1)}
    return sorted(found - {""})


def canonical(files: Tree) -> bytes:
    out = io.BytesIO()
    tar = SourceTar(out, LIMITS)
    everything = [*((name, None) for name in folders(files)), *files.items()]
    for name, entry in sorted(everything, key=lambda each: each[0].encode()):
        path = tuple(name.split("/"))
        if entry is None:
            tar.folder(path)
        else:
            data, may_run = entry
            tar.file(path, size=len(data), is_executable=may_run, chunks=[data])
    tar.close()
    return out.getvalue()


def read(tar: bytes) -> Tree:
    budget = Budget(LIMITS)
    reader = TarReader(io.BytesIO(tar).read, LIMITS, budget)
    return {
        "/".join(member.path): (b"".join(reader.chunks()), bool(member.mode & 0o100))
        for member in reader.members()
        if member.kind == "file"
    }


@given(trees)
def test_canonical_tar_says_what_was_written_to_every_reader(files: Tree) -> None:
    data = canonical(files)
    assert read(data) == files
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr] # they are files
    assert found == {name: content for name, (content, _) in files.items()}


class Objects:
    """Git objects as ``git cat-file --batch`` gives them, made here."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.out = io.BytesIO()

    def add(self, kind: str, content: bytes) -> str:
        head = f"{kind} {len(content)}\0".encode()
        oid = hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
        self.objects[oid] = (kind, content)
        return oid

    def tree(self, files: Tree) -> str:
        below: dict[str, Tree] = {}
        entries = []
        for name, (data, may_run) in files.items():
            first, slash, rest = name.partition("/")
            if slash:
                below.setdefault(first, {})[rest] = (data, may_run)
            else:
                mode = b"100755" if may_run else b"100644"
                entries.append((first, mode, self.add("blob", data)))
        entries += [(first, b"40000", self.tree(inner)) for first, inner in below.items()]
        return self.add(
            "tree",
            b"".join(
                mode + b" " + name.encode() + b"\0" + bytes.fromhex(oid)
                for name, mode, oid in entries
            ),
        )

    def commit(self, files: Tree, *, author: str, time: int) -> str:
        return self.commit_of(self.tree(files), author=author, time=time)

    def commit_of(self, tree: str, *, author: str = "A", time: int = 1) -> str:
        who = f"{author} <a@example.test> {time} +0000"
        text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nwords\n"
        return self.add("commit", text.encode())

    # The two ends of the process.
    def write(self, line: bytes) -> int:
        oid = line.decode().strip()
        kind, content = self.objects.get(oid, ("missing", b""))
        place = self.out.tell()
        self.out.seek(0, io.SEEK_END)
        self.out.write(f"{oid} {kind} {len(content)}\n".encode() + content + b"\n")
        self.out.seek(place)
        return len(line)

    def flush(self) -> None:
        """Nothing waits."""

    def written(self, commit: str) -> bytes:
        out = io.BytesIO()
        write_tree(ObjectReader(self, self.out), commit, out, LIMITS)  # type: ignore[arg-type] # it writes and flushes
        return out.getvalue()

    def refusal(self, tree: str) -> str:
        """Return why a commit of this tree is refused."""
        with pytest.raises(ArchiveError) as caught:
            self.written(self.commit_of(tree))
        return caught.value.cause


@given(trees, st.integers(0, 2**33))
def test_tar_of_a_commit_follows_from_its_tree_alone(files: Tree, time: int) -> None:
    one, other = Objects(), Objects()
    first = one.written(one.commit(files, author="A", time=time))
    second = other.written(other.commit(dict(reversed(files.items())), author="B", time=0))
    assert first == second == canonical(files)


@given(trees, st.data())
def test_object_of_other_bytes_than_its_name_says_is_refused(
    files: Tree, data: st.DataObject
) -> None:
    objects = Objects()
    commit = objects.commit(files, author="A", time=1)
    victim = data.draw(st.sampled_from(sorted(objects.objects)))
    kind, content = objects.objects[victim]
    place = data.draw(st.integers(0, len(content)))
    objects.objects[victim] = (kind, content[:place] + b"!" + content[place:])
    with pytest.raises(ArchiveError):
        objects.written(commit)


def test_tree_that_holds_itself_many_times_ends_at_the_limits() -> None:
    objects = Objects()
    tree = objects.add("tree", b"")
    for _ in range(30):
        oid = bytes.fromhex(tree)
        tree = objects.add("tree", b"40000 a\0" + oid + b"40000 b\0" + oid)
    assert objects.refusal(tree) == "too many entries"


@given(
    st.binary(max_size=200)
    | st.builds(lambda a, b: a + b"\0" + b * 20, st.binary(), st.binary(min_size=1, max_size=1))
)
def test_only_our_error_escapes_from_a_tree(content: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        for entry in parse_tree(content, ("top",), LIMITS):
            assert ".." not in entry.path
            assert all("/" not in step for step in entry.path)


def refusal_of(entry: bytes, content: bytes = b"") -> str:
    objects = Objects()
    blob = bytes.fromhex(objects.add("blob", content))
    return objects.refusal(objects.add("tree", entry + b"\0" + blob))


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (b"100644 .git", "entry name"),
        (b"100644 .GIT", "entry name"),
        (b"100644 ..", "entry name"),
        (b"100644 .", "entry name"),
        (b"100644 ", "entry name"),
        (b"100644 a/b", "entry name"),
        (b"100644 a\\b", "entry name"),
        (b"100644 a\nb", "entry name"),
        (b"100644 \xff", "entry name"),
        (b"100600 a", "entry type"),
        (b"160000 a", "submodule"),
        (b"40000 a", "source damaged"),
        (b"a", "source damaged"),
    ],
)
def test_entry_that_no_tree_should_have_is_refused_by_name(entry: bytes, cause: str) -> None:
    assert refusal_of(entry) == cause


@pytest.mark.parametrize("target", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "a\0b"])
def test_link_out_of_the_tree_is_refused(target: str) -> None:
    assert refusal_of(b"120000 l", target.encode()) == "link escapes"


@pytest.mark.parametrize("modes", [("40000", "40000"), ("100644", "100644"), ("40000", "100644")])
def test_name_that_a_tree_has_twice_is_refused(modes: tuple[str, str]) -> None:
    objects = Objects()
    oids = {"100644": objects.add("blob", b"x"), "40000": objects.tree({"y": (b"", False)})}
    entries = (mode.encode() + b" a\0" + bytes.fromhex(oids[mode]) for mode in modes)
    assert objects.refusal(objects.add("tree", b"".join(entries))) == "duplicate name"


def test_entry_below_a_link_is_refused() -> None:
    tar = SourceTar(io.BytesIO(), LIMITS)
    tar.folder(("real",))
    tar.link(("l",), "real")
    with pytest.raises(ArchiveError) as caught:
        tar.file(("l", "x"), size=0, is_executable=False, chunks=[])
    assert caught.value.cause == "path through link"


# ------------------------------------------------------------------ archives


def packed(files: Tree, ending: str, top: str = "top/") -> bytes:
    out = io.BytesIO()
    if ending == ".zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name, (data, may_run) in files.items():
                info = zipfile.ZipInfo(top + name)
                info.external_attr = (0o100755 if may_run else 0o100644) << 16
                info.create_system = 3
                archive.writestr(info, data)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, (data, may_run) in files.items():
            member = tarfile.TarInfo(top + name)
            member.size, member.mode = len(data), 0o755 if may_run else 0o644
            member.mtime, member.uname = 99, "somebody"
            tar.addfile(member, io.BytesIO(data))
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".tar.gz": gzip.compress,
        ".tar.xz": lzma.compress,
        ".tar.bz2": bz2.compress,
    }
    return pack[ending](out.getvalue())


def repacked(data: bytes, ending: str) -> bytes:
    out = io.BytesIO()
    repack_source(io.BytesIO(data), ending=ending, out=out, limits=LIMITS)
    return out.getvalue()


@given(trees, st.sampled_from(ENDINGS))
def test_archive_of_any_format_unpacks_to_its_files_without_the_top(
    files: Tree, ending: str
) -> None:
    assert read(repacked(packed(files, ending), ending)) == files


@given(trees, st.sampled_from(ENDINGS), st.data())
def test_only_our_error_escapes_from_a_damaged_archive(
    files: Tree, ending: str, data: st.DataObject
) -> None:
    whole = packed(files, ending)
    place = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 3))
    damaged = whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + cut :]
    with contextlib.suppress(ArchiveError):
        repacked(damaged, ending)


@given(st.binary(max_size=200), st.sampled_from(ENDINGS))
def test_only_our_error_escapes_from_nonsense(data: bytes, ending: str) -> None:
    with contextlib.suppress(ArchiveError):
        repacked(data, ending)


@given(trees, st.sampled_from(ENDINGS))
def test_archive_with_two_tops_is_refused(files: Tree, ending: str) -> None:
    with pytest.raises(ArchiveError):
        repacked(packed({"one/x": (b"", False), "two/x": (b"", False)}, ending, ""), ending)
    with pytest.raises(ArchiveError):
        repacked(packed({"file": (b"", False)} | files, ending, ""), ending)


STREAMS: list[
    tuple[Callable[[Callable[[int], bytes], Budget], StreamReader], Callable[[bytes], bytes]]
] = [
    (xz_reader, lzma.compress),
    (bzip2_reader, bz2.compress),
]


@pytest.mark.parametrize(("reader", "pack"), STREAMS)
@given(parts=st.lists(st.binary(max_size=100), min_size=1, max_size=4), sizes=st.integers(1, 50))
def test_streams_in_a_row_are_one(
    reader: Callable[[Callable[[int], bytes], Budget], StreamReader],
    pack: Callable[[bytes], bytes],
    parts: list[bytes],
    sizes: int,
) -> None:
    source = io.BytesIO(b"".join(map(pack, parts)) + bytes(8))
    stream = reader(source.read, Budget(LIMITS))
    found = b""
    while data := stream.read(sizes):
        found += data
    assert found == b"".join(parts)


@pytest.mark.parametrize(("reader", "pack"), STREAMS)
def test_bomb_and_trailing_bytes_are_refused(
    reader: Callable[[Callable[[int], bytes], Budget], StreamReader],
    pack: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RATIO_FREE_BYTES", 1 << 20)
    bomb = reader(io.BytesIO(pack(bytes(4 << 20))).read, Budget(ArchiveLimits(ratio_max=1)))
    with pytest.raises(ArchiveError, match="ratio"):
        bomb.read(4 << 20)
    trailing = reader(io.BytesIO(pack(b"x") + b"more").read, Budget(LIMITS))
    with pytest.raises(ArchiveError):
        trailing.read(10)
    with pytest.raises(ArchiveError, match="no end"):
        reader(io.BytesIO(pack(b"x" * 99)[:-5]).read, Budget(LIMITS)).read(1000)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("https://x.example/a-1.0-src.tgz", ".tar.gz"),
        ("a.tar.xz", ".tar.xz"),
        ("a.tbz2", ".tar.bz2"),
        ("a.zip", ".zip"),
        ("a.tar", None),
        ("a.gz", None),
    ],
)
def test_ending_tells_the_format(name: str, ending: str | None) -> None:
    assert archive_format(name) == ending


# ------------------------------------------------------------------ small grammars


@given(st.text(max_size=30) | st.from_regex(TAG))
def test_every_tag_that_we_take_is_one_for_git(text: str) -> None:
    if TAG.match(text):
        assert not text.startswith("-")
        assert text.isascii()
        assert not set(text) & set(" ~^:?*[\\")
        assert ".." not in text
        assert not text.endswith((".", "/", ".lock"))
        assert not COMMIT.match(text) or len(text) == 40


@given(st.binary(max_size=200), st.sampled_from([32, 40, 64, 128]))
def test_checksum_is_hexadecimal_or_none(text: bytes, digits: int) -> None:
    found = read_checksum(text, digits)
    if found is not None:
        assert bytes.fromhex(found).hex() == found
        assert len(found) == digits
