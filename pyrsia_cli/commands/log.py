"""``inspect-log``, ``log``, ``verify``: what the log says, after its proof was checked here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.entries import COLUMNS, FIELDS, emit_stamped, rows_of, shown, stamp_of, time_text
from pyrsia_cli.images import image_purl
from pyrsia_cli.maven_names import parse_gav
from pyrsia_cli.output import Row, emit, format_option, say, say_json
from pyrsia_cli.proving import Prover, load_trust, trust_path
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.mappings import AddSource, patterns_for
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.http import BlockLine, Blocks, Entries, Entry, InspectLog
from pyrsia_node.schema.leaf_content import purl_of
from pyrsia_node.tlog.verify import verify_bundle, verify_entry

BUNDLE_BYTES_MAX: Final = 1024 * 1024
_READ_BYTES: Final = 1024 * 1024


@click.group("inspect-log")
def inspect_log() -> None:
    """Show every log entry about a package, each proved."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that the ``inspect-log`` commands share."""

    fields: str
    as_of: int | None
    trust_file: str
    output_format: str
    latest: bool = False


def inspect_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what every ``inspect-log`` command has: the members of ``Asked``."""
    columns = ",".join(FIELDS)
    for option in (
        format_option,
        click.option(
            "--trust", "trust_file", default="", help="Trust file instead of the configured."
        ),
        click.option("--as-of", type=click.IntRange(0), help="See the log as it was at this size."),
        click.option("--latest", is_flag=True, help="Only the newest entry."),
        click.option("--fields", default="", help=f"Columns: {columns}."),
    ):
        function = option(function)
    return function


@inspect_log.command("pypi")
@click.argument("package", metavar="NAME[==VERSION]")
@inspect_options
def inspect_pypi(package: str, **shared: Any) -> None:
    """Show all entries about a Python package, in log order.

    Requests, attestations, outcomes and statements.

    \b
    pyrsia inspect-log pypi six
    pyrsia inspect-log pypi six==1.17.0 --format json | jq '.entries[].leaf'
    pyrsia inspect-log pypi six --as-of 120000     what was said of it by then
    """  # noqa: D301 - click reads the backspace character
    name, _, version = package.partition("==")
    with NodeApi(load_settings(settings_path())) as api:
        _inspect(api, Purl.pypi(name, version or None), Asked(**shared))


@inspect_log.command("docker")
@click.argument("image", required=False)
@click.option("--image", "also", default="", help="The image, if it is not the argument.")
@inspect_options
def inspect_docker(image: str | None, also: str, **shared: Any) -> None:
    """Show all entries about an image, in log order.

    Requests, what each node saw, outcomes and statements; without a tag, those of all tags.

    \b
    pyrsia inspect-log docker alpine:3.20
    pyrsia inspect-log docker --image alpine:3.20 --latest --format json
    """  # noqa: D301 - click reads the backspace character
    if not (image or also):
        raise InvalidInputError("name an image, such as --image alpine:3.20")
    with NodeApi(load_settings(settings_path())) as api:
        _inspect(api, image_purl(api, image or also), Asked(**shared))


@inspect_log.command("maven")
@click.argument("artifact", required=False, metavar="GROUP:ARTIFACT[:VERSION]")
@click.option("--gav", default="", help="The artifact, if it is not the argument.")
@inspect_options
def inspect_maven(artifact: str | None, gav: str, **shared: Any) -> None:
    """Show all entries about a Maven artifact, in log order.

    Requests, attestations, outcomes and statements; without a version, those of all versions.

    \b
    pyrsia inspect-log maven commons-codec:commons-codec
    pyrsia inspect-log maven --gav commons-codec:commons-codec:1.15 --latest --format json
    """  # noqa: D301 - click reads the backspace character
    if not (artifact or gav):
        raise InvalidInputError("name an artifact, such as --gav org.example:tool:1.0")
    purl = parse_gav(artifact or gav, needs_version=False)
    with NodeApi(load_settings(settings_path())) as api:
        _inspect(api, purl, Asked(**shared))


def _inspect(api: NodeApi, purl: Purl, asked: Asked) -> None:
    trusted = trust_path(load_settings(settings_path()), asked.trust_file)
    params: dict[str, str | int] = {"purl": str(purl), "proof": 1}
    if asked.as_of is not None:
        params["as_of"] = asked.as_of
    found = api.get("/api/v1/inspect-log", InspectLog, params)
    entries = found.entries[-1:] if asked.latest else found.entries
    leaves = Prover(api, trusted).prove(entries)
    _check_asked(leaves, purl)
    lines = [shown(entry, leaf) for entry, leaf in zip(entries, leaves, strict=True)]
    rows, stamp = rows_of(entries, leaves), stamp_of(found)
    columns = _columns(asked.fields)
    emit_stamped(rows, columns, asked.output_format, stamp=stamp, name="entries", lines=lines)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--bundle",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="The file's proof: its address at a node and .tlog-proof, or a search hit's.",
)
@click.option("--trust", "trust_file", default="", help="Trust file; default from `config trust`.")
@click.option("--purl", default="", help="Demand this package version.")
@click.option("--name", default="", help="Demand this file name; default is FILE's own.")
@click.option("--strict", is_flag=True, help="Refuse a file that contradicts the published one.")
@format_option
def verify(  # noqa: PLR0917 - click passes options by name
    file: str,
    bundle: str,
    trust_file: str,
    purl: str,
    name: str,
    output_format: str,
    *,
    strict: bool,
) -> None:
    """Check FILE offline: does the log vouch for its bytes?

    \b
    pyrsia verify six-1.17.0-py2.py3-none-any.whl --bundle six.tlog-proof --trust net.trust

    No network is used. Exit 3 when anything does not hold.
    """  # noqa: D301 - click reads the backspace character
    trust = load_trust(load_settings(settings_path()), trust_file)
    proof = _read_bundle(Path(bundle))
    wanted = purl or str(verify_entry(proof, trust).entry.document.purl)
    proved = verify_bundle(
        proof,
        trust,
        file_sha256=_sha256(Path(file)),
        purl=str(Purl.from_user(wanted)),
        file_name=name or Path(file).name,
    )
    if strict and proved.contradicted_by is not None:
        raise VerificationError(
            f"the upstream publishes other bytes under this name: {proved.contradicted_by}"
        )
    row: Row = {
        "file": proved.file.name,
        "purl": wanted,
        "sha256": proved.file.sha256,
        "claim": proved.file.claim,
        "from": proved.file.origin,
        "level": proved.proved.entry.level,
        "entry": proved.proved.index,
        "log_size": proved.proved.cosigned.checkpoint.size,
        "cosigned_by": list(proved.proved.cosigned.labels),
        "contradicts_upstream": proved.contradicted_by or "",
    }
    if output_format == "table":
        emit([{"what": k, "value": v} for k, v in row.items()], ("what", "value"), "table")
        say("verified")
    else:
        emit([row], tuple(row), output_format, document=dict(row))


def _check_asked(leaves: Sequence[JsonObject], asked: Purl) -> None:
    """Refuse an answer that mixes in proved leaves of other packages."""
    for leaf in leaves:
        found = purl_of(leaf)
        if found is None:
            continue
        is_mapping = leaf.get("t") == AddSource.kind
        about = None if is_mapping else Purl.parse(found)
        fits = found in patterns_for(asked) if about is None else asked in _names(about)
        if not fits:
            raise VerificationError(f"the node answered {asked} with a leaf about {found}")


def _names(purl: Purl) -> tuple[Purl, Purl]:
    return purl, purl.without_version()


def _columns(fields: str) -> tuple[str, ...]:
    if not fields:
        return COLUMNS
    chosen = tuple(each.strip().lower() for each in fields.split(","))
    unknown = [each for each in chosen if each not in FIELDS]
    if unknown:
        raise InvalidInputError(f"--fields {unknown[0]!r} is unknown; known: {', '.join(FIELDS)}")
    return chosen


def _read_bundle(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(BUNDLE_BYTES_MAX + 1)
    if len(data) > BUNDLE_BYTES_MAX:
        raise InvalidInputError(f"{path} exceeds {BUNDLE_BYTES_MAX} bytes: not a .tlog-proof file")
    return data


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@click.group("log")
def browse() -> None:
    """Browse the log by block and by entry, each proved.

    \b
    pyrsia log list                      the newest blocks
    pyrsia log show 42                   the entries of block 42
    pyrsia log show --entry 1234         one entry, as it stands in the log

    Exit codes: 0 ok, 2 invalid input, 3 a proof does not hold, 4 no such block or entry, 5 no node
    answers.
    """  # noqa: D301 - click reads the backspace character


@browse.command("list")
@click.option("--top", type=click.IntRange(min=0), help="Begin at this height; default: the tip.")
@click.option(
    "--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Most blocks."
)
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def list_blocks(top: int | None, limit: int, trust_file: str, output_format: str) -> None:
    """List blocks, newest first.

    \b
    pyrsia log list
    pyrsia log list --top 120 --limit 50
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    trusted = trust_path(settings, trust_file)
    params: dict[str, str | int] = {"limit": limit, "proof": 1}
    if top is not None:
        params["top"] = top
    with NodeApi(settings) as api:
        found = api.get("/api/v1/blocks", Blocks, params)
        headers = [block.header for block in found.blocks]
        leaves = Prover(api, trusted).prove(headers)
    rows: list[Row] = [
        {
            "height": leaf.get("height", 0),
            "time": time_text(block.header.block.time_ms),
            "first": block.header.index,
            "entries": 1 + n_leaves if isinstance(n_leaves := leaf.get("n_leaves"), int) else 2,
            "proposer": leaf.get("proposer", ""),
        }
        for block, leaf in zip(found.blocks, leaves, strict=True)
    ]
    lines = [shown(header, leaf) for header, leaf in zip(headers, leaves, strict=True)]
    columns = ("height", "time", "first", "entries", "proposer")
    stamp = stamp_of(found)
    emit_stamped(rows, columns, output_format, stamp=stamp, name="blocks", lines=lines)


@browse.command("show")
@click.argument("height", type=click.IntRange(min=0), required=False)
@click.option("--entry", "index", type=click.IntRange(min=0), help="One entry by its index.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="Most entries of the block.",
)
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def show(
    height: int | None, index: int | None, limit: int, trust_file: str, output_format: str
) -> None:
    """Show the entries of the block at HEIGHT, or one entry.

    \b
    pyrsia log show 42
    pyrsia log show --entry 1234
    """  # noqa: D301 - click reads the backspace character
    if (height is None) == (index is None):
        raise InvalidInputError("say either a HEIGHT or --entry INDEX")
    settings = load_settings(settings_path())
    trusted = trust_path(settings, trust_file)
    with NodeApi(settings) as api:
        if height is None:
            assert index is not None
            _print_entry(*Prover(api, trusted).fetch(index), output_format)
            return
        block, stamp = _block(api, height)
        entries, is_complete = _entries_of(api, block, stamp["as_of"], limit)
        leaves = Prover(api, trusted).prove(entries)
    lines = [shown(each, leaf) for each, leaf in zip(entries, leaves, strict=True)]
    total = block.end - block.first
    more = f"{limit} of {total} entries are shown; --limit {total}" if limit < total else ""
    emit_stamped(
        rows_of(entries, leaves),
        COLUMNS,
        output_format,
        stamp={**stamp, "complete": is_complete, "height": height, "entries_in_block": total},
        name="entries",
        lines=lines,
        more=more,
    )


def _print_entry(entry: Entry, leaf: JsonObject, output_format: str) -> None:
    if output_format == "table":
        say_json(leaf)
    else:
        lines = [shown(entry, leaf)]
        emit(rows_of([entry], [leaf]), COLUMNS, output_format, document=lines, lines=lines)


def _block(api: NodeApi, height: int) -> tuple[BlockLine, dict[str, object]]:
    """Return where a block stands, and what the node's answer holds for."""
    found = api.get("/api/v1/blocks", Blocks, {"top": height, "limit": 1})
    if not found.blocks or found.blocks[0].height != height:
        raise NotFoundError(f"the node's log has no block {height} yet")
    return found.blocks[0], stamp_of(found)


def _entries_of(
    api: NodeApi, block: BlockLine, as_of: object, limit: int
) -> tuple[list[Entry], bool]:
    """Return the first ``limit`` entries of a block, and whether none of them is missing."""
    start, end = block.first, min(block.end, block.first + limit)
    entries: list[Entry] = []
    is_complete = True
    while start < end:
        count = min(end - start, 200)
        params: dict[str, str | int] = {"start": start, "limit": count, "as_of": str(as_of)}
        page = api.get("/api/v1/entries", Entries, {**params, "proof": 1})
        if not page.entries:
            raise UnavailableError(f"the node cannot prove entry {start}: see its output")
        is_complete = is_complete and page.complete
        entries += page.entries
        start = page.entries[-1].index + 1
    return entries, is_complete
