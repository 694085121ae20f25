"""The pipeline contract as values: what a pipeline is asked, and how a build stands. Pure.

The contract is the original Pyrsia's: ``PUT /build`` with a mapping, ``GET /build/{id}``,
``GET /build/{id}/artifacts/{file}``. Both ends of it use these classes; readers raise only
:class:`FormatError`. Transport is another module's (``contract_server``, ``contract_client``).
Specification: docs/spec/pipeline-contract.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, cast, get_args
from urllib.parse import unquote

from buildpipelines.errors import FormatError
from buildpipelines.spec import canonical, fields
from buildpipelines.spec.lock import FILE_NAME

BODY_BYTES_MAX: Final = 64 * 1024
"""Longest body of a ``PUT /build``, and of every answer that is no artifact."""

ARTIFACTS_MAX: Final = 128
FAILURE_CHARACTERS_MAX: Final = 4000
ADDRESS_CHARACTERS_MAX: Final = 1000
TAG_CHARACTERS_MAX: Final = 256
SPECIFIC_ID_CHARACTERS_MAX: Final = 400

PackageType = Literal["Docker", "Maven2"]

RUNNING: Final = "Running"

_BUILD_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_INTEGER_CHARACTERS_MAX: Final = 17


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository and the tag to build from, as the contract writes them."""

    url: str
    tag: str


@dataclass(frozen=True, slots=True)
class MappingInfo:
    """What a pipeline is asked to build: the body of ``PUT /build``.

    ``package_specific_id`` is ``group:artifact:version`` of Maven2, a reference of Docker.
    """

    package_type: PackageType
    package_specific_id: str
    source_repository: GitSource | None = None
    build_spec_url: str | None = None

    def document(self) -> dict[str, object]:
        """Return it as a JSON object; what there is not is left out, which means null."""
        document: dict[str, object] = {
            "package_type": self.package_type,
            "package_specific_id": self.package_specific_id,
        }
        if self.source_repository is not None:
            git = self.source_repository
            document["source_repository"] = {"Git": {"url": git.url, "tag": git.tag}}
        if self.build_spec_url is not None:
            document["build_spec_url"] = self.build_spec_url
        return document

    def encoded(self) -> bytes:
        """Return the body of a request, in canonical JSON: the same bytes at every node.

        Of a claim ``external`` these bytes are the source.
        """
        return canonical.dumps(self.document())


@dataclass(frozen=True, slots=True)
class Running:
    """The build has not ended."""


@dataclass(frozen=True, slots=True)
class Success:
    """The build has ended well; its files are below these addresses of the same pipeline."""

    artifact_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The build has ended without files: an exit code or a text for people."""

    text: str


Status = Running | Success | Failure


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """How a build stands: the answer of ``GET /build/{id}``."""

    id: str
    status: Status

    def encoded(self) -> bytes:
        """Return the body of the answer."""
        return json.dumps({"id": self.id, "status": status_document(self.status)}).encode()


def status_document(status: Status) -> object:
    """Return a status as the contract writes it."""
    match status:
        case Running():
            return RUNNING
        case Success():
            return {"Success": {"artifact_urls": list(status.artifact_urls)}}
        case Failure():
            return {"Failure": status.text}


def parse_mapping(data: bytes) -> MappingInfo:
    """Read the body of ``PUT /build``; raises FormatError, which names the member at fault."""
    value = _object(_load(data, "the mapping"), "the mapping")
    fields.exactly(
        value,
        {"package_type", "package_specific_id"},
        frozenset({"source_repository", "build_spec_url"}),
    )
    if value["package_type"] not in get_args(PackageType):
        raise FormatError(
            f"package_type {value['package_type']!r:.40} is none of Docker and Maven2"
        )
    spec = value.get("build_spec_url")
    return MappingInfo(
        package_type=cast("PackageType", value["package_type"]),
        package_specific_id=_line(value, "package_specific_id", SPECIFIC_ID_CHARACTERS_MAX),
        source_repository=_parse_repository(value.get("source_repository")),
        build_spec_url=None
        if spec is None
        else _line(value, "build_spec_url", ADDRESS_CHARACTERS_MAX),
    )


def _parse_repository(value: object) -> GitSource | None:
    if value is None:
        return None
    outer = _object(value, "source_repository")
    fields.exactly(outer, {"Git"})
    git = fields.obj(outer, "Git")
    if "tag" not in git:
        raise FormatError("source_repository names no tag: a mapping without one is refused")
    fields.exactly(git, {"url", "tag"})
    return GitSource(
        url=_line(git, "url", ADDRESS_CHARACTERS_MAX), tag=_line(git, "tag", TAG_CHARACTERS_MAX)
    )


def parse_build_id(data: bytes) -> str:
    """Read the answer of ``PUT /build``: a JSON text.

    Raises:
        FormatError: it is none, or none that can stand in a path.
    """
    value = _load(data, "the build id")
    if not isinstance(value, str) or not _BUILD_ID.match(value):
        raise FormatError(f"{value!r:.80} is no build id")
    return value


def parse_info(data: bytes) -> BuildInfo:
    """Read the answer of ``GET /build/{id}``; members that the contract does not name are let be.

    Raises:
        FormatError: it is out of form or too large; the text names what was wrong.
    """
    value = _object(_load(data, "the status"), "the status")
    build_id = fields.matching(value, "id", _BUILD_ID)
    return BuildInfo(build_id, parse_status(value.get("status")))


def parse_status(value: object) -> Status:
    """Read a status; raises FormatError."""
    if value == RUNNING:
        return Running()
    outer = _object(value, "status")
    if len(outer) != 1:
        raise FormatError("status is none of Running, Success and Failure")
    (kind,) = outer
    if kind == "Success":
        success = fields.obj(outer, "Success")
        return Success(
            fields.texts(
                success,
                "artifact_urls",
                count_max=ARTIFACTS_MAX,
                characters_max=ADDRESS_CHARACTERS_MAX,
            )
        )
    if kind == "Failure":
        reason = outer["Failure"]
        # Some pipelines tell an exit code, as a number.
        if type(reason) is int:
            return Failure(f"exit status {reason}")
        if isinstance(reason, str):
            return Failure(_printable(reason[:FAILURE_CHARACTERS_MAX]))
    raise FormatError(f"status {kind!r:.40} is none of Running, Success and Failure")


def artifact_path(build_id: str, name: str) -> str:
    """Return where a pipeline offers a file of a build."""
    return f"/build/{build_id}/artifacts/{name}"


def artifact_name(url: str, *, build_id: str) -> str:
    """Return the file name that an artifact address ends in.

    The address comes from outside: nothing but a plain name below this very build is taken.

    Raises:
        FormatError: it leads anywhere else, or the name is none.
    """
    prefix = artifact_path(build_id, "")
    if not url.isascii() or not url.startswith(prefix):
        raise FormatError(f"artifact address {url!r:.200} is not below {prefix}")
    # No query, fragment or folder: none of these fits a file's name, before or after decoding.
    name = unquote(url.removeprefix(prefix), errors="replace")
    if not FILE_NAME.match(name):
        raise FormatError(f"artifact address {url!r:.200} ends in no file name")
    return name


def _load(data: bytes, what: str) -> object:
    """Read JSON that every reader reads alike: no key twice, no fractions, no lone surrogates."""
    if len(data) > BODY_BYTES_MAX:
        raise FormatError(f"{what} has {len(data)} bytes; {BODY_BYTES_MAX} at most")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FormatError(f"{what} has one key twice")
        return found

    try:
        value: object = json.loads(
            data.decode(),
            object_pairs_hook=unique,
            parse_int=_integer,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not JSON: {error!s:.120}") from error
    return value


def _integer(text: str) -> int:
    # The length comes first: converting a long text costs quadratic time.
    if len(text) > _INTEGER_CHARACTERS_MAX:
        _refuse(text)
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise FormatError(f"the number {text:.40} is no small integer")


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise FormatError(f"{what} is no JSON object")
    return cast("Mapping[str, object]", value)


def _line(value: Mapping[str, object], key: str, characters_max: int) -> str:
    """Return a text of one line that is not empty; raises FormatError."""
    found = fields.text(value, key, characters_max=characters_max)
    if not found or not found.isprintable():
        raise FormatError(f"field {key!r} is empty or holds what cannot be printed")
    return found


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
