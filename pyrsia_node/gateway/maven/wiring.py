"""Puts the parts of ``/maven2`` together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.joining_log import JoiningLog
from pyrsia_node.artifacts.maven.catalog import ECOSYSTEM, MavenCatalog
from pyrsia_node.artifacts.maven.policy import MavenPolicy
from pyrsia_node.artifacts.maven.source import MavenSource
from pyrsia_node.artifacts.resolver import Resolver
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.gateway.maven.app import MavenService
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ports import BlobStore, Clock
from pyrsia_node.ports.maven import MavenDb
from pyrsia_node.ports.registry import RegistryDb
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.maven_repositories import UPSTREAM
from pyrsia_node.store.maven_db import open_maven_db


@dataclass(frozen=True, slots=True)
class MavenSurroundings:
    """What the gateway has already. ``registry_db`` knows the use of what peers must not have."""

    genesis: bytes
    log: VerifiedLog
    store: BlobStore
    fetcher: Fetcher
    core: CoreLink
    clock: Clock
    registry_db: RegistryDb


def open_maven(
    stack: AsyncExitStack, layout: Layout, config: Config, around: MavenSurroundings
) -> MavenService:
    """Open the repository on ``stack``.

    Raises:
        CorruptStateError: ``maven.sqlite`` is another program's, or of a newer version.
    """
    section = config.maven
    options = {
        "serve_contradicting": section.serve_contradicting,
        "serve_revoked": section.serve_revoked,
        "is_by_version": True,
    }
    index = IndexReader(layout.root)
    stack.callback(index.close)
    db = open_maven_db(layout.maven)
    stack.callback(db.close)
    catalog = MavenCatalog(
        Resolver(around.log, index, ecosystem=ECOSYSTEM, **options),
        around.fetcher,
        around.store,
        db,
        policy=MavenPolicy.of(section),
        source=_open_upstreams(stack, layout, config, around, db),
        joining=JoiningLog(
            around.core, layout.trust, genesis=around.genesis, ecosystem=ECOSYSTEM, **options
        ),
        may_fetch_ahead=section.fetch_ahead,
    )
    stack.push_async_callback(catalog.close)
    return MavenService(catalog, around.log)


def _open_upstreams(
    stack: AsyncExitStack, layout: Layout, config: Config, around: MavenSurroundings, db: MavenDb
) -> MavenSource | None:
    """Open what clients may be served from, if policy lets any group through at all."""
    section = config.maven
    if UPSTREAM not in {section.policy, *(each.policy for each in section.policies)}:
        return None
    # Imported only here: most nodes have no upstream (see artifacts.maven.source).
    from pyrsia_node.artifacts.images.private_blobs import PrivateBlobs  # noqa: PLC0415
    from pyrsia_node.artifacts.maven.remote import RemoteRepository  # noqa: PLC0415
    from pyrsia_node.artifacts.maven.upstream import MavenUpstreams, UpstreamParts  # noqa: PLC0415

    parts = UpstreamParts(
        store=around.store,
        db=db,
        private=PrivateBlobs(around.store, around.registry_db, around.clock),
        fetcher=around.fetcher,
        router=around.core,
        clock=around.clock,
    )
    upstreams = MavenUpstreams(
        parts,
        [RemoteRepository(entry, layout.partial) for entry in section.upstreams],
        fresh_seconds=section.fresh_seconds,
        negative_seconds=section.negative_seconds,
        is_offline=section.offline,
    )
    stack.push_async_callback(upstreams.close)
    return upstreams
