"""From a PyPI release to recipes worth trying, and from a recipe to the sandbox's job. Pure.

A published wheel carries marks of how it was made: the tool in ``WHEEL``'s Generator line, the
times and modes of its entries. They tell which back end version to pin, whether
SOURCE_DATE_EPOCH was set, and the umask. A recipe holds what was found; with the lock and the
toolchain it determines the build, so every member replays it and none guesses again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.extract.sdist import SourceTree, dos_seconds
from buildpipelines.extract.wheel import Wheel
from buildpipelines.spec.messages import RecipeValue

VERSION: Final = 1
"""Raised with every change of what a recipe means; a part of the pipeline's digest."""

ATTEMPTS_MAX: Final = 4
PYPROJECT_BYTES_MAX: Final = 256 * 1024
REQUIRES_MAX: Final = 64
EPOCH_MIN: Final = 315_532_800
"""1980-01-01, the first time that a zip entry can hold."""

EPOCH_MAX: Final = 4_354_819_200
"""2108-01-01: no zip entry can hold this time or a later one."""

UNSET: Final = "unset"
NONE: Final = "none"

_GENERATOR = re.compile(r"generator:\s*([A-Za-z0-9._-]{1,64})\s+\(?v?([0-9][A-Za-z0-9.+!-]{0,63})")
_BACK_ENDS: Final = {
    "bdist-wheel": "wheel",
    "flit": "flit-core",
    "hatchling": "hatchling",
    "maturin": "maturin",
    "meson": "meson-python",
    "pdm-backend": "pdm-backend",
    "pdm-pep517": "pdm-pep517",
    "poetry": "poetry-core",
    "poetry-core": "poetry-core",
    "scikit-build-core": "scikit-build-core",
    "setuptools": "setuptools",
    "uv": "uv-build",
    "whey": "whey",
}
"""Which project to pin for each name that a Generator line may carry."""

_UNIX = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """The fields that determine a build besides lock, source and toolchain.

    ``epoch`` is SOURCE_DATE_EPOCH in seconds, None to leave it unset; ``clock`` the time that
    archive entries carry which would otherwise carry the current one. ``cutoff`` is the time
    after which an input must not have been uploaded, or "none"; ``reference`` the published
    wheel that the marks came from, or "none".
    """

    epoch: int | None
    clock: int
    constraints: tuple[str, ...]
    umask: int
    cutoff: str
    reference: str

    def fields(self) -> dict[str, RecipeValue]:
        """Return the fields as a build request carries them."""
        return {
            "epoch": UNSET if self.epoch is None else self.epoch,
            "clock": self.clock,
            "constraints": self.constraints,
            "umask": f"{self.umask:03o}",
            "cutoff": self.cutoff,
            "reference": self.reference,
        }

    def title(self) -> str:
        """Return the recipe in a few words, for progress lines."""
        pins = " ".join(self.constraints) or "nothing pinned"
        return f"{pins}, epoch {UNSET if self.epoch is None else self.epoch}"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a published wheel tells about its making.

    ``times`` are the times of all its files, ``written`` that of most files in its .dist-info
    folder, which the back end wrote itself; both in seconds.
    """

    file: str
    pins: tuple[str, ...]
    times: tuple[int, ...]
    written: int
    is_group_writable: bool


@dataclass(frozen=True, slots=True)
class BackEnd:
    """The back end of a source tree (PEP 517, 518)."""

    requires: tuple[str, ...]
    name: str
    path: tuple[str, ...]


LEGACY: Final = BackEnd(("setuptools>=40.8.0",), "setuptools.build_meta:__legacy__", ())
"""What PEP 517 prescribes for a tree that declares nothing."""


def parse_recipe_fields(fields: Mapping[str, RecipeValue]) -> Recipe:
    """Read recipe fields strictly.

    Raises:
        FormatError: a field is missing, unknown or out of form.
    """
    known = {"epoch", "clock", "constraints", "umask", "cutoff", "reference"}
    if fields.keys() != known:
        raise FormatError(f"a pypi recipe has the fields {', '.join(sorted(known))}")
    epoch, constraints, umask = fields["epoch"], fields["constraints"], fields["umask"]
    cutoff, reference = fields["cutoff"], fields["reference"]
    clock = fields["clock"]
    if epoch != UNSET and not _is_time(epoch):
        raise FormatError(f"recipe field epoch {epoch!r} is neither 'unset' nor a time after 1980")
    if not _is_time(clock):
        raise FormatError(f"recipe field clock {clock!r} is no time after 1980")
    if not isinstance(constraints, tuple) or not all(_is_pin(line) for line in constraints):
        raise FormatError("recipe field constraints is not a list of pins like name==1.0")
    if umask not in ("022", "002"):
        raise FormatError(f"recipe field umask {umask!r} is neither '022' nor '002'")
    if not isinstance(cutoff, str) or not isinstance(reference, str):
        raise FormatError("recipe fields cutoff and reference are texts")
    return Recipe(
        epoch=epoch if isinstance(epoch, int) else None,
        clock=clock,
        constraints=constraints,
        umask=int(str(umask), 8),
        cutoff=cutoff,
        reference=reference,
    )


def _is_time(value: RecipeValue) -> TypeGuard[int]:
    return type(value) is int and EPOCH_MIN <= value < EPOCH_MAX


def _is_pin(line: str) -> bool:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    specifiers = list(requirement.specifier)
    is_exact = len(specifiers) == 1 and specifiers[0].operator == "=="
    return is_exact and not (requirement.url or requirement.extras or requirement.marker)


def read_marks(wheel: Wheel) -> Marks:
    """Return the marks of a published wheel."""
    entries = [e for e in wheel.archive.entries if not e.is_dir]
    text = wheel.small_file("WHEEL").decode("utf-8", "replace")
    pins = []
    for line in text.splitlines():
        match = _GENERATOR.match(line.lower())
        if match and (pin := _pin(match[1], match[2])) and pin not in pins:
            pins.append(pin)
    own = [dos_seconds(e.time) for e in entries if e.path[0] == wheel.dist_info]
    # Usually all of one second; where the back end was slow, what most files say.
    written = max(own, key=lambda time: (own.count(time), time))
    return Marks(
        file=wheel.file_name,
        pins=tuple(pins),
        times=tuple(dos_seconds(e.time) for e in entries),
        written=max(written, EPOCH_MIN),
        # The tools write their own folder with modes of their own; only sources show the umask.
        is_group_writable=any(
            e.system == _UNIX and e.attributes & 0o020 and e.path[0] != wheel.dist_info
            for e in entries
        ),
    )


def _pin(generator: str, version: str) -> str | None:
    project = _BACK_ENDS.get(canonicalize_name(generator))
    try:
        return f"{project}=={Version(version)}" if project else None
    except InvalidVersion:
        return None


def plan(marks: Marks | None, tree: SourceTree, *, cutoff: str) -> list[Recipe]:
    """Return the recipes to try, the most promising first, at most ``ATTEMPTS_MAX``.

    A wheel whose files all carry one time was written with a fixed time: SOURCE_DATE_EPOCH, or
    the back end's own constant, which the same value gives. Other wheels kept the times of their
    sources, which the sdist kept too: there SOURCE_DATE_EPOCH must stay unset, and what the back
    end wrote itself carries the time of its run, which the clock repeats.
    """
    if marks is None:
        newest = min(max(tree.newest_mtime, EPOCH_MIN), EPOCH_MAX - 1)
        return [Recipe(newest, newest, (), 0o022, cutoff, NONE)]
    newest = max((*marks.times, EPOCH_MIN))
    times: list[tuple[int | None, int]] = [(newest, newest), (None, marks.written)]
    if len(set(marks.times)) > 1:
        times.reverse()
    umask = 0o002 if marks.is_group_writable else 0o022
    pinnings = [marks.pins, ()] if marks.pins else [()]
    recipes = [
        Recipe(epoch, clock, pins, umask, cutoff, marks.file)
        for pins in pinnings
        for epoch, clock in times
    ]
    return recipes[:ATTEMPTS_MAX]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a tried recipe reached; ``level`` is None where nothing published has its name."""

    recipe: Recipe
    is_built: bool
    level: int | None


def is_worth_trying(recipe: Recipe, attempts: Sequence[Attempt]) -> bool:
    """Tell whether another recipe can still beat what earlier ones reached."""
    built = [attempt for attempt in attempts if attempt.is_built]
    if any(attempt.level in (0, None) for attempt in built):
        return False
    # Where the tools could not build, another epoch does not help them.
    failed = {a.recipe.constraints for a in attempts if not a.is_built}
    if recipe.constraints in failed:
        return False
    # Equal but for times: other tools cannot help, another epoch can.
    nearly = {a.recipe.constraints for a in built if a.level == 1}
    return not nearly or recipe.constraints in nearly


def back_end(tree: SourceTree) -> BackEnd:
    """Return the back end that a source tree declares (PEP 518, 517).

    Raises:
        BuildFailure: pyproject.toml does not parse, or declares something out of form.
    """
    content = tree.kept.get("pyproject.toml")
    if content is None:
        return LEGACY
    if len(content) > PYPROJECT_BYTES_MAX:
        raise BuildFailure("BUILD_FAILED", "pyproject.toml", f"{len(content)} bytes")
    try:
        system = tomllib.loads(content.decode()).get("build-system")
    except (ValueError, RecursionError) as error:
        raise BuildFailure("BUILD_FAILED", "pyproject.toml", str(error)) from error
    if system is None:
        return LEGACY
    if not isinstance(system, dict):
        raise BuildFailure("BUILD_FAILED", "pyproject.toml", "build-system is no table")
    requires = _texts(system.get("requires", []), "requires")
    name = system.get("build-backend", LEGACY.name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?", name):
        raise BuildFailure("BUILD_FAILED", "pyproject.toml", "build-backend is no object name")
    return BackEnd(requires, name, _texts(system.get("backend-path", []), "backend-path"))


def _texts(value: object, key: str) -> tuple[str, ...]:
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not isinstance(value, list) or not is_list or len(value) > REQUIRES_MAX:
        raise BuildFailure("BUILD_FAILED", "pyproject.toml", f"{key} is no short list of texts")
    for item in value:
        # A requirement goes to pip's command line, a path to sys.path; neither may be odd.
        if key == "requires" and not _is_requirement(item):
            raise BuildFailure("BUILD_FAILED", "pyproject.toml", f"{item!r:.100}: not PEP 508")
        if key == "backend-path" and (item.startswith("/") or ".." in item.split("/")):
            raise BuildFailure("BUILD_FAILED", "pyproject.toml", f"{item!r:.100}: outside the tree")
    return tuple(value)


def _is_requirement(text: str) -> bool:
    try:
        return Requirement(text).url is None
    except InvalidRequirement:
        return False
