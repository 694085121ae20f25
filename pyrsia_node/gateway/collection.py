"""Puts garbage collection together: the collector, its timer and its routes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from fastapi import FastAPI

from pyrsia_node.gateway.admin import AdminGate
from pyrsia_node.gateway.gc_routes import add_collection_routes
from pyrsia_node.ports import Clock
from pyrsia_node.registry.collecting import Collections
from pyrsia_node.registry.collector import CollectedPorts, CollectionPolicy, Collector
from pyrsia_node.registry.explaining import explain
from pyrsia_node.schema.collection import Explanation
from pyrsia_node.schema.config import Config

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000


def open_collection(
    stack: AsyncExitStack, config: Config, ports: CollectedPorts, clock: Clock, gate: AdminGate
) -> Callable[[FastAPI], None]:
    """Finish what a crash cut off, start the timer, which ``stack`` stops; return the routes.

    Call it after everything that uses the ports was put on ``stack``, and before the database
    could be closed: a run under way ends before ``stack`` goes on.
    """
    policy = policy_of(config)
    collector = Collector(ports, clock, policy)
    collector.finish()
    collections = Collections(collector, clock, pause_s=config.registry.collect_minutes * 60.0)
    stack.push_async_callback(collections.close)
    collections.start()

    def why(digest: str) -> Explanation:
        return explain(ports, policy, clock, digest)

    def add(app: FastAPI) -> None:
        add_collection_routes(app, collections, why, gate)

    return add


def policy_of(config: Config) -> CollectionPolicy:
    """Return when something goes, as the operator set it."""
    return CollectionPolicy(
        grace_ms=config.registry.grace_minutes * _MINUTE_MS,
        upload_ms=config.registry.upload_days * _DAY_MS,
        cache_bytes_max=config.cache.bytes_max,
        cache_bytes_low=config.cache.bytes_max * config.cache.low_percent // 100,
    )
