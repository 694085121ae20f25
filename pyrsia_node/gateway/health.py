"""``/livez``, ``/healthz`` and ``/readyz``: what supervisors of containers ask.

Live is a gateway that answers. Ready is one that has a log to vouch by; while the core restarts it
stays ready, because what is here is served without it.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse


def add_health_routes(app: FastAPI, check_ready: Callable[[], object]) -> None:
    """Add the routes; ``check_ready`` raises UnavailableError, with the reason, until it is."""

    @app.get("/livez", response_class=PlainTextResponse)
    @app.get("/healthz", response_class=PlainTextResponse)
    async def live() -> str:
        """Answer: this gateway serves."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def ready() -> str:
        """Answer 200 once there is a log to vouch by, 503 with the reason before."""
        check_ready()
        return "ok\n"
