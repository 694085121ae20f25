"""What a published jar tells stands above what is asked for; nothing out of form gets through."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive
from buildpipelines.recipes import maven
from buildpipelines.recipes.maven import Marks, Options, Origin
from buildpipelines.spec import maven_fields
from buildpipelines.spec.messages import RecipeValue

GIT = "git+https://git.example/codec.git"
COMMIT = "0f" * 20
ORIGIN = Origin(GIT, COMMIT, "rel/1.0", strip=0, time=1_700_000_000)
EPOCH_2020 = 1_577_934_244


def jar(
    files: Mapping[str, bytes],
    *,
    mode: int = 0o644,
    times: tuple[tuple[int, int, int, int, int, int], ...] = ((2020, 1, 2, 3, 4, 4),),
) -> ZipArchive:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, (name, content) in enumerate(files.items()):
            info = zipfile.ZipInfo(name, times[number % len(times)])
            info.external_attr = (0o100000 | mode) << 16
            info.create_system = 3
            archive.writestr(info, content)
    return ZipArchive(out.getvalue(), ArchiveLimits())


def manifest(*lines: str) -> dict[str, bytes]:
    text = "".join(f"{line}\r\n" for line in ("Manifest-Version: 1.0", *lines))
    return {"META-INF/MANIFEST.MF": text.encode() + b"\r\n"}


def plan(marks: Marks, options: Options, reference: str = "a-1.jar") -> tuple[object, ...]:
    return maven.plan(marks, options, ORIGIN, reference=reference, jdk=17, maven="3.8.7")


@pytest.mark.parametrize(
    ("line", "jdk"),
    [
        ("Build-Jdk-Spec: 17", 17),
        ("Build-Jdk-Spec: 1.8", 8),
        ("Build-Jdk: 11.0.2", 11),
        ("Build-Jdk: 1.7.0_80", 7),
        ("Created-By: 17.0.13 (Eclipse Adoptium)", 17),
        ("Created-By: 1.8.0_292 (Private Build)", 8),
        ("Created-By: Maven JAR Plugin 3.4.2", None),
        ("Created-By: Apache Maven 3.6.3", None),
        ("Bnd-LastModified: 17", None),
        ("Build-Jdk-Spec: seventeen", None),
    ],
)
def test_the_manifest_tells_the_jdk(line: str, jdk: int | None) -> None:
    assert maven.read_marks(jar(manifest(line))).jdk == jdk


def test_spec_outweighs_the_vendors_words() -> None:
    lines = manifest("Created-By: 21.0.1 (Debian)", "Build-Jdk-Spec: 17")
    assert maven.read_marks(jar(lines)).jdk == 17


def test_attributes_of_sections_are_no_main_attributes() -> None:
    text = b"Manifest-Version: 1.0\n\nName: a.class\nBuild-Jdk-Spec: 8\n\n"
    assert maven.read_marks(jar({"META-INF/MANIFEST.MF": text})).jdk is None


def test_folded_manifest_lines_are_one() -> None:
    assert maven.parse_main_attributes(b"Created-\r\n By: 17 (X)\r\n")["created-by"] == "17 (X)"


def test_newest_entry_tells_the_epoch() -> None:
    both = ((2020, 1, 2, 3, 4, 4), (2019, 1, 1, 0, 0, 0))
    assert maven.read_marks(jar({"a": b"", "b": b""}, times=both)).epoch == EPOCH_2020


def test_an_impossible_time_is_no_epoch() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a", (2020, 1, 2, 3, 4, 4)), b"")
    data = out.getvalue().replace(b"\x82\x18\x22\x50", b"\x82\x18\x00\x00")
    assert data != out.getvalue()
    assert maven.read_marks(ZipArchive(data, ArchiveLimits())).epoch is None


@pytest.mark.parametrize(
    ("texts", "newline"),
    [
        ((b"a\n",), "lf"),
        ((b"a\r\n",), "crlf"),
        ((b"a\n", b"a\r\n"), ""),
        ((b"a",), ""),
        ((), ""),
    ],
)
def test_texts_that_agree_tell_the_line_ends(texts: tuple[bytes, ...], newline: str) -> None:
    files = {f"META-INF/maven/g/a{n}/pom.xml": text for n, text in enumerate(texts)}
    assert maven.read_marks(jar(files | {"org/pom.xml": b"\r\n\n"})).newline == newline


@pytest.mark.parametrize(
    ("mode", "umask"), [(0o644, 0o022), (0o664, 0o002), (0o600, 0o077), (0o604, None)]
)
def test_modes_tell_the_umask(mode: int, umask: int | None) -> None:
    assert maven.read_marks(jar({"a": b"x"}, mode=mode)).umask == umask


def test_the_jar_stands_above_the_request() -> None:
    marks = Marks(jdk=8, epoch=EPOCH_2020, newline="crlf", umask=0o002)
    options = Options(GIT, tag="rel/1.0", jdk=17, newline="lf", umask=0o022, epoch=1_600_000_000)
    (only,) = maven.plan(marks, options, ORIGIN, reference="a-1.jar", jdk=11, maven="3.8.7")
    assert (only.jdk, only.epoch, only.newline, only.umask) == (8, EPOCH_2020, "crlf", 0o002)


def test_without_a_jar_the_recipe_names_what_was_chosen_for_everybody() -> None:
    (only,) = maven.plan(
        Marks(), Options(GIT, tag="rel/1.0"), ORIGIN, reference="none", jdk=17, maven="3.8.7"
    )
    assert only.fields() == {
        "source_url": GIT,
        "commit": COMMIT,
        "tag": "rel/1.0",
        "strip": 0,
        "module": "",
        "jdk": 17,
        "maven": "3.8.7",
        "goals": ("install",),
        "profiles": (),
        "properties": ("maven.test.skip=true",),
        "newline": "lf",
        "umask": 0o022,
        "timezone": "UTC",
        "locale": "C.UTF-8",
        "epoch": 1_700_000_000,
        "reference": "none",
    }


def test_other_line_ends_are_tried_only_where_a_jar_is_silent_about_them() -> None:
    assert len(plan(Marks(), Options(GIT, tag="t"))) == 2
    assert len(plan(Marks(newline="lf"), Options(GIT, tag="t"))) == 1
    assert len(plan(Marks(), Options(GIT, tag="t", newline="lf"))) == 1
    assert len(plan(Marks(), Options(GIT, tag="t"), reference="none")) == 1


def test_a_plan_comes_again_from_the_options_of_its_recipe() -> None:
    for marks in (Marks(), Marks(jdk=17, newline="crlf"), Marks(epoch=EPOCH_2020, umask=0o002)):
        recipes = maven.plan(
            marks, Options(GIT, tag="t"), ORIGIN, reference="a-1.jar", jdk=17, maven="3.8.7"
        )
        for recipe in recipes:
            assert recipe in plan(marks, recipe.options())


def test_a_time_before_zip_files_had_one_is_moved_to_their_first() -> None:
    origin = Origin(GIT, COMMIT, "t", strip=0, time=0)
    (only,) = maven.plan(Marks(), Options(GIT), origin, reference="none", jdk=17, maven="3.8.7")
    assert only.epoch == maven_fields.EPOCH_MIN


def test_recipes_survive_the_way_through_a_request() -> None:
    (only,) = maven.plan(
        Marks(), Options(GIT, tag="t"), ORIGIN, reference="none", jdk=17, maven="3.8.7"
    )
    assert maven.parse_recipe_fields(only.fields()) == only


def recipe(**changes: RecipeValue) -> dict[str, RecipeValue]:
    (only,) = maven.plan(
        Marks(), Options(GIT, tag="t"), ORIGIN, reference="none", jdk=17, maven="3.8.7"
    )
    return only.fields() | changes


HOSTILE: tuple[dict[str, RecipeValue], ...] = (
    {"source_url": "git+http://git.example/a"},
    {"source_url": "git+ssh://git.example/a"},
    {"source_url": "file:///etc/passwd"},
    {"source_url": "git+https://user:word@git.example/a"},
    {"commit": ""},
    {"commit": "HEAD"},
    {"tag": "--upload-pack=x"},
    {"tag": "a..b"},
    {"tag": "x.lock"},
    {"tag": "x.lock/y"},
    {"tag": "x/.y"},
    {"strip": 2},
    {"module": "../x"},
    {"module": "/etc"},
    {"module": "a//b"},
    {"module": "-am"},
    {"jdk": 0},
    {"jdk": True},
    {"maven": "latest"},
    {"goals": ()},
    {"goals": ("--settings=/x",)},
    {"goals": ("install -X",)},
    {"profiles": ("a,b",)},
    {"profiles": ("-X",)},
    {"properties": ("maven.repo.local=/x",)},
    {"properties": ("user.home=/x",)},
    {"properties": ("a=1", "a=2")},
    {"properties": ("a=\n",)},
    {"newline": "cr"},
    {"umask": 0o777},
    {"timezone": "../../etc/passwd"},
    {"timezone": ":/etc/x"},
    {"locale": "en_US"},
    {"epoch": 0},
    {"reference": "../a.jar"},
    {"more": 1},
)


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_fields_out_of_form_are_refused(change: dict[str, RecipeValue]) -> None:
    with pytest.raises(FormatError):
        maven.parse_recipe_fields(recipe(**change))


def test_options_leave_to_the_jar_what_they_do_not_say() -> None:
    found = maven.parse_options({"source": GIT, "tag": "rel/1.0"})
    assert found == Options(GIT, tag="rel/1.0")
    assert (found.jdk, found.epoch, found.newline, found.umask) == (None, None, None, None)


def test_tests_are_skipped_unless_the_options_say_how() -> None:
    given: dict[str, RecipeValue] = {"source": GIT, "tag": "t", "properties": ("rat.skip",)}
    assert maven.parse_options(given).properties == ("rat.skip", maven.SKIP_TESTS)
    given["properties"] = ("skipTests",)
    assert maven.parse_options(given).properties == ("skipTests",)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "source"),
        ({"source": GIT}, "tag or a commit"),
        ({"source": "https://x.example/a.tar.gz", "tag": "t"}, "git"),
        ({"source": GIT, "tag": "t", "branch": "main"}, "branch"),
        ({"source": GIT, "tag": "t", "jdk": "17"}, "jdk"),
        ({"source": GIT, "tag": "t", "goals": "install"}, "goals"),
    ],
)
def test_options_out_of_form_are_named(options: dict[str, RecipeValue], text: str) -> None:
    with pytest.raises(FormatError, match=text):
        maven.parse_options(options)


@pytest.mark.parametrize("change", [c for c in HOSTILE if next(iter(c)) != "source_url"], ids=str)
def test_what_no_recipe_takes_no_mapping_may_name(change: dict[str, RecipeValue]) -> None:
    name, value = next(iter(change.items()))
    if name in {"commit", "goals"} and not value:
        maven_fields.check_field(name, value)  # legal by itself: something else is missing then
        return
    with pytest.raises(FormatError, match=name):
        maven_fields.check_field(name, value)


def test_every_field_of_a_recipe_but_the_address_has_its_rule() -> None:
    for name, value in recipe().items():
        if name != "source_url":
            maven_fields.check_field(name, value)
