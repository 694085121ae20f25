"""Routes about tags that are followed. Contract: docs/spec/http-api.md.

Reading is for everybody; what changes something needs the admin token and a client on this machine.
"""

from __future__ import annotations

from fastapi import FastAPI, Request

from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.schema.following import FollowBody, Followed, Follows, UnfollowBody
from pyrsia_node.schema.links import Done


def add_follow_routes(app: FastAPI, core: CoreLink, gate: AdminGate) -> None:
    """Add the routes to ``app``; they ask ``core``, and ``gate`` says who may change something."""

    def check(request: Request) -> None:
        address = request.client.host if request.client is not None else None
        gate.check(authorization=request.headers.get("authorization"), address=address)

    @app.get("/api/v1/follows", response_model_exclude_none=True)
    async def follows() -> Follows:
        """List the tags that authorized nodes look at for this node, and what they saw."""
        return await core.follows()

    @app.post("/api/v1/follows", response_model_exclude_none=True)
    async def follow(body: FollowBody, request: Request) -> Followed:
        """Look at a tag from now on, and import what it becomes."""
        check(request)
        return await core.follow(body)

    @app.post("/api/v1/follows/end")
    async def unfollow(body: UnfollowBody, request: Request) -> Done:
        """Look at a tag no more."""
        check(request)
        return await core.unfollow(body)
