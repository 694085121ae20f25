"""Answers to searches as JSON lines and as CSV, for programs that read line by line.

JSON lines: one hit a line, then one line that says what the answer holds for. CSV: one hit a line
under a header; what it holds for stands in headers of HTTP alone. docs/spec/http-api.md.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Final, Literal

from pyrsia_node.schema.http import Entry, Search

Format = Literal["json", "jsonl", "csv"]

MEDIA: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
CSV_COLUMNS: Final = (
    *("index", "type", "purl", "status", "height", "time_ms", "sha256", "statements", "proof"),
)


def stamp_of(found: Search) -> dict[str, object]:
    """Return everything of an answer but its hits."""
    return found.model_dump(mode="json", exclude={"hits"}, exclude_none=True)


def stamp_headers(found: Search) -> dict[str, str]:
    """Return the stamp as header fields; flags and numbers are spelled as in JSON."""
    return {
        f"X-Pyrsia-{key.replace('_', '-')}": value if isinstance(value, str) else json.dumps(value)
        for key, value in stamp_of(found).items()
    }


def encode(found: Search, form: Literal["jsonl", "csv"]) -> str:
    """Return the answer in one of the forms."""
    if form == "jsonl":
        return "".join(_lines(found))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_columns(hit) for hit in found.hits)
    return out.getvalue()


def _lines(found: Search) -> Iterator[str]:
    for hit in found.hits:
        yield json.dumps(hit.dump(), ensure_ascii=False) + "\n"
    yield json.dumps(stamp_of(found)) + "\n"


def _columns(hit: Entry) -> list[object]:
    return [
        *(hit.index, hit.type, hit.purl or "", hit.status or ""),
        *(hit.block.height, hit.block.time_ms),
        " ".join(file.sha256 for file in hit.files),
        " ".join(f"{each.type}:{each.index}" for each in hit.statements),
        hit.proof or "",
    ]
