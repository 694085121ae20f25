"""Jars: levels keep what matters and nothing else, whatever the archive; hostile bytes are refused.

The verdict is tried in three ways: equal to itself, invariant under every mutation that a rule is
for, sensitive to every other one.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable

from hypothesis import assume, given
from hypothesis import strategies as st

from buildpipelines.compare.artifact import Artifact, compare_published, read_artifact
from buildpipelines.compare.classfile import class_differences
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.jar import MANIFEST, JarLimits
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.stabilize.javadoc import stable_page
from buildpipelines.stabilize.manifest import (
    BUILD_METADATA,
    NEVER_STRIP,
    ORDERLESS,
    parse_manifest,
    sort_clauses,
    split_clauses,
    stable_manifest,
)
from buildpipelines.stabilize.properties import stable_git_file, stable_pom_properties
from tests.hostile.jars import class_file, jar, manifest_first, signed
from tests.strategies.archives import is_tree, mutate

LIMITS = JarLimits(ArchiveLimits(entries_max=200, file_bytes_max=1 << 20, total_bytes_max=4 << 20))
NAME = "pkg-1.0.jar"
POM = "META-INF/maven/g/a/pom.properties"

steps = st.text("abcXYZ019._$", min_size=1, max_size=6).filter(lambda s: s not in (".", ".."))
endings = st.sampled_from(["", ".class", ".properties", ".html", ".jar", ".SF"])
paths = st.builds(
    lambda parts, end: "/".join(parts) + end, st.lists(steps, min_size=1, max_size=3), endings
)


contents = st.binary(max_size=60) | st.just(class_file()) | st.just(jar({"in": b"x"}))
trees = st.dictionaries(paths, contents, min_size=1, max_size=6).filter(is_tree)
values = st.text("ab =;,.:/1", max_size=12).map(lambda v: v.replace(" ", "_"))
attribute_names = st.sampled_from(["X-One", "Bundle-Name", "Main-Class", "Tool", "Created-By"])
attributes = st.dictionaries(attribute_names, values, max_size=4)


def manifest(main: dict[str, str], *, end: str = "\r\n", backwards: bool = False) -> bytes:
    lines = [f"{name}: {value}" for name, value in main.items()]
    ordered = lines[::-1] if backwards else lines
    return f"Manifest-Version: 1.0{end}{''.join(line + end for line in ordered)}{end}".encode()


def read(data: bytes, name: str = NAME) -> Artifact:
    return read_artifact(name, data, LIMITS)


def forms(data: bytes, name: str = NAME) -> tuple[str, str]:
    found = read(data, name)
    return found.l1, found.l2


def level(built: bytes, published: bytes) -> int:
    return compare_published(read(built), published, LIMITS).level


@given(trees)
def test_jar_is_equal_to_itself_at_every_level(files: dict[str, bytes]) -> None:
    data = jar(files)
    assert level(data, data) == 0
    assert level(data, jar(files, compression=zipfile.ZIP_STORED)) == 1


@given(trees, st.permutations(range(12)), st.integers(1981, 2100), st.sampled_from([0, 8]))
def test_container_changes_never_change_level_1(
    files: dict[str, bytes], order: list[int], year: int, method: int
) -> None:
    def touch(info: zipfile.ZipInfo) -> None:
        info.date_time = (year, 1, 2, 3, 4, 6)
        info.external_attr |= 0o022 << 16
        info.extra = b"\xfe\xca\x00\x00"

    def reorder(names: list[str]) -> list[str]:
        ranked = zip(order, sorted(names), strict=False)
        return manifest_first([name for _, name in sorted(ranked)])

    def changed(inner: dict[str, bytes]) -> bytes:
        return jar(inner, edit=touch, order=reorder, compression=method)

    assert forms(changed(files)) == forms(jar(files))
    assert level(changed(files), jar(files)) == 1
    # Nested as well, and nested in a nested one.
    outer, other = (jar({"a.war": jar({"b.jar": make(files)})}) for make in (changed, jar))
    assert forms(outer) == forms(other)


@given(trees, attributes, st.sampled_from(sorted(BUILD_METADATA)), values, st.booleans())
def test_build_metadata_and_the_way_of_writing_never_change_level_2(
    files: dict[str, bytes],
    main: dict[str, str],
    name: str,
    value: str,
    is_backwards: bool,  # noqa: FBT001 - drawn
) -> None:
    assume(name not in map(str.lower, main))
    one = manifest({**main, name: value}, end="\n", backwards=is_backwards)
    other = manifest(main)
    assert forms(jar(files, manifest=one))[1] == forms(jar(files, manifest=other))[1]
    assert level(jar(files, manifest=one), jar(files, manifest=other)) == 2


@given(trees, attributes, st.sampled_from(sorted(NEVER_STRIP)), values, values)
def test_every_change_of_a_never_strip_attribute_is_level_3(
    files: dict[str, bytes], main: dict[str, str], name: str, one: str, other: str
) -> None:
    assume(one != other)
    rest = {k: v for k, v in main.items() if k.lower() != name}
    made = [jar(files, manifest=manifest({**rest, name: value})) for value in (one, other)]
    without = jar(files, manifest=manifest(rest))
    assert level(made[0], made[1]) == level(made[0], without) == level(without, made[0]) == 3


names = st.from_regex(r"[A-Za-z][A-Za-z-]{0,12}", fullmatch=True).filter(
    lambda name: name.lower() not in BUILD_METADATA | {"manifest-version", "name"}
)


@given(trees, names, values, values, st.booleans())
def test_every_change_of_an_attribute_that_no_rule_names_is_level_3(
    files: dict[str, bytes],
    name: str,
    one: str,
    other: str,
    is_of_an_entry: bool,  # noqa: FBT001 - drawn
) -> None:
    assume(sorted(one.split(",")) != sorted(other.split(",")))  # order may be a set's

    def made(*lines: str) -> bytes:
        section = ("", "Name: a/") if is_of_an_entry else ()
        rows = ("Manifest-Version: 1.0", *section, *lines, "")
        return jar(files, manifest="".join(f"{row}\r\n" for row in rows).encode())

    changed, before, without = made(f"{name}: {one}"), made(f"{name}: {other}"), made()
    assert level(changed, before) == level(before, changed) == 3
    assert level(changed, without) == level(without, changed) == 3


@given(st.lists(st.text('ab;="\\, ', max_size=6), max_size=5))
def test_splitting_a_header_loses_nothing_and_sorting_it_twice_is_once(parts: list[str]) -> None:
    value = ",".join(parts)
    clauses = split_clauses(value)
    if clauses is not None:
        assert ",".join(clauses) == value
    assert sort_clauses(sort_clauses(value)) == sort_clauses(value)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_order_of_clauses_never_changes_level_2(clauses: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ORDERLESS)))
    other = data.draw(st.permutations(clauses))
    one, two = (manifest({name: ",".join(order)}) for order in (clauses, other))
    assert forms(jar({}, manifest=one))[1] == forms(jar({}, manifest=two))[1]


@given(trees.filter(lambda files: not any(name.endswith(".SF") for name in files)))
def test_signature_never_changes_level_2_and_always_level_1(files: dict[str, bytes]) -> None:
    more, signed_manifest = signed(files)
    assert (
        level(
            jar(files, manifest=manifest({"Main-Class": "a.Main"})),
            jar(more, manifest=signed_manifest),
        )
        == 2
    )


@given(trees, st.text("ab 1:", max_size=12), st.booleans())
def test_comments_of_pom_properties_never_change_level_2(
    files: dict[str, bytes],
    text: str,
    is_crlf: bool,  # noqa: FBT001 - drawn
) -> None:
    plain = b"version=1\ngroupId=g\n"
    commented = f"#{text}\n".encode() + plain
    one = commented.replace(b"\n", b"\r\n") if is_crlf else commented
    made = [jar({**files, POM: data}) for data in (one, plain)]
    assert level(made[0], made[1]) == 2


@given(trees, st.data())
def test_every_content_change_is_level_3(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    old = files[name]
    assume(old)
    at = data.draw(st.integers(0, len(old) - 1))
    flip = data.draw(st.integers(1, 255))
    new = old[:at] + bytes([old[at] ^ flip]) + old[at + 1 :]
    if name.endswith(".jar") and old[:2] == b"PK":
        new = jar({"in": bytes([flip]) + b"x"})  # A byte of the container might say nothing.
    changed = jar(files | {name: new})
    assert set(forms(changed)).isdisjoint(forms(jar(files)))
    assert level(changed, jar(files)) == level(jar(files), changed) == 3
    # As well inside a nested archive.
    assert level(jar({"a.jar": changed}), jar({"a.jar": jar(files)})) == 3


@given(trees, paths)
def test_every_added_removed_or_renamed_file_is_level_3(files: dict[str, bytes], name: str) -> None:
    assume(name not in files and is_tree(files | {name: b""}))
    assert level(jar(files | {name: b""}), jar(files)) == 3
    assert level(jar(files), jar(files | {name: b""})) == 3
    old = min(files)
    renamed = {k: v for k, v in files.items() if k != old} | {name: files[old]}
    assert level(jar(renamed), jar(files)) == 3


@given(trees, st.sampled_from([0o100, 0o010, 0o001, 0o4000, 0o2000, 0o1000, 0o400]), st.data())
def test_every_bit_that_is_not_umask_is_level_3(
    files: dict[str, bytes], bit: int, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(files)))

    def flip(info: zipfile.ZipInfo) -> None:
        if info.filename == name:
            info.external_attr ^= bit << 16

    assert level(jar(files, edit=flip), jar(files)) == 3


@given(trees)
def test_manifest_that_readers_from_the_front_miss_is_level_3(files: dict[str, bytes]) -> None:
    late = jar(files, order=lambda names: manifest_first(names)[::-1])
    assert level(late, jar(files)) == 3


@given(st.binary(max_size=120) | st.text("Aa: \r\n-", max_size=40).map(str.encode))
def test_manifest_is_read_or_none_and_its_rules_are_idempotent(content: bytes) -> None:
    found = parse_manifest(content)
    if found is not None:
        once = stable_manifest(found)
        assert stable_manifest(once) == once
        assert not any(name.lower() in BUILD_METADATA for name in once.main)
    # Whatever a manifest is, a jar with it is read, and compared with one of another.
    assert level(jar({}, manifest=content), jar({})) in (0, 2, 3)


PIECES = st.sampled_from(
    [
        b"<head>",
        b"</head>",
        b"\n",
        b"\r\n",
        b"<!-- Generated by javadoc ",
        b"<!-- Generated by javadoc -->",
        b"(17) on Tue -->",
        b'<meta name="date" ',
        b'content="2020-01-01">',
        b"x",
        b"#c",
        b"a=1",
        b"git.a=1",
        b'{"git.a":1,"b":2}',
        b"{",
        b"\xff",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_rules_for_files_are_idempotent(content: bytes) -> None:
    rules: list[Callable[[bytes], bytes | None]] = [
        stable_page,
        stable_pom_properties,
        lambda data: stable_git_file("git.properties", data),
        lambda data: stable_git_file("git.json", data),
    ]
    for rule in rules:
        once = rule(content)
        assert once is None or rule(once) == once


JAR = jar({"a/Main.class": class_file(), "lib/in.jar": jar({"x": b"y" * 50}), POM: b"a=1\n"})


@given(st.data())
def test_mutated_jar_is_refused_or_means_the_same(draw: st.DataObject) -> None:
    changed = mutate(JAR, draw)
    with contextlib.suppress(ArchiveError):
        found, true = read(changed).jar, read(JAR).jar
        assert found is not None
        assert true is not None
        # What survives a mutation is a container detail: contents are under their checksums.
        assert found.digests == true.digests


@given(st.data())
def test_jar_around_a_mutated_one_is_always_read(draw: st.DataObject) -> None:
    changed = mutate(JAR, draw)
    found = compare_published(read(jar({"a.jar": JAR})), jar({"a.jar": changed}), LIMITS)
    assert found.published is not None
    assert found.level in (0, 1, 3)


@given(st.binary(max_size=600))
def test_random_bytes_are_no_jar_and_published_ones_are_level_3(data: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        assert read(data).jar is None
    assert compare_published(read(JAR), data, LIMITS).differences[0].attribute == "structure"


@given(st.data())
def test_class_of_any_bytes_is_told_of_without_an_error(draw: st.DataObject) -> None:
    one = class_file(methods={"run": b"\x12\x01\xb6\x00\x01\xb1"}, lines=(1, 2), strings=("s",))
    changed = mutate(one, draw)
    found = class_differences(one, changed)
    assert found is None or all(d.attribute for d in found)


@given(trees, trees)
def test_what_differs_is_told_exactly_where_levels_differ(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    found = compare_published(read(jar(one)), jar(other), LIMITS)
    assert bool(found.differences) == (found.level > 0)
    assert max((d.level for d in found.differences), default=0) == found.level
    total = found.entries
    assert total.equal + total.differ + total.built_only == len({*one, MANIFEST})
    assert total.equal + total.differ + total.published_only == len({*other, MANIFEST})
