"""What differs between a build and what is published, as rows; and whether that was really said.

An explanation is shown only if an answer in the log, proved here, names its digest. Which members
saw what is told beside each row: they compare each their own build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from pyrsia_cli.output import Row
from pyrsia_cli.proving import Prover
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.schema.explanations import (
    ComparedFile,
    Counts,
    EntryExplanations,
    Explainer,
    ExplanationDocument,
)

EVERYBODY: Final = "all"
FILE_COLUMNS: Final = ("file", "level", "equal", "differ", "built_only", "published_only", "by")
DIFFERENCE_COLUMNS: Final = (
    *("file", "path", "attribute", "built", "published"),
    *("ends_at", "rule", "by"),
)
_LEVELS: Final = {-1: "not published", 3: "differs"}


@dataclass(frozen=True, slots=True)
class Told:
    """An explanation whose digest was proved, and the labels of the members that gave it."""

    by: tuple[str, ...]
    sha256: str
    document: ExplanationDocument
    raw: dict[str, object]


def prove_members(prover: Prover, found: EntryExplanations, outcome: JsonObject) -> None:
    """Check that the members said in the log what the node says that they said.

    Args:
        prover: Asks the node, and knows whose word counts.
        found: What the node answered.
        outcome: The leaf that it is about, proved.

    Raises:
        VerificationError: The log says otherwise.
    """
    if outcome.get("req") != found.request:
        raise VerificationError(
            f"leaf {found.leaf} is about request {outcome.get('req')}, not {found.request}"
        )
    for member in found.members:
        _entry, leaf = prover.fetch(member.leaf)
        _check_said(leaf, member, found.request)


def _check_said(leaf: JsonObject, member: Explainer, request: str) -> None:
    items = leaf.get("items")
    listed = items if isinstance(items, list) else []
    item = listed[member.number] if member.number < len(listed) else None
    said = item if isinstance(item, dict) else {}
    facts = (leaf.get("t"), leaf.get("voter"), said.get("req"), said.get("explained"))
    if facts != ("attest_batch", member.id, request, member.explained):
        raise VerificationError(
            f"leaf {member.leaf} does not say that {member.id} explains request {request} by"
            f" {member.explained}"
        )


def told_by(found: EntryExplanations) -> tuple[list[Told], list[str]]:
    """Return the explanations that are to be had, and why others are not.

    Raises:
        VerificationError: A document is not what its digest says, or about another package.
    """
    told, problems = [], []
    for each in found.explanations:
        by = tuple(_name(m) for m in found.members if m.explained == each.sha256)
        if not by:
            raise VerificationError(f"no member's answer names explanation {each.sha256}")
        if each.document is None:
            problems.append(f"what {', '.join(by)} compared is not to be had: {each.problem}")
            continue
        raw = each.document
        try:
            digest = sha256_of(canonical.dumps(cast("JsonObject", raw)))
            document = ExplanationDocument.parse(raw)
        except InvalidInputError as error:
            raise VerificationError(f"explanation {each.sha256}: {error}") from error
        if digest != each.sha256:
            raise VerificationError(f"explanation {each.sha256} has the digest {digest}")
        if document.purl != found.purl:
            raise VerificationError(f"explanation {each.sha256} is about {document.purl}")
        told.append(Told(by, each.sha256, document, raw))
    return told, problems


def file_rows(told: Sequence[Told]) -> list[Row]:
    """Return a row for each file, and for each different comparison of it."""
    seen: dict[tuple[object, ...], list[str]] = {}
    for each in told:
        for file in each.document.files:
            seen.setdefault(_file_cells(file), []).extend(each.by)
    return _rows(seen, FILE_COLUMNS, told)


def difference_rows(told: Sequence[Told], *, least: int = 1) -> list[Row]:
    """Return a row for each difference that ends at level ``least`` or never.

    What matters comes first, then the order of the explanations.
    """
    seen: dict[tuple[object, ...], list[str]] = {}
    order: dict[tuple[object, ...], int] = {}
    for each in told:
        for file in each.document.files:
            for one in file.differences:
                if one.level < least:
                    continue
                ends_at = "never" if one.level == 3 else f"L{one.level}"
                cells = (file.name, one.path, one.attribute, one.built, one.published)
                key = (*cells, ends_at, one.rule)
                order.setdefault(key, one.level)
                names = seen.setdefault(key, [])
                names.extend(name for name in each.by if name not in names)
    sorted_keys = sorted(seen, key=lambda key: (str(key[0]), -order[key]))
    return _rows({key: seen[key] for key in sorted_keys}, DIFFERENCE_COLUMNS, told)


def left_out(told: Sequence[Told]) -> list[str]:
    """Return, for people, of which files not all differences are listed."""
    most: dict[str, int] = {}
    for each in told:
        for file in each.document.files:
            most[file.name] = max(most.get(file.name, 0), file.more)
    return [
        f"{name}: {count} more differences are not listed" for name, count in most.items() if count
    ]


def class_lines(told: Sequence[Told]) -> list[str]:
    """Return, for people, how many compiled classes are equal in each archive that has any."""
    lines = []
    for file in told[0].document.files if told else []:
        total = _total(file.classes)
        if total:
            lines.append(f"{file.name}: {file.classes.equal} of {total} class files are equal")
    return lines


def _file_cells(file: ComparedFile) -> tuple[object, ...]:
    counts = file.entries
    level = _LEVELS.get(file.level, f"L{file.level}")
    if not _total(counts):
        return (file.name, level, "", "", "", "")
    return (file.name, level, counts.equal, counts.differ, counts.built_only, counts.published_only)


def _total(counts: Counts) -> int:
    return counts.equal + counts.differ + counts.built_only + counts.published_only


def _rows(
    seen: dict[tuple[object, ...], list[str]], columns: Sequence[str], told: Sequence[Told]
) -> list[Row]:
    everybody = sum(len(each.by) for each in told)
    return [
        dict(
            zip(
                columns, (*cells, EVERYBODY if len(by) == everybody else ", ".join(by)), strict=True
            )
        )
        for cells, by in seen.items()
    ]


def _name(member: Explainer) -> str:
    return member.label or member.id
