"""Routes about members, motions and statements. Contract: docs/spec/http-api.md.

Reading is for everybody; what signs something in this member's name needs the admin token and a
client on this machine.
"""

from __future__ import annotations

from fastapi import FastAPI, Request

from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.schema.evidence import EvidenceList
from pyrsia_node.schema.links import TransactionState
from pyrsia_node.schema.motions import (
    AdviceBody,
    AdviceTaken,
    ApproveBody,
    ApproveParams,
    Members,
    MotionBody,
    MotionTaken,
)
from pyrsia_node.schema.sources import Sources, SourcesParams


def add_member_routes(app: FastAPI, core: CoreLink, gate: AdminGate) -> None:
    """Add the routes to ``app``; they ask ``core``, and ``gate`` says who may change something."""

    def check(request: Request) -> None:
        address = request.client.host if request.client is not None else None
        gate.check(authorization=request.headers.get("authorization"), address=address)

    @app.get("/api/v1/members", response_model_exclude_none=True)
    async def members() -> Members:
        """List who votes, by which parameters, and the motions under way."""
        return await core.members()

    @app.get("/api/v1/evidence", response_model_exclude_none=True)
    async def evidence() -> EvidenceList:
        """List members that signed statements which contradict each other, and forks."""
        return await core.evidence()

    @app.get("/api/v1/sources")
    async def sources(purl: str = "", after: str = "") -> Sources:
        """List where sources are, as a quorum says; of a package the mapping that counts."""
        return await core.sources(SourcesParams.parse({"purl": purl, "after": after}))

    @app.post("/api/v1/motions", status_code=202)
    async def propose(body: MotionBody, request: Request) -> MotionTaken:
        """Bring a motion, and approve it in the name of this member."""
        check(request)
        return await core.propose(body)

    @app.post("/api/v1/motions/{subject}/approve", status_code=202)
    async def approve(subject: str, body: ApproveBody, request: Request) -> MotionTaken:
        """Approve a motion that another member brought."""
        check(request)
        params = {"subject": parse_sha256(subject), "heights": body.heights}
        return await core.approve(ApproveParams.parse(params))

    @app.post("/api/v1/advice", status_code=202)
    async def advise(body: AdviceBody, request: Request) -> AdviceTaken:
        """State in the name of this member that a package is deprecated or vulnerable."""
        check(request)
        return await core.advise(body)

    @app.get("/api/v1/transactions/{transaction_id}", response_model_exclude_none=True)
    async def transaction(transaction_id: str) -> TransactionState:
        """Tell whether a block holds a transaction, and where."""
        return await core.transaction(parse_sha256(transaction_id))
