"""``inspect-log``, ``search``, ``verify``: what the log says, after its proof was checked here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, console, emit, format_option
from pyrsia_cli.proving import load_trust, prove
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.http import Entry, InspectLog, Search
from pyrsia_node.tlog.verify import verify_bundle, verify_entry

BUNDLE_BYTES_MAX: Final = 1024 * 1024
COLUMNS: Final = ("index", "type", "purl", "status", "height", "time_ms", "detail")
_READ_BYTES: Final = 1024 * 1024


@click.group("inspect-log")
def inspect_log() -> None:
    """Show every log entry about a package, each proved."""


@inspect_log.command("pypi")
@click.argument("package", metavar="NAME[==VERSION]")
@click.option("--fields", default="", help=f"Columns: {','.join(COLUMNS)}.")
@click.option("--latest", is_flag=True, help="Only the newest entry.")
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def inspect_pypi(
    package: str, fields: str, trust_file: str, output_format: str, *, latest: bool
) -> None:
    """Show requests, attestations and outcomes of a Python package, in log order.

    \b
    pyrsia inspect-log pypi six
    pyrsia inspect-log pypi six==1.17.0 --format json | jq '.entries[].leaf'
    """  # noqa: D301 - click reads the backspace character
    name, _, version = package.partition("==")
    purl = Purl.pypi(name, version or None)
    settings = load_settings(settings_path())
    trust = load_trust(settings, trust_file)
    with NodeApi(settings) as api:
        found = api.get("/api/v1/inspect-log", InspectLog, {"purl": str(purl), "proof": 1})
    entries = found.entries[-1:] if latest else found.entries
    leaves = prove(entries, trust)
    _check_asked(leaves, purl)
    document = {
        "as_of": found.as_of,
        "root": found.root,
        "complete": found.complete,
        "entries": [_shown(entry) for entry in entries],
    }
    emit(_rows(entries, leaves), _columns(fields), output_format, document=document)


@click.command()
@click.argument("query", nargs=-1)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--cursor", type=int, help="Go on where the page before ended.")
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def search(
    query: Sequence[str], limit: int, cursor: int | None, trust_file: str, output_format: str
) -> None:
    """Search the log. Terms are joined by AND; a leading - excludes. Newest first.

    \b
    pyrsia search pkg:pypi/six                 every version
    pyrsia search pkg:pypi/six@1.17.0          one version
    pyrsia search sha256:4721f391ed90541f…     which entry lists this file
    pyrsia search dep:attrs status:accepted    what depends on attrs
    pyrsia search 'author:"Benjamin Peterson"'
    pyrsia search builder:node2 status:diverged
    pyrsia search http -status:accepted        free text
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    trust = load_trust(settings, trust_file)
    params: dict[str, str | int] = {"q": " ".join(query), "limit": limit, "proof": 1}
    if cursor is not None:
        params["cursor"] = cursor
    with NodeApi(settings) as api:
        found = api.get("/api/v1/search", Search, params)
    leaves = prove(found.hits, trust)
    document = {
        "as_of": found.as_of,
        "root": found.root,
        "complete": found.complete,
        "next": found.next,
        "hits": [_shown(entry) for entry in found.hits],
    }
    emit(_rows(found.hits, leaves), COLUMNS, output_format, document=document)
    if found.next is not None and output_format == "table":
        console().print(f"more: --cursor {found.next}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--bundle", required=True, type=click.Path(exists=True, dir_okay=False))
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
    """Check FILE offline: does the log vouch for exactly these bytes?

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
        console().print("[bold]verified[/]")
    else:
        emit([row], tuple(row), output_format, document=dict(row))


def _rows(entries: Sequence[Entry], leaves: Sequence[JsonObject]) -> list[Row]:
    return [
        {
            "index": entry.index,
            "type": leaf.get("t"),
            "purl": purl_of(leaf) or entry.purl,
            "status": entry.status,
            "height": entry.block.height,
            "time_ms": entry.block.time_ms,
            "detail": detail_of(leaf),
        }
        for entry, leaf in zip(entries, leaves, strict=True)
    ]


def purl_of(leaf: JsonObject) -> str:
    """Return the package version that a proved leaf is about; "" where the leaf names none."""
    document = leaf.get("doc")
    purl = document.get("purl") if isinstance(document, dict) else leaf.get("purl")
    return purl if isinstance(purl, str) else ""


def _check_asked(leaves: Sequence[JsonObject], asked: Purl) -> None:
    """Refuse an answer that mixes in proved leaves of other packages."""
    for leaf in leaves:
        found = purl_of(leaf)
        about = Purl.parse(found) if found else asked
        if asked not in (about, about.without_version()):
            raise VerificationError(f"the node answered {asked} with a leaf about {found}")


def detail_of(leaf: JsonObject) -> str:
    """Return one line that says what matters in a leaf."""
    match leaf.get("t"):
        case "accepted":
            attestors, differ = leaf.get("attestors"), leaf.get("differ")
            agreed = len(attestors) if isinstance(attestors, list) else 0
            differing = len(differ) if isinstance(differ, list) else 0
            text = f"{agreed} of k={leaf.get('k')} agree at L{leaf.get('level')}"
            return f"{text}; {differing} differ" if differing else text
        case "diverged":
            classes = leaf.get("classes")
            found = classes if isinstance(classes, list) else []
            ids = [str(each.get("ids")) for each in found if isinstance(each, dict)]
            return f"{len(ids)} different results: " + " | ".join(ids)
        case "failed":
            return str(leaf.get("causes"))
        case "expired":
            return f"silent: {leaf.get('silent')}"
        case "attest_batch":
            items = leaf.get("items")
            return f"{len(items) if isinstance(items, list) else 0} items by {leaf.get('voter')}"
        case "build_request":
            return f"by {leaf.get('sponsor')}, recipe {leaf.get('recipe')}"
        case _:
            return ""


def _columns(fields: str) -> tuple[str, ...]:
    if not fields:
        return COLUMNS
    chosen = tuple(each.strip().lower() for each in fields.split(","))
    unknown = [each for each in chosen if each not in COLUMNS]
    if unknown:
        raise InvalidInputError(f"--fields {unknown[0]!r} is unknown; known: {', '.join(COLUMNS)}")
    return chosen


def _shown(entry: Entry) -> dict[str, object]:
    shown = entry.dump()
    shown["verified"] = True
    return shown


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
