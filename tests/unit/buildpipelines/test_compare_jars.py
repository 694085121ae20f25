"""Levels of two jars, and every difference by file, attribute, both values, level and rule."""

from __future__ import annotations

import zipfile

import pytest

from buildpipelines.compare.artifact import compare_published, in_words, read_artifact
from buildpipelines.compare.verdict import DIFFERENCE_CHARACTERS_MAX, DIFFERENCES_MAX
from buildpipelines.spec.explanation import Counts, Difference, FileExplanation
from tests.hostile.jars import MANIFEST, class_file, jar, plain_manifest, signed

FILES = {"a/Main.class": class_file(), "a/text": b"one\ntwo\nthree\n"}
NAME = "thing-1.0.jar"


def explain(built: bytes, published: bytes | None, name: str = NAME) -> FileExplanation:
    return compare_published(read_artifact(name, built), published)


def one_difference(built: bytes, published: bytes, name: str = NAME) -> Difference:
    (found,) = explain(built, published, name).differences
    return found


def test_same_bytes_are_level_0_and_nothing_differs() -> None:
    found = explain(jar(FILES), jar(FILES))
    assert (found.level, found.differences, found.more) == (0, (), 0)
    assert found.entries == Counts(equal=3)
    assert found.classes == Counts(equal=1)


def test_what_nobody_publishes_has_no_level() -> None:
    found = explain(jar(FILES), None)
    assert (found.level, found.published, found.differences) == (-1, None, ())


def at_time(info: zipfile.ZipInfo) -> None:
    info.date_time = (2021, 2, 3, 4, 5, 6)


def with_umask(info: zipfile.ZipInfo) -> None:
    info.external_attr |= 0o020 << 16


def by_windows(info: zipfile.ZipInfo) -> None:
    info.create_system, info.external_attr = 0, 0x20  # DOS: to be archived


def with_magic(info: zipfile.ZipInfo) -> None:
    info.extra = b"\xfe\xca\x00\x00" if info.filename == MANIFEST else b""


@pytest.mark.parametrize(
    ("published", "attribute", "rule", "words"),
    [
        (jar(FILES, edit=at_time), "time", "zip-time", "2021-02-03 04:05:06 (3 entries differ)"),
        (jar(FILES, edit=with_umask), "mode", "zip-group-other-write", "100664 by system 3"),
        (jar(FILES, edit=by_windows), "mode", "zip-system", "0 by system 0"),
        (jar(FILES, edit=with_magic), "extra", "zip-extra", "feca0000 (1 entries differ)"),
        (
            jar(FILES, compression=zipfile.ZIP_STORED),
            "compression",
            "zip-compression",
            "stored to 25 bytes",
        ),
        (
            jar(FILES, order=lambda names: [MANIFEST, "a/text", "a/Main.class"]),
            "order",
            "zip-order",
            "a/text at 2",
        ),
        (jar(FILES | {"a/": b""}), "folders", "zip-implied-folders", "1 folder entries, first a/"),
    ],
)
def test_container_is_told_once_an_attribute(
    published: bytes, attribute: str, rule: str, words: str
) -> None:
    found = one_difference(jar(FILES), published)
    assert (found.path, found.attribute, found.level, found.rule) == ("", attribute, 1, rule)
    assert found.published.startswith(words)
    assert explain(jar(FILES), published).level == 1


def manifest(*lines: str) -> bytes:
    return jar(FILES, manifest="\r\n".join(["Manifest-Version: 1.0", *lines, "", ""]).encode())


@pytest.mark.parametrize(
    ("ours", "theirs", "level", "rule"),
    [
        ("Created-By: 17", "Created-By: 21", 2, "jar-build-metadata"),
        ("Export-Package: b,a", "Export-Package: a,b", 2, "jar-attribute-value-order"),
        ("Export-Package: b,a", "Export-Package: a,c", 3, ""),
        ("Main-Class: a.Main", "Main-Class: a.Evil", 3, ""),
        ("multi-release: true", "multi-release: false", 3, ""),
    ],
)
def test_attribute_of_a_manifest_is_told_with_both_values(
    ours: str, theirs: str, level: int, rule: str
) -> None:
    found = one_difference(manifest(ours), manifest(theirs))
    name, _, value = ours.partition(": ")
    assert found == Difference(MANIFEST, name, value, theirs.partition(": ")[2], level, rule)
    assert explain(manifest(ours), manifest(theirs)).level == level


def test_attribute_that_one_side_lacks_is_absent_there() -> None:
    found = one_difference(manifest(), manifest("Multi-Release: true"))
    assert (found.attribute, found.built, found.published) == ("Multi-Release", "absent", "true")


def test_long_header_shows_the_clauses_of_one_side_alone() -> None:
    packages = [f"a.b{number}" for number in range(40)]
    ours, theirs = ("Export-Package: " + ",".join([*packages, x]) for x in ("x", "y"))
    ours, theirs = (h.replace(",", ",\r\n ") for h in (ours, theirs))
    found = one_difference(manifest(ours), manifest(theirs))
    assert (found.built, found.published) == ("x", "y")
    back = "Export-Package: " + ",\r\n ".join(packages[::-1])
    found = one_difference(manifest("Export-Package: " + ",\r\n ".join(packages)), manifest(back))
    assert found.built == found.published == "40 clauses in its own order"


def test_folding_of_a_manifest_is_level_2_and_named() -> None:
    found = one_difference(manifest("Main-Class: a.Main"), manifest("Main-Class: a\r\n .Main"))
    assert (found.attribute, found.level, found.rule) == ("format", 2, "jar-manifest-format")


def test_sections_are_told_by_name() -> None:
    sealed = manifest("", "Name: a/", "Sealed: true")
    found = one_difference(sealed, manifest("", "Name: a/", "Sealed: false"))
    assert (found.attribute, found.published, found.level) == ("a/: Sealed", "false", 3)
    found = one_difference(sealed, manifest())
    assert (found.attribute, found.built, found.level) == ("section a/", "Sealed: true", 3)


def test_manifest_of_no_single_reading_is_told_line_by_line() -> None:
    found = one_difference(manifest("Created-By: 1"), manifest("Created-By: 1", "Created-By: 2"))
    assert (found.path, found.attribute, found.level) == (MANIFEST, "lines from 3", 3)


def test_signature_is_told_as_one() -> None:
    files, signed_manifest = signed(FILES)
    found = explain(jar(FILES, manifest=plain_manifest()), jar(files, manifest=signed_manifest))
    assert found.level == 2
    assert {d.rule for d in found.differences} == {"jar-signature"}
    assert {(d.path, d.attribute) for d in found.differences} == {
        ("META-INF/ME.SF", "presence"),
        ("META-INF/ME.RSA", "presence"),
        (MANIFEST, "section a/Main.class"),
        (MANIFEST, "section a/text"),
    }


def test_text_is_told_by_line_and_binary_by_digest() -> None:
    found = one_difference(jar(FILES), jar(FILES | {"a/text": b"one\n2\nthree\n"}))
    assert found == Difference("a/text", "line 2", "'two'", "'2'", 3)
    found = one_difference(jar({"a": b"\0one"}), jar({"a": b"\0two!"}))
    assert found.attribute == "content"
    assert found.published.startswith("5 bytes, SHA-256 ")


def test_class_is_told_in_words() -> None:
    found = one_difference(jar(FILES), jar(FILES | {"a/Main.class": class_file(major=65)}))
    assert (found.path, found.attribute) == ("a/Main.class", "class version")
    assert (found.built, found.published) == ("61.0 (Java 17)", "65.0 (Java 21)")


def test_presence_and_mode_are_level_3() -> None:
    found = one_difference(jar(FILES | {"b.class": b""}), jar(FILES))
    assert (found.path, found.built, found.published) == ("b.class", "present", "absent")

    def executable(info: zipfile.ZipInfo) -> None:
        if info.filename == "a/text":
            info.external_attr = 0o100755 << 16

    found = one_difference(jar(FILES), jar(FILES, edit=executable))
    assert (found.path, found.attribute, found.level) == ("a/text", "mode", 3)
    assert (found.built, found.published) == ("0644", "0755")


def test_place_of_the_manifest_is_told() -> None:
    found = explain(jar(FILES), jar(FILES, order=lambda names: sorted(names, reverse=True)))
    assert found.level == 3
    assert found.differences[0].path == MANIFEST
    assert found.differences[0].attribute == "order"


def test_nested_archives_are_told_entry_by_entry() -> None:
    inner, other = (jar({"x.jar": jar(FILES | {"a/text": t})}) for t in (b"1\n", b"2\n"))
    found = one_difference(jar({"lib/y.war": inner}), jar({"lib/y.war": other}))
    assert (found.path, found.attribute) == ("lib/y.war!/x.jar!/a/text", "line 1")
    late = jar({"x.jar": jar(FILES, edit=at_time)})
    found = one_difference(jar({"y.war": late}), jar({"y.war": jar({"x.jar": jar(FILES)})}))
    assert (found.path, found.attribute, found.level) == ("y.war!/x.jar", "time", 1)


def test_nested_archive_of_no_single_reading_is_said_to_be_bytes() -> None:
    found = one_difference(jar({"y.jar": jar(FILES)}), jar({"y.jar": jar(FILES) + b"tail"}))
    assert found.attribute == "content"
    assert "taken for bytes (not zip: " in found.published
    assert "taken" not in found.built


def test_published_archive_that_is_refused_is_level_3_with_the_reason() -> None:
    found = explain(jar(FILES), jar(FILES) + b"tail")
    assert found.level == 3
    assert found.differences[0].attribute == "structure"
    assert found.differences[0].published.startswith("refused: not zip")


def test_pom_is_equal_to_the_byte_or_differs_line_by_line() -> None:
    pom = b"<project>\n<version>1</version>\n</project>\n"
    assert explain(pom, pom, "thing-1.0.pom").level == 0
    found = explain(pom, pom.replace(b"1", b"2"), "thing-1.0.pom")
    assert found.level == 3
    assert found.differences[0].attribute == "line 2"
    found = explain(pom, pom.replace(b"\n", b"\r\n"), "thing-1.0.pom")
    assert (found.level, found.differences[0].attribute) == (3, "line ends")
    assert (found.differences[0].built, found.differences[0].published) == ("LF", "CRLF")
    assert explain(b"\0a", b"\0b", "thing-1.0.so").differences[0].attribute == "content"


def test_most_important_differences_come_first_and_the_rest_is_counted() -> None:
    many = {f"f{number:03}": b"x" for number in range(500)}
    found = explain(jar(FILES | many, edit=at_time), jar(FILES))
    assert len(found.differences) + found.more == 501
    levels = [d.level for d in found.differences]
    assert levels == sorted(levels, reverse=True)
    assert found.entries == Counts(equal=3, built_only=500)


def test_words_fit_the_messages_of_the_build_link() -> None:
    files = {f"{'x' * 300}{number}": b"" for number in range(100)}
    lines = in_words(explain(jar(files), jar({})))
    assert len(lines) == DIFFERENCES_MAX
    assert all(len(line) <= DIFFERENCE_CHARACTERS_MAX for line in lines)
    (line,) = in_words(explain(jar(FILES), jar(FILES | {"a/text": b"1\n2\n"})))
    assert "\n" not in line


@pytest.mark.parametrize(
    ("theirs", "attribute", "level", "rule"),
    [
        (b"git.a=2\nb=2\n", "line 1", 2, "jar-git-properties"),
        (b"git.a=2\nb=3\n", "line 1", 3, ""),
        (b"git.a=2\nb\\u0020=2\n", "lines from 1", 3, ""),
    ],
)
def test_rule_that_ends_a_difference_is_named(
    theirs: bytes, attribute: str, level: int, rule: str
) -> None:
    published = jar({"git.properties": theirs})
    found = explain(jar({"git.properties": b"git.a=1\nb=2\n"}), published)
    first = found.differences[0]
    assert (found.level, first.attribute, first.level, first.rule) == (
        level,
        attribute,
        level,
        rule,
    )


def test_what_a_rule_takes_out_is_not_shown_where_something_else_differs() -> None:
    found = one_difference(
        jar({"git.properties": b"git.a=1\nb=2\n"}), jar({"git.properties": b"git.a=2\nb=3\n"})
    )
    assert (found.built, found.published) == ("'b=2'", "'b=3'")


POM = "META-INF/maven/g/a/pom.properties"


def variants() -> dict[str, bytes]:
    """Return jars of one family; some differ only in whether a signature holds."""
    files = {"a/text": b"one", POM: b"a=1\n"}
    signed_files, signed_manifest = signed(files)
    plain = plain_manifest()
    stamped = signed_manifest.replace(b"Main-Class", b"Created-By: 1\r\nMain-Class")
    return {
        "plain": jar(files, manifest=plain),
        "commented": jar({**files, POM: b"#c\na=1\n"}, manifest=plain),
        "signed": jar(signed_files, manifest=signed_manifest),
        "signed late": jar(signed_files, manifest=signed_manifest, edit=at_time),
        "signed, another manifest": jar(signed_files, manifest=stamped),
        "signed, another entry": jar({**signed_files, POM: b"#c\na=1\n"}, manifest=signed_manifest),
        "signed, another block": jar(
            {**signed_files, "META-INF/ME.RSA": b"x"}, manifest=signed_manifest
        ),
        "signature files alone": jar(signed_files, manifest=plain),
        "digests alone": jar(files, manifest=signed_manifest),
        "another manifest": jar(files, manifest=stamped),
        "folded": jar(files, manifest=plain.replace(b"a.Main", b"a\r\n .Main")),
        "no reading": jar(files, manifest=plain.replace(b"\r\n\r\n", b"\r\nX")),
        "no manifest": jar(files, manifest=None),
        "odd git file": jar({**files, "git.json": b"{"}, manifest=plain),
        "git file": jar({**files, "git.json": b"{}"}, manifest=plain),
    }


@pytest.mark.parametrize("one", variants())
@pytest.mark.parametrize("other", variants())
def test_level_is_that_of_the_most_important_difference(one: str, other: str) -> None:
    found = explain(variants()[one], variants()[other])
    assert max((d.level for d in found.differences), default=0) == found.level
    assert (found.level == 0) == (one == other)
    nested = explain(jar({"n.jar": variants()[one]}), jar({"n.jar": variants()[other]}))
    assert nested.level == found.level
    assert max((d.level for d in nested.differences), default=0) == nested.level


def test_signature_that_holds_on_one_side_alone_is_named() -> None:
    family = variants()
    found = explain(family["signed"], family["signed, another manifest"])
    assert found.level == 3
    assert ("META-INF/ME.SF", "signature", "of this jar", "not of this jar") in {
        (d.path, d.attribute, d.built, d.published) for d in found.differences
    }
    found = explain(family["signed"], family["signed, another entry"])
    assert (MANIFEST, f"digests of {POM}", "true", "false") in {
        (d.path, d.attribute, d.built, d.published) for d in found.differences
    }


def test_words_are_sought_for_a_bounded_number_of_bytes() -> None:
    text = (b"x" * 999 + b"\n") * 350
    files = {f"f{number:03}": text for number in range(30)}
    found = explain(jar(files), jar({name: b"0\n" + data for name, data in files.items()}))
    attributes = [d.attribute for d in found.differences]
    assert attributes[0] == "lines from 1"
    assert attributes[-1] == "content"
    assert len(attributes) == 30
