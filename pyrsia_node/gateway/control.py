"""The control API under ``/api/v1``, with OpenAPI. Contract: docs/spec/http-api.md.

Thin: each route parses, asks the core or the log, and answers. What reads stays readable while the
core restarts; what changes something needs the admin token and a client on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ExceptionHandler

from pyrsia_node.artifacts.fetcher import Fetcher, Transfer
from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.gateway.errors import body_of, headers_of, status_of
from pyrsia_node.gateway.explanation_routes import add_explanation_routes
from pyrsia_node.gateway.follow_routes import add_follow_routes
from pyrsia_node.gateway.log_answers import LogAnswers
from pyrsia_node.gateway.log_formats import MEDIA, Format, encode, stamp_headers
from pyrsia_node.gateway.member_routes import add_member_routes
from pyrsia_node.ledger.search import Order
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, PyrsiaError, UnavailableError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.fields import Answer
from pyrsia_node.schema.http import (
    Blocks,
    Entries,
    Entry,
    ErrorAnswer,
    GatewayStatus,
    InspectLog,
    Search,
    ShortStatus,
)
from pyrsia_node.schema.links import (
    BuildBody,
    BuildParams,
    Builds,
    BuildStarted,
    BuildStatus,
    Peers,
)

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorAnswer} for status in (400, 403, 404, 502, 503)
}
Proof = Annotated[int, Query(ge=0, le=1, description="1: each entry carries its .tlog-proof")]
AsOf = Annotated[int | None, Query(ge=0, description="look at the first so many leaves alone")]
Limit = Annotated[int, Query(ge=1, le=200)]


class TransferLine(Answer):
    """A download: which peers gave how many pieces so far."""

    sha256: str
    state: Literal["running", "complete", "failed"]
    size: int
    seconds: float
    resumed_pieces: int
    wrong_pieces: int
    failed_requests: int
    pieces_by_peer: dict[str, int]
    error: str


class Transfers(Answer):
    """``GET /api/v1/transfers``, newest last."""

    transfers: list[TransferLine]


@dataclass(frozen=True, slots=True)
class ControlParts:
    """What the routes answer from."""

    core: CoreLink
    log: LogAnswers
    proof_of: Callable[[int], bytes]
    trust_text: Callable[[], bytes]
    fetcher: Fetcher
    gate: AdminGate
    gateway_status: Callable[[], GatewayStatus]
    version: str
    more: Sequence[Callable[[FastAPI], None]] = ()
    """Services that add routes of their own."""


def make_control_app(parts: ControlParts) -> FastAPI:
    """Return the application for ``/status`` and ``/api/v1``."""
    app = FastAPI(
        title="Pyrsia node",
        version=parts.version,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=_ERRORS,
        dependencies=[Depends(_refuse_unknown)],
    )
    _add_node_routes(app, parts)
    _add_build_routes(app, parts)
    add_member_routes(app, parts.core, parts.gate)
    add_follow_routes(app, parts.core, parts.gate)
    add_explanation_routes(app, parts.core)
    _add_log_routes(app, parts)
    for add_routes in parts.more:
        add_routes(app)
    handlers: dict[type[Exception], ExceptionHandler] = {
        PyrsiaError: _on_error,
        RequestValidationError: _on_invalid,
        HTTPException: _on_http,
        Exception: _on_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


async def _refuse_unknown(request: Request) -> None:
    """Refuse a parameter that the route does not know: a misspelt one must not widen an answer."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    taken = route.dependant.query_params  # codespell:ignore dependant - the library's spelling
    known = sorted(each.alias for each in taken)
    for name in request.query_params:
        if name not in known:
            allowed = f"allowed: {', '.join(known)}" if known else "it takes none"
            raise InvalidInputError(f"no parameter is named {name!r:.100}; {allowed}")


def _add_node_routes(app: FastAPI, parts: ControlParts) -> None:
    @app.get("/status")
    async def short_status() -> ShortStatus:
        """Tell other nodes how to reach this one."""
        status = await parts.core.status()
        return ShortStatus(
            peers_count=status.peers_count, peer_id=status.peer_id, peer_addrs=status.addresses
        )

    @app.get("/api/v1/status")
    async def status() -> Response:
        """Tell what the node knows; answers with core "down" while the core restarts."""
        gateway = parts.gateway_status().dump()
        try:
            known = (await parts.core.status()).dump()
        except UnavailableError as error:
            return JSONResponse({"core": "down", "reason": str(error), "gateway": gateway})
        return JSONResponse({"core": "up", **known, "gateway": gateway})

    @app.get("/api/v1/peers", response_model_exclude_none=True)
    async def peers() -> Peers:
        """List the nodes that this one has heard of."""
        return await parts.core.peers()

    @app.get("/api/v1/transfers")
    async def transfers() -> Transfers:
        """List the last downloads and which peers they came from."""
        return Transfers(
            transfers=[
                TransferLine(
                    sha256=each.sha256,
                    state=_state_of(each),
                    size=each.size,
                    seconds=round(each.tally.seconds, 3),
                    resumed_pieces=each.tally.resumed,
                    wrong_pieces=each.tally.wrong,
                    failed_requests=each.tally.refused,
                    pieces_by_peer={str(peer): n for peer, n in each.tally.by_peer.items()},
                    error=each.error,
                )
                for each in parts.fetcher.transfers()
            ]
        )


def _add_build_routes(app: FastAPI, parts: ControlParts) -> None:
    @app.post("/api/v1/builds", status_code=202)
    async def build(body: BuildBody, request: Request) -> BuildStarted:
        """Request that a package be rebuilt; a regular node forwards it to a sponsor."""
        address = request.client.host if request.client is not None else None
        parts.gate.check(authorization=request.headers.get("authorization"), address=address)
        return await parts.core.build(BuildParams.parse(body.dump()))

    @app.get("/api/v1/builds", response_model_exclude_none=True)
    async def builds(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Builds:
        """List builds, newest first."""
        return await parts.core.builds(limit)

    @app.get("/api/v1/builds/{build_id}", response_model_exclude_none=True)
    async def build_status(build_id: str) -> BuildStatus:
        """Tell how far a build is."""
        return await parts.core.build_status(build_id)


def _add_log_routes(app: FastAPI, parts: ControlParts) -> None:
    @app.get("/api/v1/inspect-log", response_model_exclude_none=True)
    async def inspect_log(purl: str, proof: Proof = 0, as_of: AsOf = None) -> InspectLog:
        """List every leaf about a package, in the order of the log."""
        return await parts.log.inspect(Purl.from_user(purl), with_proof=bool(proof), as_of=as_of)

    @app.get("/api/v1/search", response_model=Search, response_model_exclude_none=True)
    async def search(  # noqa: PLR0917 - FastAPI passes them by name
        q: Annotated[str, Query(max_length=1000)],
        limit: Limit = 50,
        cursor: Annotated[int | None, Query(ge=0)] = None,
        proof: Proof = 0,
        as_of: AsOf = None,
        order: Order = "newest",
        form: Annotated[Format, Query(alias="format")] = "json",
    ) -> Search | Response:
        """Search the log; the language is that of docs/reference/search.md."""
        found = await parts.log.search(
            q, limit=limit, cursor=cursor, with_proof=bool(proof), order=order, as_of=as_of
        )
        if form == "json":
            return found
        return Response(encode(found, form), media_type=MEDIA[form], headers=stamp_headers(found))

    @app.get("/api/v1/entries", response_model_exclude_none=True)
    async def entries(
        start: Annotated[int, Query(ge=0)],
        limit: Limit = 50,
        proof: Proof = 0,
        as_of: AsOf = None,
    ) -> Entries:
        """List leaves in a row."""
        return await parts.log.range(start, limit=limit, with_proof=bool(proof), as_of=as_of)

    @app.get("/api/v1/blocks", response_model_exclude_none=True)
    async def blocks(
        top: Annotated[int | None, Query(ge=0)] = None,
        limit: Limit = 50,
        proof: Proof = 0,
        as_of: AsOf = None,
    ) -> Blocks:
        """List blocks, newest first, from height ``top`` on downwards."""
        return await parts.log.blocks(top=top, limit=limit, with_proof=bool(proof), as_of=as_of)

    @app.get("/api/v1/entries/{index}", response_model_exclude_none=True)
    async def entry(index: str, proof: Proof = 0) -> Entry:
        """Return one leaf."""
        return await parts.log.entry(_leaf_index(index), with_proof=bool(proof))

    @app.get("/api/v1/entries/{index}/proof", response_class=PlainTextResponse)
    async def entry_proof(index: str) -> Response:
        """Return a leaf's .tlog-proof, which can be checked offline."""
        return PlainTextResponse(parts.proof_of(_leaf_index(index)))

    @app.get("/api/v1/trust", response_class=PlainTextResponse)
    async def trust() -> Response:
        """Return the node's trust file: genesis and set changes."""
        return PlainTextResponse(parts.trust_text())


def _state_of(transfer: Transfer) -> Literal["running", "complete", "failed"]:
    if transfer.is_running:
        return "running"
    return "failed" if transfer.error else "complete"


def _leaf_index(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInputError(f"entry {text!r:.40} is not a leaf index")
    return int(text)


async def _on_error(_request: Request, error: Exception) -> Response:
    return _answer(error, status_of(error))


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(map(str, each['loc'][1:])) or 'body'}: {each['msg']}" for each in error.errors()
    ]
    return _answer(InvalidInputError("; ".join(problems)), 400)


async def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(NotFoundError("no such call; see /api/v1/openapi.json"), 404)
    return _answer(InvalidInputError(str(error.detail)), error.status_code)


def _answer(error: Exception, status: int) -> Response:
    return Response(
        body_of(error),
        status_code=status,
        media_type="application/json",
        headers=dict(headers_of(error)),
    )
