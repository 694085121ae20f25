"""Routes about garbage collection. Contract: docs/spec/http-api.md.

All of them need the admin token and a client on this machine: the names of private repositories
stand in the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Query, Request

from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.registry.collecting import Collections
from pyrsia_node.schema.collection import CollectionOrder, CollectionStatus, Explanation


def add_collection_routes(
    app: FastAPI,
    collections: Collections,
    explain: Callable[[str], Explanation],
    gate: AdminGate,
) -> None:
    """Add the routes to ``app``; ``explain`` blocks, ``gate`` says who may call them."""

    def check(request: Request) -> None:
        address = request.client.host if request.client is not None else None
        gate.check(authorization=request.headers.get("authorization"), address=address)

    @app.get("/api/v1/gc", response_model_exclude_none=True)
    async def status(request: Request) -> CollectionStatus:
        """Tell what is under way, and what the last collection did."""
        check(request)
        return collections.status()

    @app.post("/api/v1/gc", status_code=202, response_model_exclude_none=True)
    async def begin(body: CollectionOrder, request: Request) -> CollectionStatus:
        """Begin a collection, or only look what one would do."""
        check(request)
        return collections.begin(dry_run=body.dry_run)

    @app.get("/api/v1/gc/explain", response_model_exclude_none=True)
    async def why(request: Request, digest: Annotated[str, Query(max_length=256)]) -> Explanation:
        """Tell why the bytes of a digest are kept, and when they go."""
        check(request)
        return await asyncio.to_thread(explain, digest)
