"""``build explain``: what differs between a build and what is published, and why it is said."""

from __future__ import annotations

import click

from pyrsia_cli.api import NodeApi
from pyrsia_cli.entries import contradicted, contradiction_text, is_external
from pyrsia_cli.explaining import (
    DIFFERENCE_COLUMNS,
    FILE_COLUMNS,
    Told,
    class_lines,
    difference_rows,
    file_rows,
    left_out,
    prove_members,
    told_by,
)
from pyrsia_cli.maven_names import parse_gav
from pyrsia_cli.output import emit, format_option, note, say
from pyrsia_cli.proving import Prover, trust_path
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.explanations import EntryExplanations
from pyrsia_node.schema.http import InspectLog
from pyrsia_node.schema.leaf_content import purl_of
from pyrsia_node.schema.links import BuildStatus


@click.command()
@click.argument("target", metavar="BUILD|ENTRY|PACKAGE")
@click.option(
    "--level",
    type=click.IntRange(1, 3),
    default=1,
    show_default=True,
    help="Only what still differs below this level; 3 is what no rule takes away.",
)
@click.option("--trust", "trust_file", default="", help="Trust file instead of the configured.")
@format_option
def explain(target: str, level: int, trust_file: str, output_format: str) -> None:
    """Tell how what was built differs from what is published.

    \b
    pyrsia build explain b-0123456789abcdef          a build that this node was asked for
    pyrsia build explain 1234                        an entry of the log
    pyrsia build explain commons-codec:commons-codec:1.15
    pyrsia build explain pkg:maven/a/b@1 --level 3 --format csv

    Each authorized node compared its own build. Shown is what their answers in the log name by
    digest, and who saw it. It decides nothing: the entry says what was agreed.
    Exit codes: 0 ok, 3 a proof does not hold, 4 nothing was explained, 5 nobody has it now.
    """  # noqa: D301 - click reads the backspace character
    settings = load_settings(settings_path())
    trusted = trust_path(settings, trust_file)
    with NodeApi(settings) as api:
        index, purl = _entry_of(api, target)
        prover = Prover(api, trusted)
        _entry, leaf = prover.fetch(index)
        found = api.get(f"/api/v1/entries/{index}/explanations", EntryExplanations)
        _check_about(leaf, found, purl)
        prove_members(prover, found, leaf)
    told, problems = told_by(found)
    for problem in problems:
        note(f"warning: {problem}")
    if not told and problems:
        raise UnavailableError(f"no explanation of entry {index} is to be had now: {problems[0]}")
    if not told:
        raise NotFoundError(f"no answer about entry {index}, {found.purl}, names an explanation")
    _show(leaf, found, told, output_format, level)


def _show(
    leaf: JsonObject, found: EntryExplanations, told: list[Told], output_format: str, level: int
) -> None:
    differences = difference_rows(told, least=level)
    if output_format != "table":
        members = [each.dump() for each in found.members]
        document = {
            "leaf": found.leaf,
            "purl": found.purl,
            "request": found.request,
            "verified": True,
            "contradicts": contradicted(leaf),
            "members": members,
            "explanations": [
                {"sha256": each.sha256, "by": each.by, "document": each.raw} for each in told
            ],
        }
        emit(differences, DIFFERENCE_COLUMNS, output_format, document=document)
        return
    explained = sum(len(each.by) for each in told)
    how = "had it from outside pipelines" if is_external(leaf) else "built it"
    names = contradicted(leaf)
    against = f", {contradiction_text(names)}" if names else ""
    say(
        f"{found.purl}: entry {found.leaf}, {leaf.get('t')}{against};"
        f" compared by {explained} of the {len(found.members)} authorized nodes that {how}"
    )
    emit(file_rows(told), FILE_COLUMNS, "table")
    say(*class_lines(told))
    if differences:
        say("")
        emit(differences, DIFFERENCE_COLUMNS, "table")
    else:
        say("no difference" if level == 1 else f"no difference is left at level {level}")
    for line in left_out(told):
        note(line)


def _entry_of(api: NodeApi, target: str) -> tuple[int, Purl | None]:
    """Return which entry is meant, and the package that it must be about if one was named.

    Raises:
        NotFoundError: There is none; the text says what there is.
        UnavailableError: The build has no outcome yet.
    """
    if target.isascii() and target.isdigit() and len(target) <= 15:
        return int(target), None
    if target.startswith("b-"):
        return _entry_of_build(api, target), None
    named = parse_gav(target) if not target.startswith("pkg:") else Purl.from_user(target)
    if named.version is None:
        raise InvalidInputError(f"{target!r:.200} names no version")
    entries = api.get("/api/v1/inspect-log", InspectLog, {"purl": str(named)}).entries
    outcomes = [each.index for each in entries if each.type in {"accepted", "diverged"}]
    if not outcomes:
        raise NotFoundError(f"the log has no entry of {named}; `pyrsia build` asks for one")
    return outcomes[-1], named


def _entry_of_build(api: NodeApi, build_id: str) -> int:
    status = api.get(f"/api/v1/builds/{build_id}", BuildStatus)
    if status.leaf_index is not None:
        return status.leaf_index
    if status.state == "refused":
        raise NotFoundError(
            f"build {build_id} of {status.purl} is not in the log: it was refused"
            f" ({status.stage}): {status.detail}"
        )
    raise UnavailableError(
        f"build {build_id} of {status.purl} has no outcome yet, it is {status.state}:"
        f" `pyrsia build status --id {build_id} --wait`"
    )


def _check_about(leaf: JsonObject, found: EntryExplanations, asked: Purl | None) -> None:
    about = purl_of(leaf)
    if about is None or about != found.purl or (asked is not None and about != str(asked)):
        raise VerificationError(
            f"the node explained {found.purl}, and leaf {found.leaf} is about {about}"
        )
