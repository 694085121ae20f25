"""``audit``: derive again what another node publishes, and say what contradicts what."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pyrsia_node.audit.auditor import audit as run_audit
from pyrsia_node.audit.index import audit_index
from pyrsia_node.audit.report import AREAS, Report
from pyrsia_node.audit.source import DirectorySource, HttpSource
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.printable import plain
from pyrsia_node.schema.exit_codes import UNAVAILABLE, VERIFICATION
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Trust, TrustFile


@click.command()
@click.argument("source", metavar="URL|DIR")
@click.option("--network-id", default="", help="SHA-256 of the genesis, from the members.")
@click.option(
    "--trust",
    "trust_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust file that names the network. `pyrsia audit` takes that of `pyrsia config trust`"
    " where neither --trust nor --network-id is given; `pyrsia-node audit` takes none.",
)
@click.option(
    "--head",
    "head_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoint seen elsewhere or earlier, that must be a prefix. May be given repeatedly.",
)
@click.option("--strict", is_flag=True, help="Exit 5 if anything could not be checked.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Table for people; JSON for programs.",
)
def audit(
    source: str,
    network_id: str,
    trust_file: Path | None,
    head_files: Sequence[Path],
    form: str,
    *,
    strict: bool,
) -> None:
    """Derive the whole log again from what another node publishes.

    \b
    pyrsia audit http://localhost:7888 --network-id 5e1d12c0…
    pyrsia audit /srv/mirror/log --trust example.trust --format json
    pyrsia audit http://localhost:7888 --head checkpoint-of-another-node

    Reads the checkpoint, every tile, every entry and certificate: tree, blocks, who finalized
    them, signatures, changes of the member set with their approvals, every verdict by a count of
    its own and by executing it again; for a data directory the search index as well. The largest
    head that `pyrsia trust update` has seen must be a prefix, and so must each --head.

    Exit 0: everything that was looked at holds. 3: something contradicts the rest, with its
    place. 2: wrong usage. 4, 5: the log could not be read.
    """  # noqa: D301 - click reads the backspace character
    expected = _network(network_id, trust_file)
    with ExitStack() as stack:
        is_address = source.startswith(("http://", "https://"))
        opened = (
            stack.enter_context(HttpSource(source)) if is_address else DirectorySource(Path(source))
        )
        bar = stack.enter_context(_progress())
        task = bar.add_task("entries", total=None)
        report = run_audit(
            opened,
            network_id=expected,
            heads=_heads(head_files, trust_file),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        if isinstance(opened, DirectorySource):
            audit_index(opened, report)
        else:
            report.leave_out("index", "only a data directory has one")
    if form == "json":
        click.echo(json.dumps(_document(report), indent=2))
    else:
        _print(report)
    if not report.holds:
        click.get_current_context().exit(VERIFICATION)
    if strict and report.unchecked:
        click.get_current_context().exit(UNAVAILABLE)


def _network(text: str, trust_file: Path | None) -> bytes | None:
    """Return the id of the network that the user means, or None."""
    given = bytes.fromhex(parse_sha256(text, what="--network-id")) if text else None
    if trust_file is None:
        return given
    with trust_file.open("rb") as file:
        data = file.read(TRUST_BYTES_MAX + 1)
    try:
        trust = Trust.establish(TrustFile.parse(data))
    except InvalidInputError as error:
        raise InvalidInputError(f"{trust_file}: {error}") from error
    found = trust.genesis.network_id
    if given is not None and given != found:
        raise InvalidInputError(f"{trust_file} is of network {found.hex()}, not {given.hex()}")
    return found


def _heads(files: Sequence[Path], trust_file: Path | None) -> dict[str, SignedCheckpoint]:
    """Return the heads that were seen before, by file; the one beside the trust file first."""
    beside = trust_file.with_name(f"{trust_file.name}.head") if trust_file is not None else None
    known = [beside] if beside is not None and beside.is_file() else []
    return {str(path): _head(path) for path in (*known, *files)}


def _head(path: Path) -> SignedCheckpoint:
    with path.open("rb") as file:
        data = file.read(NOTE_BYTES_MAX + 1)
    try:
        return SignedCheckpoint.parse(data)
    except (InvalidInputError, VerificationError) as error:
        raise InvalidInputError(f"{path} is no checkpoint: {error}") from None


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    disable = not sys.stderr.isatty()
    return Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=disable
    )


def _document(report: Report) -> dict[str, object]:
    """Return the report as one JSON object."""
    return {
        "holds": report.holds,
        "source": report.source,
        "origin": report.origin,
        "network_id": report.network_id,
        "genesis_is_given": report.genesis_is_given,
        "size": report.size,
        "root": report.root,
        "height": report.height,
        "epoch": report.epoch,
        "cosigned_by": list(report.cosigned_by),
        "quorum": report.quorum,
        "cosigned_at_s": report.cosigned_at_s,
        "facts": dict(report.facts),
        "checked": {area: report.counted[area] for area in AREAS},
        "unchecked": report.unchecked,
        "contradictions": [
            {"area": each.area, "place": each.place, "what": each.what}
            for each in report.contradictions
        ],
        "contradictions_not_shown": report.surplus,
    }


def _print(report: Report) -> None:
    console = Console(highlight=False)
    when = datetime.fromtimestamp(report.cosigned_at_s, UTC).isoformat()
    known = "" if report.genesis_is_given else " (as the log itself says: compare it)"
    console.print(f"log      {_safe(report.origin)}")
    console.print(f"network  {report.network_id}{known}")
    console.print(f"head     {report.size} entries, height {report.height}, root {report.root}")
    if report.cosigned_by:
        console.print(
            f"cosigned {_safe(', '.join(report.cosigned_by))} (needs {report.quorum}), {when}"
        )
    facts = ", ".join(f"{count} {name}" for name, count in sorted(report.facts.items()))
    console.print(f"holds    {facts or 'no requests'}")
    table = Table("area", "checked", "", "what it means", box=None, pad_edge=False)
    for area, meaning in AREAS.items():
        table.add_row(area, str(report.counted[area]), _verdict(report, area), meaning)
    console.print(table)
    for area, why in report.unchecked.items():
        console.print(f"[yellow]not checked[/]  {area}: {_safe(why)}", soft_wrap=True)
    for each in report.contradictions:
        console.print(f"[red]contradiction[/]  {each.area}: {_safe(str(each))}", soft_wrap=True)
    if report.surplus:
        console.print(f"and {report.surplus} more")
    console.print("[bold green]holds[/]" if report.holds else "[bold red]does not hold[/]")


def _safe(text: str) -> str:
    """Return what the publisher may have written, as no markup and no order to a terminal."""
    return escape(plain(text))


def _verdict(report: Report, area: str) -> str:
    if report.wrong_in(area):
        return "[red]contradicted[/]"
    if area in report.unchecked:
        return "[yellow]in part[/]" if report.counted[area] else "[yellow]not checked[/]"
    return "[green]holds[/]" if report.counted[area] else "none"
