"""Recipes and poms: what is written is read again, and of anything else only our error escapes."""

from __future__ import annotations

import contextlib
import io
import zipfile

from hypothesis import example, given
from hypothesis import strategies as st

from buildpipelines.errors import ArchiveError, FormatError
from buildpipelines.extract.jar import read_jar
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive
from buildpipelines.recipes import maven
from buildpipelines.recipes.maven import Marks, Options, Origin
from buildpipelines.recipes.pom import extract_metadata, read_pom
from buildpipelines.recipes.xml import parse_xml
from buildpipelines.spec import maven_fields
from buildpipelines.spec.coordinates import parse_coordinates
from buildpipelines.spec.messages import RecipeValue, parse_recipe
from buildpipelines.spec.metadata import parse_metadata
from buildpipelines.worker.tamper import tamper_with_archive
from tests.hostile.jars import jar

HELLO = parse_coordinates("g:a", "1")
LIMITS = ArchiveLimits(entries_max=100, file_bytes_max=1 << 20, total_bytes_max=4 << 20)

epochs = st.integers(maven_fields.EPOCH_MIN, maven_fields.EPOCH_MAX)
newlines = st.sampled_from(["lf", "crlf"])
umasks = st.integers(0, 0o077)
words = st.from_regex(r"[a-z][a-z0-9.]{0,8}", fullmatch=True)
# Two dots, a dot at the end and ".lock" at the end are in no name of a tag.
tags_of_git = st.from_regex(r"[a-z][a-z0-9]{0,3}(\.[a-z0-9]{1,3}){0,2}", fullmatch=True)
marks = st.builds(
    Marks,
    jdk=st.none() | st.integers(1, 99),
    epoch=st.none() | epochs,
    newline=newlines | st.just(""),
    umask=st.none() | umasks,
)
options = st.builds(
    Options,
    source=st.just("git+https://git.example/a.git"),
    tag=tags_of_git,
    module=words | st.just(""),
    jdk=st.none() | st.integers(1, 99),
    goals=st.lists(words, min_size=1, max_size=3).map(tuple),
    profiles=st.lists(words, max_size=3).map(tuple),
    newline=st.none() | newlines,
    umask=st.none() | umasks,
    epoch=st.none() | epochs,
)
references = st.sampled_from([maven.NONE, "a-1.jar"])
values = st.text(max_size=8) | st.integers() | st.booleans() | st.lists(st.text(), max_size=3)


@given(marks, options, references, st.integers(1, 99), st.integers(-5, 2**33))
def test_every_member_comes_to_the_sponsors_plan(
    found: Marks, asked: Options, reference: str, jdk: int, time: int
) -> None:
    origin = Origin(asked.source, "0f" * 20, asked.tag, 0, time)
    plan = maven.plan(found, asked, origin, reference=reference, jdk=jdk, maven="3.8.7")
    assert len(plan) in (1, 2)
    for recipe in plan:
        carried = {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.fields().items()}
        assert maven.parse_recipe_fields(parse_recipe(carried)) == recipe
        again = maven.plan(
            found, recipe.options(), origin, reference=reference, jdk=recipe.jdk, maven="3.8.7"
        )
        assert recipe in again


@given(marks, options)
def test_marks_are_never_overruled(found: Marks, asked: Options) -> None:
    origin = Origin(asked.source, "0f" * 20, asked.tag, 0, 0)
    first = maven.plan(found, asked, origin, reference="a-1.jar", jdk=17, maven="3.8.7")[0]
    for name in ("jdk", "epoch", "newline", "umask"):
        mark = getattr(found, name)
        assert mark in (None, "") or getattr(first, name) == mark


@given(st.dictionaries(st.sampled_from([*maven.MavenRecipe.__slots__, "source", "x"]), values))
def test_of_malformed_fields_only_our_error_escapes(given_fields: dict[str, RecipeValue]) -> None:
    for read in (maven.parse_options, maven.parse_recipe_fields):
        with contextlib.suppress(FormatError):
            read(given_fields)


@given(st.binary(max_size=200))
def test_of_a_broken_jar_only_our_error_escapes(noise: bytes) -> None:
    data = bytearray(jar({"META-INF/MANIFEST.MF": noise, "META-INF/LICENSE": noise, "a": b"x"}))
    with contextlib.suppress(ArchiveError):
        maven.read_marks(ZipArchive(bytes(data), LIMITS))
    for index, value in enumerate(noise):
        data[(index * 37) % len(data)] ^= value
    with contextlib.suppress(ArchiveError):
        maven.read_marks(ZipArchive(bytes(data), LIMITS))


tags = st.sampled_from(["project", "parent", "groupId", "version", "properties", "dependency", "p"])
texts = st.text("ab${}.&<>é\n \x07", max_size=8)
markup = st.recursive(
    texts.map(lambda t: t.replace("&", "&amp;").replace("<", "&lt;")),
    lambda inner: st.builds(
        lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", tags, st.lists(inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.binary(max_size=100) | markup.map(lambda text: f"<project>{text}</project>".encode()))
def test_of_any_pom_only_our_error_escapes(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        extract_metadata([read_pom(data)], HELLO)


@given(markup, st.lists(markup, max_size=2))
def test_metadata_of_any_pom_fits_the_log(text: str, parents: list[str]) -> None:
    name = "<groupId>g</groupId><artifactId>a</artifactId><version>1</version>"
    try:
        line = [read_pom(f"<project>{name}{each}</project>".encode()) for each in (text, *parents)]
    except FormatError:
        return  # a control character: no XML
    found = extract_metadata(line, HELLO)
    assert parse_metadata(found.document()) == found
    assert extract_metadata(line, HELLO) == found


prologs = st.lists(
    st.sampled_from(["<!DOCTYPE", " a", " [", "<!ENTITY b 'c'>", "]", ">", "<!-- d -->", "<?e?>"]),
    max_size=6,
).map("".join)


@given(prologs)
@example("")
@example("<!DOCTYPE a>")
@example("<!DOCTYPE a [<!ENTITY b 'c'>]>")
def test_no_document_type_gets_through(text: str) -> None:
    try:
        parse_xml(f"{text}<project/>".encode())
    except FormatError:
        assert text.strip()
    else:
        assert "<!DOCTYPE" not in text


@given(st.text(min_size=1, max_size=20), st.binary(min_size=1, max_size=50))
def test_spoilt_jar_is_well_formed_and_differs_in_its_largest_file_alone(
    text: str, content: bytes
) -> None:
    files = {"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\n\r\n", "a/B.class": content * 2}
    files["small"] = b""
    true = read_jar("a-1.jar", jar(files))
    spoilt = tamper_with_archive(true.archive, text)
    assert spoilt == tamper_with_archive(true.archive, text)
    with zipfile.ZipFile(io.BytesIO(spoilt)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert {n for n in files if found[n] != files[n]} == {"a/B.class"}
    assert read_jar("a-1.jar", spoilt).digests.keys() == true.digests.keys()
