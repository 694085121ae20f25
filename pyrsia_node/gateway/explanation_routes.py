"""Routes about what differs between builds and what is published. Design: docs/design/maven.md."""

from __future__ import annotations

from fastapi import FastAPI

from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.explanations import (
    DOCUMENTS_MAX,
    EntryExplanations,
    Explained,
    ExplanationAnswer,
)


def add_explanation_routes(app: FastAPI, core: CoreLink) -> None:
    """Add the routes to ``app``; they ask ``core``."""

    @app.get("/api/v1/entries/{index}/explanations", response_model_exclude_none=True)
    async def explanations(index: str) -> EntryExplanations:
        """Tell how what members built for an outcome differs from what is published."""
        if not index.isascii() or not index.isdigit() or len(index) > 15:
            raise InvalidInputError(f"entry {index!r:.40} is not a leaf index")
        found = await core.explained(int(index))
        digests = by_most(found)
        answers = [await core.explanation(found.leaf, each) for each in digests[:DOCUMENTS_MAX]]
        answers += [
            ExplanationAnswer(sha256=each, problem=f"not fetched: more than {DOCUMENTS_MAX} differ")
            for each in digests[DOCUMENTS_MAX:]
        ]
        return EntryExplanations.parse(
            {**found.dump(), "explanations": [each.dump() for each in answers]}
        )


def by_most(found: Explained) -> list[str]:
    """Return the explanations that members name, that of most members first."""
    digests = [each.explained for each in found.members if each.explained is not None]
    return sorted(dict.fromkeys(digests), key=lambda each: -digests.count(each))
