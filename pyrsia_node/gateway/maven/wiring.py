"""Puts the parts of ``/maven2`` together."""

from __future__ import annotations

from contextlib import AsyncExitStack

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.joining_log import JoiningCore, JoiningLog
from pyrsia_node.artifacts.maven.catalog import ECOSYSTEM, MavenCatalog
from pyrsia_node.artifacts.maven.policy import MavenPolicy
from pyrsia_node.artifacts.maven.source import MavenSource
from pyrsia_node.artifacts.resolver import Resolver
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.gateway.maven.app import MavenService
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ports import BlobStore, Clock, Router
from pyrsia_node.ports.maven import MavenDb
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.maven_repositories import UPSTREAM
from pyrsia_node.store.maven_db import open_maven_db


def open_maven(
    stack: AsyncExitStack,
    layout: Layout,
    config: Config,
    *,
    genesis: bytes,
    log: VerifiedLog,
    store: BlobStore,
    fetcher: Fetcher,
    router: Router,
    core: JoiningCore,
    clock: Clock,
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
    resolver = Resolver(log, index, ecosystem=ECOSYSTEM, **options)
    joining = JoiningLog(core, layout.trust, genesis=genesis, ecosystem=ECOSYSTEM, **options)
    db = open_maven_db(layout.maven)
    stack.callback(db.close)
    source = _open_upstreams(
        stack, layout, config, db=db, store=store, fetcher=fetcher, router=router, clock=clock
    )
    policy = MavenPolicy.of(section)
    catalog = MavenCatalog(
        resolver, fetcher, store, db, policy=policy, source=source, joining=joining
    )
    return MavenService(catalog, log)


def _open_upstreams(
    stack: AsyncExitStack,
    layout: Layout,
    config: Config,
    *,
    db: MavenDb,
    store: BlobStore,
    fetcher: Fetcher,
    router: Router,
    clock: Clock,
) -> MavenSource | None:
    """Open what clients may be served from, if policy lets any group through at all."""
    section = config.maven
    if UPSTREAM not in {section.policy, *(each.policy for each in section.policies)}:
        return None
    # Imported only here: most nodes have no upstream (see artifacts.maven.source).
    from pyrsia_node.artifacts.maven.remote import RemoteRepository  # noqa: PLC0415
    from pyrsia_node.artifacts.maven.upstream import MavenUpstreams, UpstreamParts  # noqa: PLC0415

    upstreams = MavenUpstreams(
        UpstreamParts(store, db, fetcher, router, clock),
        [RemoteRepository(entry, layout.partial) for entry in section.upstreams],
        fresh_seconds=section.fresh_seconds,
        negative_seconds=section.negative_seconds,
        is_offline=section.offline,
    )
    stack.push_async_callback(upstreams.close)
    return upstreams
