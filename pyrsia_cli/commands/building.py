"""``build``: have packages rebuilt and images imported, and watch it happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import click
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from rich.live import Live
from rich.table import Table

from pyrsia_cli.api import NodeApi
from pyrsia_cli.dependencies import closure
from pyrsia_cli.entries import contradicted, contradiction_text
from pyrsia_cli.images import checked_platforms
from pyrsia_cli.output import Row, cell, emit, format_option, note, progress_console
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.oci import TAG_DEFAULT, split_reference
from pyrsia_node.schema.exit_codes import OK, OTHER
from pyrsia_node.schema.http import Entry
from pyrsia_node.schema.links import BuildStarted, BuildStatus

ENDED: Final = frozenset({"accepted", "diverged", "failed", "expired", "refused"})
POLL_S: Final = 0.5
PATIENCE_S: Final = 60.0
PUBLISHED_S: Final = 10.0
"""How long an accepted entry may take to be in the node's own log."""
COLUMNS: Final = ("purl", "state", "build_id", "stage", "detail", "leaf_index")
EXPLAIN: Final = "pyrsia build explain"
REQUIREMENTS_BYTES_MAX: Final = 1024 * 1024


@click.group()
def build() -> None:
    """Ask authorized nodes to rebuild packages or import images."""


@build.command()
@click.argument("packages", nargs=-1, metavar="NAME==VERSION...")
@click.option("-r", "--requirement", type=click.Path(dir_okay=False), help="A requirements file.")
@click.option("--with-deps", is_flag=True, help="Build what they depend on as well.")
@click.option("--class", "deadline_class", type=click.Choice(["S", "M", "L"]), help="Deadline.")
@click.option("--no-wait", is_flag=True, help="Print the build ids and return.")
@format_option
def pypi(
    packages: Sequence[str],
    requirement: str | None,
    deadline_class: str | None,
    output_format: str,
    *,
    with_deps: bool,
    no_wait: bool,
) -> None:
    """Rebuild Python packages, each pinned to a version.

    \b
    pyrsia build pypi six==1.17.0
    pyrsia build pypi -r requirements.txt --no-wait --format json
    pyrsia build pypi requests==2.34.2 --with-deps

    Waits for the outcome and exits 1 unless every package was accepted.
    A build that differs from a published file is accepted too; it says CONTRADICTS, and where to
    read what differs.
    """  # noqa: D301 - click reads the backspace character
    wanted = [_pinned(package) for package in packages]
    if requirement is not None:
        wanted += _read_requirements(Path(requirement))
    if not wanted:
        raise InvalidInputError("name at least one package as NAME==VERSION, or use -r FILE")
    with NodeApi(load_settings(settings_path())) as api:
        if with_deps:
            wanted = closure(wanted)
        started = [_start(api, name, version, deadline_class) for name, version in wanted]
        report(api, started, output_format, waits=not no_wait)


@build.command()
@click.argument("images", nargs=-1, metavar="[IMAGE...]")
@click.option("--image", "more", multiple=True, help="An image: NAME:TAG or NAME@sha256:HEX.")
@click.option("--platform", "platforms", multiple=True, help="As os/arch[/variant]; default: all.")
@click.option("--class", "deadline_class", type=click.Choice(["S", "M", "L"]), help="Deadline.")
@click.option("--context", default="", help="Rebuild from this: HOST/REPOSITORY@sha256:HEX.")
@click.option("--dockerfile", default="", help="With --context: the file in it [Dockerfile].")
@click.option("--target", default="", help="With --context: the stage that the image is.")
@click.option("--build-arg", "build_args", multiple=True, help="With --context: NAME=VALUE.")
@click.option("--no-wait", is_flag=True, help="Print the build ids and return.")
@format_option
def docker(  # noqa: PLR0917 - click passes options by name
    images: Sequence[str],
    more: Sequence[str],
    platforms: Sequence[str],
    deadline_class: str | None,
    context: str,
    dockerfile: str,
    target: str,
    build_args: Sequence[str],
    output_format: str,
    *,
    no_wait: bool,
) -> None:
    """Have container images imported, or rebuilt.

    \b
    pyrsia build docker --image alpine:3.20
    pyrsia build docker ghcr.io/a/b:1 --platform linux/amd64 --platform linux/arm64
    pyrsia build docker alpine@sha256:HEX --no-wait --format json

    An image of the log was the same at the registries of several authorized nodes. It was not
    rebuilt: its claim is "mirrored". With TAG@DIGEST the tag must be that digest.
    With --context it is rebuilt from a Dockerfile, and compared with what is published.
    Waits for the outcome and exits 1 unless every image was accepted.
    A build that differs from a published file is accepted too; it says CONTRADICTS, and where to
    read what differs.
    """  # noqa: D301 - click reads the backspace character
    options = {"context": context, "dockerfile": dockerfile, "target": target}
    rebuild: dict[str, object] = {name: value for name, value in options.items() if value}
    if build_args:
        rebuild["args"] = list(build_args)
    if rebuild and not context:
        raise InvalidInputError(f"--{next(iter(rebuild))} is for a rebuild: give --context as well")
    wanted = [_image_body(image, platforms, deadline_class) for image in (*images, *more)]
    if rebuild:
        wanted = [{**body, "rebuild": rebuild} for body in wanted]
    if not wanted:
        raise InvalidInputError("name at least one image, such as --image alpine:3.20")
    with NodeApi(load_settings(settings_path())) as api:
        started = [post(api, body) for body in wanted]
        report(api, started, output_format, waits=not no_wait)


def _image_body(
    image: str, platforms: Sequence[str], deadline_class: str | None
) -> dict[str, object]:
    name, tag, digest = split_reference(image)
    body: dict[str, object] = {"ecosystem": "docker", "name": name}
    body["version"] = tag or (TAG_DEFAULT if digest is None else str(digest))
    if tag is not None and digest is not None:
        body["pinned"] = str(digest)
    if platforms:
        body["platforms"] = checked_platforms(platforms)
    if deadline_class is not None:
        body["class"] = deadline_class
    return body


def report(
    api: NodeApi, started: Sequence[BuildStarted], output_format: str, *, waits: bool
) -> None:
    """Print what was started, or wait for the outcomes and print those; exit 1 for a bad one."""
    if not waits:
        emit([each.dump() for each in started], ("build_id", "state"), output_format)
        return
    statuses = _watch(api, [each.build_id for each in started])
    _show(api, statuses, output_format)
    click.get_current_context().exit(
        OK if all(each.state == "accepted" for each in statuses) else OTHER
    )


@build.command("status")
@click.option("--id", "build_id", required=True, help="The build id that `build` printed.")
@click.option("--wait", is_flag=True, help="Watch until the outcome.")
@format_option
def build_status(build_id: str, output_format: str, *, wait: bool) -> None:
    """Show how a build stands at every authorized node."""
    with NodeApi(load_settings(settings_path())) as api:
        found = _watch(api, [build_id])[0] if wait else _status(api, build_id)
        _show(api, [found], output_format, is_one=True)


def _show(
    api: NodeApi, statuses: Sequence[BuildStatus], output_format: str, *, is_one: bool = False
) -> None:
    """Print builds; beside a table, what does not fit into one, and where to read on.

    A build that contradicts what is published is accepted, but its files are not served: that is
    said in every format, and on standard error.
    """
    against = [_contradicted(api, each) for each in statuses]
    rows = [
        {**each.dump(), "contradicts": names} for each, names in zip(statuses, against, strict=True)
    ]
    if output_format == "table":
        _show_table(statuses, against)
    else:
        emit(rows, COLUMNS, output_format, document=rows[0] if is_one else None)
    for each, names in zip(statuses, against, strict=True):
        if names:
            note(
                f"{each.purl}: accepted, {contradiction_text(names)}: what contradicts is not"
                f" served by default; what differs: {EXPLAIN} {each.leaf_index}"
            )


def _contradicted(api: NodeApi, status: BuildStatus) -> list[str]:
    """Return the files that an accepted build differs in from what is published, as its node says.

    Told on standard error if the entry is not to be had: the outcome itself is known.
    """
    if status.state != "accepted" or status.leaf_index is None:
        return []
    deadline = time.perf_counter() + PUBLISHED_S
    while True:
        try:
            entry = api.get(f"/api/v1/entries/{status.leaf_index}", Entry)
            return contradicted(cast("JsonObject", entry.leaf))
        except NotFoundError as error:
            # A node may hear of an outcome before its own copy of the log has it.
            if time.perf_counter() > deadline:
                return _not_known(status, error)
            time.sleep(POLL_S)
        except PyrsiaError as error:
            return _not_known(status, error)


def _not_known(status: BuildStatus, error: PyrsiaError) -> list[str]:
    note(f"{status.purl}: whether it contradicts what is published is not known: {error}")
    return []


def _show_table(statuses: Sequence[BuildStatus], against: Sequence[list[str]]) -> None:
    """Print builds for people; the first line of a detail, and what goes on under the table."""
    rows: list[Row] = []
    for each, names in zip(statuses, against, strict=True):
        detail = contradiction_text(names) if names else each.detail.partition("\n")[0]
        rows.append({**each.dump(), "detail": detail})
    emit(rows, COLUMNS, "table")
    for each, names in zip(statuses, against, strict=True):
        # The end of a compiler's words is worth more than their beginning on one line.
        note(*(f"  {line}" for line in each.detail.split("\n")[1:]))
        if each.leaf_index is None:
            continue
        if each.state in {"diverged", "failed", "expired"}:
            note(f"{each.purl}: what each node says: pyrsia log show --entry {each.leaf_index}")
        elif each.purl.startswith("pkg:maven/") and not names:
            note(f"{each.purl}: what differs from what is published: {EXPLAIN} {each.leaf_index}")


def _status(api: NodeApi, build_id: str) -> BuildStatus:
    try:
        return api.get(f"/api/v1/builds/{build_id}", BuildStatus)
    except NotFoundError as error:
        raise NotFoundError(
            f"Failed to fetch build status: build '{build_id}' was not found ({error});"
            " `pyrsia inspect-log` shows what is in the log"
        ) from error


def _start(api: NodeApi, name: str, version: str, deadline_class: str | None) -> BuildStarted:
    body: dict[str, object] = {"ecosystem": "pypi", "name": name, "version": version}
    if deadline_class is not None:
        body["class"] = deadline_class
    return post(api, body)


def post(api: NodeApi, body: dict[str, object]) -> BuildStarted:
    """Ask the node for a build; raises what it answers."""
    started = api.post("/api/v1/builds", BuildStarted, body)
    note(f"Build of {body['name']} {body['version']} has ID {started.build_id}")
    return started


def _watch(api: NodeApi, build_ids: Sequence[str]) -> list[BuildStatus]:
    """Follow builds, with a live table on standard error, until all have ended.

    A node that does not answer for a while (it restarts, or is busy) is asked again.
    """
    silent_since: float | None = None
    with Live(console=progress_console(), auto_refresh=False, transient=True) as live:
        while True:
            try:
                found = [_status(api, build_id) for build_id in build_ids]
            except UnavailableError:
                now = time.perf_counter()
                silent_since = silent_since or now
                if now - silent_since > PATIENCE_S:
                    raise
                time.sleep(POLL_S)
                continue
            silent_since = None
            live.update(progress_table(found), refresh=True)
            if all(each.state in ENDED for each in found):
                return found
            time.sleep(POLL_S)


def progress_table(statuses: Sequence[BuildStatus]) -> Table:
    """Return builds, and under each the authorized nodes' own progress, as a table."""
    table = Table("package", "state", "stage", "detail", box=None, pad_edge=False)
    for status in statuses:
        more = (cell(status.state), cell(status.stage), cell(status.detail[:60]))
        table.add_row(cell(status.purl, "bold"), *more)
        for each in status.progress:
            texts = (f"  {each.label}", each.state, each.stage, each.detail[:60])
            table.add_row(*(cell(text) for text in texts))
    return table


def _pinned(text: str) -> tuple[str, str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise InvalidInputError(f"{text!r}: {error}") from error
    pins = [each for each in requirement.specifier if each.operator in {"==", "==="}]
    if len(pins) != 1 or len(requirement.specifier) != 1 or "*" in pins[0].version:
        raise InvalidInputError(f"{text!r} pins no version; write {requirement.name}==VERSION")
    return canonicalize_name(requirement.name), pins[0].version


def _read_requirements(path: Path) -> list[tuple[str, str]]:
    """Read pins from a requirements file; hashes and comments are passed over."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(REQUIREMENTS_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    if len(text) > REQUIREMENTS_BYTES_MAX:
        raise InvalidInputError(f"{path} exceeds {REQUIREMENTS_BYTES_MAX} bytes")
    found = []
    for number, line in _logical_lines(text):
        wanted = line.split("#")[0].split("--hash")[0].strip()
        if not wanted:
            continue
        if wanted.startswith("-"):
            raise InvalidInputError(f"{path}:{number}: option {wanted.split()[0]} is not followed")
        try:
            found.append(_pinned(wanted))
        except PyrsiaError as error:
            raise InvalidInputError(f"{path}:{number}: {error}") from error
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, text) of lines joined at a trailing backslash."""
    whole, first = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        first = first if whole else number
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        yield first, whole + line
        whole = ""
    if whole:
        yield first, whole
