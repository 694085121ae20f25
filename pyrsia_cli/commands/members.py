"""``nodes``, ``authorize``, ``remove``, ``rotate-key``, ``set-param``, ``approve``: who votes.

An admin speaks through the admin's own node: the node signs, and the log counts. Nothing happens
before a quorum of the authorized nodes said the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from pyrsia_cli.api import NodeApi
from pyrsia_cli.output import Row, emit, format_option, json_text, note, say
from pyrsia_cli.settings import load_settings, settings_path
from pyrsia_node.model.errors import (
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.members import SignedMember
from pyrsia_node.schema.exit_codes import OTHER
from pyrsia_node.schema.links import TransactionState
from pyrsia_node.schema.motions import HEIGHTS_DEFAULT, Members, MotionLine, MotionTaken

RECORD_BYTES_MAX: Final = 8_000
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_PEER_ID: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}\Z")
PATIENCE_S: Final = 30.0
POLL_S: Final = 0.2

NODE_COLUMNS: Final = ("label", "standing", "connected", "height", "id")
MOTION_COLUMNS: Final = ("motion", "approved", "missing", "expires", "subject", "detail")
ALL_COLUMNS: Final = (*NODE_COLUMNS, *MOTION_COLUMNS)
"""Of CSV, which has one list: of nodes, then of the motions that concern no candidate."""


def _completing(choices: Callable[[Members], list[tuple[str, str]]]) -> Complete:
    """Return what completes a word out of the node's own answer; nothing where there is none."""

    def complete(
        _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            with NodeApi(load_settings(settings_path())) as api:
                found = choices(api.get("/api/v1/members", Members))
        except PyrsiaError:
            return []
        return [
            CompletionItem(word, help=what) for word, what in found if word.startswith(incomplete)
        ]

    return complete


complete_label = _completing(lambda found: [(each.label, each.id) for each in found.members])
complete_subject = _completing(
    lambda found: [(each.subject[:16], each.title) for each in found.motions]
)
complete_parameter = _completing(
    lambda found: [(name, f"now {value}") for name, value in found.params.items()]
)

heights_option = click.option(
    "--heights",
    type=click.IntRange(1, 100_000),
    default=HEIGHTS_DEFAULT,
    show_default=True,
    help="After how many more blocks the approval lapses.",
)


@click.command()
@format_option
def nodes(output_format: str) -> None:
    """List members, candidates and motions, and who approved them.

    A node is listed as a candidate from its first approval on (`pyrsia authorize`).

    Below the nodes stands every motion under way: candidates, removals, new keys, parameters,
    statements. It says who approved it, who is missing, after which height it lapses, and what is
    in its way. `pyrsia approve SUBJECT` adds this node's approval.

    \b
    pyrsia nodes
    pyrsia nodes --format csv                               nodes and motions in one list
    pyrsia nodes --format json | jq .params                 the parameters in force
    pyrsia nodes --format json | jq '.motions[].content'    what each motion would do

    Exit codes: 0 ok, 5 no node answers.
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get("/api/v1/members", Members)
    rows, motions = node_rows(found), motion_rows(found)
    if output_format != "table":
        rows += [row for row in motions if row["op"] != "add_node"]
        emit(rows, ALL_COLUMNS, output_format, document=found.dump())
        return
    emit(rows, NODE_COLUMNS, output_format)
    if motions:
        say("")
        emit(motions, MOTION_COLUMNS, output_format)
    say("", f"epoch {found.epoch} at height {found.height}: {found.note}")


@click.command()
@click.option("--peer", default="", help="The candidate's peer id; it must run.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The candidate's member.record, if it is not reachable yet.",
)
@heights_option
def authorize(peer: str, record: Path | None, heights: int) -> None:
    """Approve that a node becomes an authorized one.

    It does once a quorum of the authorized nodes approved the same record, and the candidate
    showed that it holds its keys and has caught up with the log. Each admin runs this at the
    admin's own authorized node; from the first approval on, `pyrsia nodes` lists the candidate,
    and the others may also `pyrsia approve` the motion.

    The peer id is the node's in `pyrsia status` at the candidate, whose admin tells it; `pyrsia
    list` shows those of all nodes that this one knows. Compare them: whoever runs this lets in the
    node with that id.

    \b
    pyrsia authorize --peer 12D3KooW...
    pyrsia authorize --record south.record     what `pyrsia-node init` wrote there
    """  # noqa: D301 - click reads the backspace character
    if bool(peer) == (record is not None):
        raise InvalidInputError("give the candidate's --peer, or its --record")
    if peer and not _PEER_ID.match(peer):
        raise InvalidInputError(f"--peer {peer!r:.100} is no peer id; `pyrsia list` shows them")
    content: dict[str, object] = {"peer": peer} if record is None else {"record": _read(record)}
    bring("add_node", content, heights)


@click.command()
@click.option(
    "--peer",
    required=True,
    help="Id or label of an authorized node.",
    shell_complete=complete_label,
)
@heights_option
def remove(peer: str, heights: int) -> None:
    """Approve that an authorized node votes no more.

    Its copy of the log stays, and it goes on serving packages.
    """
    with NodeApi(load_settings(settings_path())) as api:
        found = api.get("/api/v1/members", Members)
    named = [each.id for each in found.members if peer in (each.id, each.label)]
    if not named:
        labels = ", ".join(each.label for each in found.members)
        raise InvalidInputError(f"{peer} is no authorized node; there are {labels}")
    bring("remove_node", {"node": named[0]}, heights)


@click.command("rotate-key")
@heights_option
def rotate_key(heights: int) -> None:
    """Let this authorized node go on with new keys, by approval.

    `pyrsia-node rotate-key` makes the new keys first. The node keeps its id; once a quorum
    approved, it starts to use the new keys by itself.
    """
    bring("rotate_key", {}, heights)


@click.command("set-param")
@click.argument("name", shell_complete=complete_parameter)
@click.argument("value", type=int)
@heights_option
def set_param(name: str, value: int, heights: int) -> None:
    """Approve another value of one of the network's parameters.

    \b
    pyrsia set-param min_authorized 4
    pyrsia set-param k.pypi 3
    pyrsia set-param class_ms.S 900000

    `pyrsia nodes --format json` shows the values in force.
    """  # noqa: D301 - click reads the backspace character
    bring("set_param", {"name": name, "value": value}, heights)


@click.command()
@click.argument("subject", shell_complete=complete_subject)
@heights_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def approve(subject: str, heights: int, *, yes: bool) -> None:
    """Approve a motion that another admin brought.

    `pyrsia nodes` lists them with their subjects. SUBJECT may be shortened to its first
    characters. What it stands for is shown first; read it, and say yes.

    \b
    pyrsia nodes
    pyrsia approve 3f2a
    pyrsia approve 3f2a9c0de1b47758 --yes --heights 500
    """  # noqa: D301 - click reads the backspace character
    with NodeApi(load_settings(settings_path())) as api:
        motions = api.get("/api/v1/members", Members).motions
        matches = [each for each in motions if each.subject.startswith(subject.lower())]
        if len(matches) != 1 or not subject:
            what = "more than one motion" if len(matches) > 1 else "no motion"
            raise InvalidInputError(f"{what} begins with {subject!r}; see `pyrsia nodes`")
        (motion,) = matches
        if not yes:
            say(motion.title, *json_text(motion.content, indent=2).split("\n"))
            if not click.confirm("Approve it in the name of this node?"):
                say("not approved")
                click.get_current_context().exit(OTHER)
        path = f"/api/v1/motions/{motion.subject}/approve"
        taken = api.post(path, MotionTaken, {"heights": heights})
        _follow(api, taken)


def bring(op: str, content: dict[str, object], heights: int) -> None:
    """Bring a motion through the node, and say how it stands once its approval is in the log."""
    with NodeApi(load_settings(settings_path())) as api:
        body = {"op": op, "content": content, "heights": heights}
        _follow(api, api.post("/api/v1/motions", MotionTaken, body))


def until_committed(api: NodeApi, transaction: str) -> TransactionState | None:
    """Return where a transaction stands in the log; None if it takes longer than half a minute."""
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline:
        state = api.get(f"/api/v1/transactions/{transaction}", TransactionState)
        if state.committed:
            return state
        time.sleep(POLL_S)
    return None


def _follow(api: NodeApi, taken: MotionTaken) -> None:
    say(taken.title, f"subject {taken.subject}")
    if until_committed(api, taken.transaction) is None:
        note(
            "this node's approval is not in the log yet; the node repeats it until it is"
            " (`pyrsia status` says whether enough nodes are up)"
        )
        return
    motions = api.get("/api/v1/members", Members).motions
    found = [each for each in motions if each.subject == taken.subject]
    if not found:
        say("approved, and carried out")
        return
    (motion,) = found
    given = len(motion.approvals)
    if given >= motion.needed and motion.detail:
        raise UnavailableError(
            f"approved by {given}, which is enough, but it waits: {motion.detail}"
        )
    if given >= motion.needed:
        say(f"approved by {given}, which is enough: the nodes carry it out now")
    else:
        missing = ", ".join(motion.missing)
        say(f"approved by {given} of {motion.needed}; not yet by {missing}")


def _read(path: Path) -> object:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > RECORD_BYTES_MAX:
        raise InvalidInputError(f"{path} is no member.record: it has {len(data)} bytes")
    try:
        return SignedMember.decode(data).to_json()
    except (InvalidInputError, VerificationError) as error:
        raise InvalidInputError(f"{path} is no member.record: {error}") from error


def node_rows(found: Members) -> list[Row]:
    """Return a row for each authorized node, then one for each candidate with its motion."""
    rows: list[Row] = [
        {
            "label": each.label,
            "standing": "authorized",
            "connected": each.connected,
            "height": each.height,
            "id": each.id,
        }
        for each in found.members
    ]
    rows += (
        {
            "label": _candidate_label(motion),
            "standing": "candidate",
            "id": motion.candidate,
            **_motion_row(motion),
        }
        for motion in found.motions
        if motion.op == "add_node"
    )
    return rows


def motion_rows(found: Members) -> list[Row]:
    """Return a row for each motion."""
    return [_motion_row(motion) for motion in found.motions]


def _motion_row(motion: MotionLine) -> Row:
    return {
        "op": motion.op,
        "motion": motion.title,
        "approved": _approved(motion.needed, [each.label for each in motion.approvals]),
        "missing": motion.missing,
        "expires": min((each.expiry for each in motion.approvals), default=None),
        "subject": motion.subject[:16],
        "detail": motion.detail,
    }


def _candidate_label(motion: MotionLine) -> str:
    """Return the label in a candidate's record; "" while no node has told the record."""
    record = motion.content.get("record") if motion.content else None
    label = record.get("label") if isinstance(record, dict) else None
    return label if isinstance(label, str) else ""


def _approved(needed: int, labels: list[str]) -> str:
    return f"{len(labels)} of {needed}: {', '.join(labels)}"


def require_answer(state: TransactionState | None) -> TransactionState:
    """Return the state of a committed transaction; raises UnavailableError where there is none."""
    if state is None:
        raise UnavailableError("it is not in the log yet; the node repeats it until it is")
    return state
