"""How entries of the log are shown, by every command that shows some: rows, details, stamps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from pyrsia_cli.output import Row, emit, note, say
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.schema.http import Entry, Stamped
from pyrsia_node.schema.leaf_content import purl_of

COLUMNS: Final = ("index", "type", "purl", "status", "height", "time", "detail")
"""Columns that are shown when nobody chooses."""

FIELDS: Final = (*COLUMNS, "time_ms", "statements")
"""All that there are."""

ORDERS: Final = {
    "newest": "newest first",
    "log": "oldest first",
    "rank": "best match first",
}
"""Orders of a search, and how people are told."""

NODE_SAYS: Final = ("block", "status", "statements")
"""Members of an entry that no proof of its leaf covers."""

_NAMES_SHOWN: Final = 3


def stamp_of(found: Stamped) -> dict[str, object]:
    """Return what an answer holds for."""
    return {
        "as_of": found.as_of,
        "size": found.size,
        "root": found.root,
        "complete": found.complete,
    }


def emit_stamped(
    rows: Sequence[Row],
    columns: Sequence[str],
    output_format: str,
    *,
    stamp: Mapping[str, object],
    name: str,
    lines: Sequence[object],
    more: str = "",
) -> None:
    """Print an answer with what it holds for, in every format.

    JSON has the stamp beside the list ``name``; JSON lines have it as the last line; it stands
    under a table, and on standard error beside CSV, which has no place for it.

    Args:
        rows: What a table and CSV show.
        columns: Their columns.
        output_format: One of ``output.FORMATS``.
        stamp: What the answer holds for: ``stamp_of``, and more.
        name: The member of the JSON document that holds the lines.
        lines: What JSON shows.
        more: What was cut, and how to get it; "" where nothing was.
    """
    document = {**stamp, name: list(lines)}
    emit(rows, columns, output_format, document=document, lines=[*lines, stamp])
    tell_stamp(stamp, output_format, more)


def tell_stamp(stamp: Mapping[str, object], output_format: str, more: str = "") -> None:
    """Say what an answer for people, or in CSV, holds for, and what is missing."""
    if not stamp["complete"]:
        note("incomplete: the node's index is behind its log; ask again")
    if output_format in {"json", "jsonl"}:
        return
    tell = say if output_format == "table" else note
    order = f", {ORDERS[str(stamp['order'])]}" if "order" in stamp else ""
    tell(f"as of {stamp['as_of']} entries, root {str(stamp['root'])[:16]}…{order}")
    if more:
        tell(f"more: {more}")


def rows_of(entries: Sequence[Entry], leaves: Sequence[JsonObject]) -> list[Row]:
    """Return the rows of entries, told from their proved leaves."""
    return [
        {
            "index": entry.index,
            "type": leaf.get("t"),
            "purl": purl_of(leaf) or entry.purl,
            "status": entry.status,
            "height": entry.block.height,
            "time": time_text(entry.block.time_ms),
            "time_ms": entry.block.time_ms,
            "statements": [f"{each.type} at {each.index}" for each in entry.statements],
            "detail": detail_of(leaf),
        }
        for entry, leaf in zip(entries, leaves, strict=True)
    ]


def shown(entry: Entry, leaf: JsonObject, *, with_proof: bool = True) -> dict[str, object]:
    """Return an entry whose proof was checked, for programs.

    ``verified`` speaks of ``leaf`` and of ``index``, ``type``, ``purl`` and ``files``, which were
    held against it; ``node_says`` names the members that only the node vouches for.
    """
    found = entry.dump()
    if not with_proof:
        found.pop("proof", None)
    found["verified"] = True
    found["node_says"] = list(NODE_SAYS) if purl_of(leaf) else ["purl", *NODE_SAYS]
    return found


def time_text(time_ms: int) -> str:
    """Return a block time in UTC, to the second."""
    return dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def detail_of(leaf: JsonObject) -> str:
    """Return one line that says what matters in a leaf."""
    match leaf.get("t"):
        case "accepted":
            return _detail_of_accepted(leaf)
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
            kind = "external, " if leaf.get("claim") == "external" else ""
            return f"{kind}by {leaf.get('sponsor')}, recipe {leaf.get('recipe')}"
        case "block":
            return f"{leaf.get('n_leaves')} entries by {leaf.get('proposer')}"
        case "set":
            members = leaf.get("members")
            count = len(members) if isinstance(members, list) else 0
            return f"epoch {leaf.get('epoch')}: {count} members, quorum {leaf.get('q')}"
        case _:
            return _detail_of_motion(leaf)


def _detail_of_accepted(leaf: JsonObject) -> str:
    attestors, differ = leaf.get("attestors"), leaf.get("differ")
    agreed = len(attestors) if isinstance(attestors, list) else 0
    differing = len(differ) if isinstance(differ, list) else 0
    text = f"{agreed} of k={leaf.get('k')} agree at L{leaf.get('level')}"
    if is_external(leaf):
        text += ", external"
    if differing:
        text += f"; {differing} differ"
    names = contradicted(leaf)
    return f"{text}; {contradiction_text(names)}" if names else text


def is_external(leaf: JsonObject) -> bool:
    """Tell whether an accepted entry is what outside pipelines made: no member built it."""
    document = leaf.get("doc")
    files = document.get("files") if isinstance(document, dict) else None
    listed = files if isinstance(files, list) else []
    return any(isinstance(each, dict) and each.get("claim") == "external" for each in listed)


def contradicted(leaf: JsonObject) -> list[str]:
    """Return the files of an accepted entry that are not those published under their names."""
    document = leaf.get("doc")
    found = document.get("contradicts") if isinstance(document, dict) else None
    listed = found if isinstance(found, list) else []
    return [str(each.get("name")) for each in listed if isinstance(each, dict)]


def contradiction_text(names: Sequence[str]) -> str:
    """Return in words that an entry contradicts what is published under these names."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return f"CONTRADICTS the published {', '.join(names[:_NAMES_SHOWN])}{more}"


def _detail_of_motion(leaf: JsonObject) -> str:
    """Return one line about what admins want, what was promised, or what to think of files."""
    match leaf.get("t"):
        case "approve":
            return f"{leaf.get('op')} {str(leaf.get('subject'))[:16]} by {leaf.get('by')}"
        case "add_node" | "rotate_key" as kind:
            record = leaf.get("record")
            label = record.get("label") if isinstance(record, dict) else ""
            return f"{label} is admitted" if kind == "add_node" else f"{label} has new keys"
        case "remove_node":
            return f"{leaf.get('node')} votes no more"
        case "set_param":
            return f"{leaf.get('name')} = {leaf.get('value')}"
        case "add_source":
            repository = leaf.get("repository") or "taken back"
            return f"{repository} {leaf.get('tag') or ''}".strip() + f": {leaf.get('reason')}"
        case "attest_commit":
            return f"answer promised by {leaf.get('voter')}"
        case "unsealed":
            return f"answers are shown from here on, by {leaf.get('committed')}"
        case _:
            reason = leaf.get("reason")
            return reason if isinstance(reason, str) else ""
