"""From a published wheel's marks to recipes, and which of them are worth trying."""

from __future__ import annotations

import zipfile

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.sdist import SourceTree
from buildpipelines.extract.wheel import read_wheel
from buildpipelines.recipes.pypi import (
    LEGACY,
    Attempt,
    Marks,
    Recipe,
    back_end,
    is_worth_trying,
    parse_recipe_fields,
    plan,
    read_marks,
)
from buildpipelines.spec.messages import RecipeValue
from tests.hostile.sdists import wheel

TREE = SourceTree(top="pkg-1.0", newest_mtime=1_700_000_000)
EPOCH_2020 = 1_577_836_800


def marks_of(generator: str) -> Marks:
    data = wheel({"pkg/__init__.py": b""}, generator=generator)
    return read_marks(read_wheel("pkg-1.0-py3-none-any.whl", data, ArchiveLimits()))


@pytest.mark.parametrize(
    ("generator", "pin"),
    [
        ("setuptools (75.6.0)", "setuptools==75.6.0"),
        ("bdist_wheel (0.45.1)", "wheel==0.45.1"),
        ("flit 3.12.0", "flit-core==3.12.0"),
        ("hatchling 1.27.0", "hatchling==1.27.0"),
        ("poetry-core 2.1.3", "poetry-core==2.1.3"),
        ("pdm-backend (2.4.3)", "pdm-backend==2.4.3"),
        ("maturin (1.9.0)", "maturin==1.9.0"),
        ("uv 0.8.1", "uv-build==0.8.1"),
    ],
)
def test_generator_line_names_the_back_end_to_pin(generator: str, pin: str) -> None:
    assert marks_of(generator).pins == (pin,)


@pytest.mark.parametrize("generator", ["auditwheel 6.1", "hatchling", "; rm -rf / 1", "flit x"])
def test_generator_that_is_no_back_end_pins_nothing(generator: str) -> None:
    assert marks_of(generator).pins == ()


def test_umask_is_read_from_sources_and_not_from_what_tools_write() -> None:
    def record_by_tool(info: zipfile.ZipInfo) -> None:
        if info.filename.endswith("RECORD"):
            info.external_attr = 0o100664 << 16

    def all_by_umask(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o100664 << 16

    for edit, expected in ((record_by_tool, False), (all_by_umask, True)):
        data = wheel({"pkg/__init__.py": b""}, edit=edit)
        found = read_marks(read_wheel("pkg-1.0-py3-none-any.whl", data, ArchiveLimits()))
        assert found.is_group_writable is expected


def test_one_time_in_all_entries_means_that_the_epoch_was_set() -> None:
    recipes = plan(marks_of("flit 3.12.0"), TREE, cutoff="none")
    assert [(r.epoch, r.constraints) for r in recipes] == [
        (EPOCH_2020, ("flit-core==3.12.0",)),
        (None, ("flit-core==3.12.0",)),
        (EPOCH_2020, ()),
        (None, ()),
    ]
    assert {r.clock for r in recipes} == {EPOCH_2020}


def test_several_times_mean_that_sources_kept_theirs_and_the_rest_has_that_of_the_run() -> None:
    def touch(info: zipfile.ZipInfo) -> None:
        hour = 5 if ".dist-info/" in info.filename else 4
        info.date_time = (2021, 2, 3, hour, 0, 0)

    data = wheel({"pkg/__init__.py": b""}, edit=touch)
    marks = read_marks(read_wheel("pkg-1.0-py3-none-any.whl", data, ArchiveLimits()))
    written = 1_612_328_400
    assert marks.written == written
    recipes = plan(marks, TREE, cutoff="none")
    assert [(r.epoch, r.clock) for r in recipes] == [(None, written), (written, written)]


def test_umask_of_the_marks_is_that_of_the_recipe() -> None:
    for is_writable, umask in ((True, 0o002), (False, 0o022)):
        marks = Marks("p-1.whl", (), (EPOCH_2020,), EPOCH_2020, is_group_writable=is_writable)
        assert {r.umask for r in plan(marks, TREE, cutoff="none")} == {umask}


def test_release_without_wheels_is_built_at_the_time_of_its_source() -> None:
    [recipe] = plan(None, TREE, cutoff="none")
    assert (recipe.epoch, recipe.clock) == (1_700_000_000, 1_700_000_000)
    assert (recipe.constraints, recipe.reference) == ((), "none")


def recipe(epoch: int | None, *pins: str) -> Recipe:
    return Recipe(epoch, EPOCH_2020, pins, 0o022, "none", "none")


def built(tried: Recipe, level: int | None) -> Attempt:
    return Attempt(tried, is_built=True, level=level)


def failed(tried: Recipe) -> Attempt:
    return Attempt(tried, is_built=False, level=None)


SET, UNSET, OTHER = recipe(EPOCH_2020, "a==1"), recipe(None, "a==1"), recipe(EPOCH_2020)


@pytest.mark.parametrize(
    ("next_recipe", "attempts"),
    [
        (SET, []),
        (UNSET, [built(SET, 1)]),
        (OTHER, [built(SET, 3)]),
        (OTHER, [failed(SET)]),
    ],
)
def test_recipe_that_can_be_better_is_tried(next_recipe: Recipe, attempts: list[Attempt]) -> None:
    assert is_worth_trying(next_recipe, attempts)


@pytest.mark.parametrize(
    ("next_recipe", "attempts"),
    [
        (UNSET, [built(SET, 0)]),
        (SET, [built(UNSET, 0)]),
        (UNSET, [built(SET, None)]),
        (SET, [built(UNSET, None)]),
        (OTHER, [built(SET, 1)]),
        (UNSET, [failed(SET)]),
    ],
)
def test_recipe_that_cannot_be_better_is_not_tried(
    next_recipe: Recipe, attempts: list[Attempt]
) -> None:
    assert not is_worth_trying(next_recipe, attempts)


def test_recipe_fields_round_trip() -> None:
    for sent in (
        SET,
        UNSET,
        Recipe(None, EPOCH_2020, (), 0o002, "2024-01-01T00:00:00Z", "a-1.whl"),
    ):
        assert parse_recipe_fields(sent.fields()) == sent


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1},
        {"epoch": True},
        {"epoch": "never"},
        {"epoch": 2**33},
        {"clock": "unset"},
        {"clock": 0},
        {"umask": "000"},
        {"constraints": ("a>=1",)},
        {"constraints": ("a @ https://evil.example/a.whl",)},
        {"constraints": ("--index-url=https://evil.example/",)},
        {"constraints": "a==1"},
        {"cutoff": 1},
        {"more": "x"},
    ],
)
def test_recipe_with_an_odd_field_is_refused(change: dict[str, RecipeValue]) -> None:
    with pytest.raises(FormatError):
        parse_recipe_fields(SET.fields() | change)


def tree_with(pyproject: str) -> SourceTree:
    return SourceTree(top="pkg-1.0", kept={"pyproject.toml": pyproject.encode()})


def test_tree_that_declares_nothing_is_built_by_setuptools() -> None:
    assert back_end(SourceTree()) == LEGACY
    assert back_end(tree_with("[project]\nname='x'")) == LEGACY


def test_declared_back_end_is_read() -> None:
    text = "[build-system]\nrequires=['a>=1']\nbuild-backend='a.b:c'\nbackend-path=['src']"
    found = back_end(tree_with(text))
    assert (found.requires, found.name, found.path) == (("a>=1",), "a.b:c", ("src",))


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "build-system = 1",
        "[build-system]\nrequires='a'",
        "[build-system]\nrequires=['--index-url=https://evil.example']",
        "[build-system]\nrequires=['a @ https://evil.example/a.whl']",
        "[build-system]\nrequires=[]\nbuild-backend='os;x'",
        "[build-system]\nrequires=[]\nbackend-path=['../x']",
        "[build-system]\nrequires=[]\nbackend-path=['/x']",
        "a=" + "[" * 5000,
        "# " + "x" * 300_000,
    ],
)
def test_declaration_out_of_form_is_refused(text: str) -> None:
    with pytest.raises(BuildFailure) as caught:
        back_end(tree_with(text))
    assert caught.value.cause == "pyproject.toml"
