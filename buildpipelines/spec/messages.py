"""Messages of the build link, both directions, as values. Pure; wire shape: docs/spec/links.md.

The node's core makes parameters and reads answers, the build worker does the reverse, both with
these classes: ``document()`` writes, ``parse_…`` reads and raises only :class:`FormatError`.
Framing is another module (``framing``); roots and attestations are the node's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast, get_args

from buildpipelines.errors import CAUSE_CHARACTERS_MAX, OUTCOMES, FormatError, Outcome
from buildpipelines.spec import fields
from buildpipelines.spec.lock import FILE_BYTES_MAX, FILE_NAME, Lock, parse_lock
from buildpipelines.spec.metadata import Metadata, parse_metadata

SECONDS_MAX: Final = 6 * 3600
PATH_CHARACTERS_MAX: Final = 4096
PURL_CHARACTERS_MAX: Final = 512
RECIPE_KEYS_MAX: Final = 32
RECIPE_TEXT_MAX: Final = 256
DIFFERENCES_MAX: Final = 64
DIFFERENCE_CHARACTERS_MAX: Final = 320
OUTPUT_FILES_MAX: Final = 160
"""Files of one result: an image may have 128 layers beside its manifest and config."""

SOURCE_KINDS: Final = ("sdist", "context", "tree", "archive", "mapping")
"""What a build starts from.

A source distribution; the context of an image's build, a tar with a Dockerfile; the tree of a git
commit as our own tar; an archive as it was fetched; what an external pipeline was asked.
"""

LOG_TAIL_CHARACTERS: Final = 4000

JobState = Literal["queued", "running", "done", "failed"]
Claim = Literal["rebuilt", "mirrored", "external"]
RecipeValue = str | int | bool | tuple[str, ...]
"""What a recipe field may hold: text, integer, boolean or a list of texts."""

_JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_ECOSYSTEM = re.compile(r"[a-z]{1,16}\Z")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
_MAVEN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:-]{0,127}(/[a-z0-9]+([._-]+[a-z0-9]+)*){1,16}\Z")
_IMAGE_VERSION = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,127}\Z")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_PURL = re.compile(r"pkg:[a-z]{1,16}/[!-~]{1,400}\Z")
_MEDIA = re.compile(r"[a-z0-9][a-z0-9.+/-]{0,126}\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """The source archive that a build starts from."""

    kind: str
    file: str
    sha256: str
    size: int

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {"kind": self.kind, "file": self.file, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True)
class TrialParams:
    """Ask for a recording run of one package version.

    For images ``name`` is HOST/REPOSITORY, ``version`` a tag or digest, and ``options`` say what no
    published image tells: ``context`` (an image reference by digest), ``dockerfile``, ``target``
    and ``args``. For Maven ``name`` is GROUP:ARTIFACT, and ``options`` are ``source``
    (``git+https://…`` or an archive's ``https://…``), ``tag`` or ``commit``, and recipe fields.
    """

    job: str
    ecosystem: str
    name: str
    version: str
    seconds_max: int
    options: Mapping[str, RecipeValue] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the parameters of method ``trial``."""
        document: dict[str, object] = {
            "job": self.job,
            "ecosystem": self.ecosystem,
            "name": self.name,
            "version": self.version,
            "seconds_max": self.seconds_max,
        }
        if self.options:
            document["options"] = recipe_document(self.options)
        return document


@dataclass(frozen=True, slots=True)
class RebuildParams:
    """Ask for a replay run. ``tamper`` is a fault for development networks: it spoils the build."""

    job: str
    purl: str
    source: Source
    lock: Lock
    recipe: Mapping[str, RecipeValue]
    toolchain: str
    seconds_max: int
    tamper: str | None = None

    def document(self) -> dict[str, object]:
        """Return the parameters of method ``rebuild``."""
        document: dict[str, object] = {
            "job": self.job,
            "purl": self.purl,
            "source": self.source.document(),
            "lock": self.lock.document(),
            "recipe": recipe_document(self.recipe),
            "toolchain": self.toolchain,
            "seconds_max": self.seconds_max,
        }
        if self.tamper is not None:
            document["tamper"] = self.tamper
        return document


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file of a result. ``l1`` and ``l2`` are digests of its normal forms (LOG levels).

    ``level`` compares it with the upstream's file of the same name (3: they differ); the three
    ``upstream`` and ``level`` fields are absent where the upstream has no file of that name.
    """

    name: str
    path: str
    size: int
    sha256: str
    l1: str
    l2: str
    media: str
    claim: Claim
    upstream_sha256: str | None = None
    upstream_path: str | None = None
    level: int | None = None
    differences: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        document: dict[str, object] = {
            "name": self.name,
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256,
            "l1": self.l1,
            "l2": self.l2,
            "media": self.media,
            "claim": self.claim,
            "differences": list(self.differences),
        }
        if self.level is not None:
            document["level"] = self.level
        if self.upstream_sha256 is not None:
            document["upstream_sha256"] = self.upstream_sha256
        if self.upstream_path is not None:
            document["upstream_path"] = self.upstream_path
        return document


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a finished job hands to the core, which computes roots and the attestation from it."""

    purl: str
    source: Source
    pipeline: Mapping[str, object]
    toolchain: str
    lock: Lock
    recipe: Mapping[str, RecipeValue]
    metadata: Metadata
    files: tuple[OutputFile, ...]
    environment: Mapping[str, str | int]
    seconds: float
    log_path: str
    explanation_path: str = ""
    """The comparison as a document (docs/design/maven.md), in a file; "" where there is none."""

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "purl": self.purl,
            "source": self.source.document(),
            "pipeline": dict(self.pipeline),
            "toolchain": self.toolchain,
            "lock": self.lock.document(),
            "recipe": recipe_document(self.recipe),
            "metadata": self.metadata.document(),
            "files": [f.document() for f in self.files],
            "environment": dict(self.environment),
            "seconds": self.seconds,
            "log_path": self.log_path,
            **({"explanation_path": self.explanation_path} if self.explanation_path else {}),
        }


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job has no result: what an attestation says, and a text for people."""

    outcome: Outcome
    cause: str
    detail: str

    def document(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {"outcome": self.outcome, "cause": self.cause, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands; ``result`` holds a result when done, a failure when failed."""

    job: str
    state: JobState
    stage: str
    detail: str
    log_tail: str = field(repr=False)
    result: BuildResult | JobFailure | None = None

    def document(self) -> dict[str, object]:
        """Return the answer of method ``job``."""
        document: dict[str, object] = {
            "job": self.job,
            "state": self.state,
            "stage": self.stage,
            "detail": self.detail,
            "log_tail": self.log_tail,
        }
        if self.result is not None:
            document["result"] = self.result.document()
        return document


def recipe_document(recipe: Mapping[str, RecipeValue]) -> dict[str, object]:
    """Return recipe fields as a JSON object."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in recipe.items()}


def parse_recipe(value: Mapping[str, object]) -> dict[str, RecipeValue]:
    """Read recipe fields; which keys mean something is the recipe's own business.

    Raises:
        FormatError: too many fields, a key or value out of form.
    """
    if len(value) > RECIPE_KEYS_MAX:
        raise FormatError(f"a recipe has {len(value)} fields; {RECIPE_KEYS_MAX} at most")
    recipe: dict[str, RecipeValue] = {}
    for key, item in value.items():
        if not _KEY.match(key):
            raise FormatError(f"recipe field {key!r:.80} is not a lower-case name")
        if isinstance(item, str):
            recipe[key] = fields.text(value, key, characters_max=RECIPE_TEXT_MAX)
        elif isinstance(item, bool):
            recipe[key] = item
        elif isinstance(item, int):
            recipe[key] = fields.integer(value, key, low=-(2**53) + 1, high=2**53 - 1)
        else:
            recipe[key] = fields.texts(value, key, count_max=32, characters_max=RECIPE_TEXT_MAX)
    return recipe


def parse_job(params: Mapping[str, object]) -> str:
    """Read the parameters of ``job``, ``cancel`` and ``forget``; raises FormatError."""
    fields.exactly(params, {"job"})
    return fields.matching(params, "job", _JOB)


def parse_source(value: Mapping[str, object]) -> Source:
    """Read a source; raises FormatError."""
    fields.exactly(value, {"kind", "file", "sha256", "size"})
    kind = next((known for known in SOURCE_KINDS if known == value["kind"]), None)
    if kind is None:
        raise FormatError(f"source kind is none of {', '.join(SOURCE_KINDS)}")
    return Source(
        kind=kind,
        file=fields.matching(value, "file", FILE_NAME),
        sha256=fields.sha256(value, "sha256"),
        size=fields.integer(value, "size", low=1, high=FILE_BYTES_MAX),
    )


def parse_trial(params: Mapping[str, object]) -> TrialParams:
    """Read the parameters of ``trial``; raises FormatError."""
    required = {"job", "ecosystem", "name", "version", "seconds_max"}
    fields.exactly(params, required, frozenset({"options"}))
    ecosystem = fields.matching(params, "ecosystem", _ECOSYSTEM)
    is_image = ecosystem == "docker"
    names = {"docker": _IMAGE, "maven": _MAVEN}
    return TrialParams(
        job=fields.matching(params, "job", _JOB),
        ecosystem=ecosystem,
        name=fields.matching(params, "name", names.get(ecosystem, _NAME)),
        version=fields.matching(params, "version", _IMAGE_VERSION if is_image else _VERSION),
        seconds_max=fields.integer(params, "seconds_max", low=1, high=SECONDS_MAX),
        options=parse_recipe(fields.obj(params, "options")) if "options" in params else {},
    )


def parse_rebuild(params: Mapping[str, object]) -> RebuildParams:
    """Read the parameters of ``rebuild``; raises FormatError."""
    fields.exactly(
        params,
        {"job", "purl", "source", "lock", "recipe", "toolchain", "seconds_max"},
        frozenset({"tamper"}),
    )
    return RebuildParams(
        job=fields.matching(params, "job", _JOB),
        purl=fields.matching(params, "purl", _PURL),
        source=parse_source(fields.obj(params, "source")),
        lock=parse_lock(fields.obj(params, "lock")),
        recipe=parse_recipe(fields.obj(params, "recipe")),
        toolchain=fields.sha256(params, "toolchain"),
        seconds_max=fields.integer(params, "seconds_max", low=1, high=SECONDS_MAX),
        tamper=fields.text(params, "tamper", characters_max=256) if "tamper" in params else None,
    )


def parse_status(value: Mapping[str, object]) -> JobStatus:
    """Read the answer of ``job``; raises FormatError."""
    fields.exactly(value, {"job", "state", "stage", "detail", "log_tail"}, frozenset({"result"}))
    state = value["state"]
    if state not in get_args(JobState):
        raise FormatError(f"job state {state!r:.40} is unknown")
    result: BuildResult | JobFailure | None = None
    if state == "done":
        result = parse_result(fields.obj(value, "result"))
    elif state == "failed":
        result = parse_failure(fields.obj(value, "result"))
    elif "result" in value:
        raise FormatError("a job that has not ended has no result")
    return JobStatus(
        job=fields.matching(value, "job", _JOB),
        state=cast("JobState", state),
        stage=fields.text(value, "stage", characters_max=64),
        detail=fields.text(value, "detail", characters_max=1000),
        log_tail=fields.text(value, "log_tail", characters_max=LOG_TAIL_CHARACTERS),
        result=result,
    )


def parse_failure(value: Mapping[str, object]) -> JobFailure:
    """Read a failure; raises FormatError."""
    fields.exactly(value, {"outcome", "cause", "detail"})
    outcome = next((known for known in OUTCOMES if known == value["outcome"]), None)
    if outcome is None:
        raise FormatError(f"outcome {value['outcome']!r:.40} is unknown")
    cause = fields.text(value, "cause", characters_max=CAUSE_CHARACTERS_MAX)
    if not cause.isascii():
        raise FormatError("cause is not ASCII")
    return JobFailure(
        outcome=outcome,
        cause=cause,
        detail=fields.text(value, "detail", characters_max=4000),
    )


def parse_result(value: Mapping[str, object]) -> BuildResult:
    """Read a result; raises FormatError."""
    fields.exactly(
        value,
        {"purl", "source", "pipeline", "toolchain", "lock", "recipe", "metadata", "files"}
        | {"environment", "seconds", "log_path"},
        frozenset({"explanation_path"}),
    )
    files = fields.objects(value, "files", count_max=OUTPUT_FILES_MAX)
    return BuildResult(
        purl=fields.matching(value, "purl", _PURL),
        source=parse_source(fields.obj(value, "source")),
        pipeline=parse_pipeline(fields.obj(value, "pipeline")),
        toolchain=fields.sha256(value, "toolchain"),
        lock=parse_lock(fields.obj(value, "lock")),
        recipe=parse_recipe(fields.obj(value, "recipe")),
        metadata=parse_metadata(fields.obj(value, "metadata")),
        files=tuple(_parse_output(item) for item in files),
        environment=_parse_environment(fields.obj(value, "environment")),
        seconds=fields.number(value, "seconds", high=10 * SECONDS_MAX),
        log_path=fields.text(value, "log_path", characters_max=PATH_CHARACTERS_MAX),
        explanation_path=fields.text(value, "explanation_path", characters_max=PATH_CHARACTERS_MAX)
        if "explanation_path" in value
        else "",
    )


def parse_pipeline(value: Mapping[str, object]) -> dict[str, object]:
    """Read which pipeline (id, version, digest of its rules) built; raises FormatError."""
    fields.exactly(value, {"id", "version", "digest"})
    return {
        "id": fields.matching(value, "id", _ECOSYSTEM),
        "version": fields.integer(value, "version", low=1, high=10**6),
        "digest": fields.sha256(value, "digest"),
    }


def _parse_output(item: Mapping[str, object]) -> OutputFile:
    optional = frozenset({"upstream_sha256", "upstream_path", "level"})
    required = {"name", "path", "size", "sha256", "l1", "l2", "media", "claim", "differences"}
    fields.exactly(item, required, optional)
    if item["claim"] not in get_args(Claim):
        raise FormatError(f"claim {item['claim']!r:.40} is unknown")
    has_level, has_sha256 = "level" in item, "upstream_sha256" in item
    if has_level != has_sha256:
        raise FormatError("a file has either both level and upstream_sha256 or neither")
    return OutputFile(
        name=fields.matching(item, "name", FILE_NAME),
        path=fields.text(item, "path", characters_max=PATH_CHARACTERS_MAX),
        size=fields.integer(item, "size", low=0, high=FILE_BYTES_MAX),
        sha256=fields.sha256(item, "sha256"),
        l1=fields.sha256(item, "l1"),
        l2=fields.sha256(item, "l2"),
        media=fields.matching(item, "media", _MEDIA),
        claim=cast("Claim", item["claim"]),
        upstream_sha256=fields.sha256(item, "upstream_sha256") if has_sha256 else None,
        upstream_path=fields.text(item, "upstream_path", characters_max=PATH_CHARACTERS_MAX)
        if "upstream_path" in item
        else None,
        level=fields.integer(item, "level", low=0, high=3) if has_level else None,
        differences=fields.texts(
            item,
            "differences",
            count_max=DIFFERENCES_MAX,
            characters_max=DIFFERENCE_CHARACTERS_MAX,
        ),
    )


def _parse_environment(value: Mapping[str, object]) -> dict[str, str | int]:
    if len(value) > RECIPE_KEYS_MAX:
        raise FormatError(f"an environment has {len(value)} fields; {RECIPE_KEYS_MAX} at most")
    found: dict[str, str | int] = {}
    for key, item in value.items():
        if not _KEY.match(key):
            raise FormatError(f"environment field {key!r:.80} is not a lower-case name")
        if isinstance(item, str):
            found[key] = fields.text(value, key, characters_max=256)
        else:
            found[key] = fields.integer(value, key, low=0, high=2**53 - 1)
    return found
