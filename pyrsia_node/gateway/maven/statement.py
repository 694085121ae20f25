"""An entry of the log as an in-toto statement about one file. docs/spec/maven-api.md, "Sidecars".

For tools that read in-toto: the statement says what the log says, and is not signed by itself. Who
wants to believe it verifies the ``.tlog-proof`` beside it, which holds the entry and the quorum's
signatures. Format: in-toto Statement v1.
"""

from __future__ import annotations

import json
from typing import Final

from pyrsia_node.artifacts.resolver import LoggedFile

MEDIA: Final = "application/vnd.in-toto+json"
PREDICATE: Final = "urn:pyrsia:entry:v1"


def statement_of(logged: LoggedFile, *, network_id: bytes) -> bytes:
    """Return one line of JSON with the statement."""
    entry, document = logged.proved.entry, logged.proved.entry.document
    predicate = {
        "network": network_id.hex(),
        "entry": logged.proved.index,
        "height": logged.proved.height,
        "timeMs": logged.proved.time_ms,
        "package": str(document.purl),
        "claim": logged.file.claim,
        "from": logged.file.origin,
        "request": entry.request,
        "k": entry.k,
        "level": entry.level,
        "attestors": [
            {"id": each.id, "leaf": each.leaf, "level": each.level} for each in entry.attestors
        ],
        "differ": [each.id for each in entry.differ],
        "contradicts": [
            {"name": each.name, "sha256": each.sha256} for each in document.contradicts
        ],
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": logged.file.name, "digest": {"sha256": logged.file.sha256}}],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    return json.dumps(statement, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
