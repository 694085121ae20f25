"""Puts ``/v2`` together: the registry's database and uploads, the door, the handlers."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from pyrsia_node.gateway.images.access import AccessGate
from pyrsia_node.gateway.images.app import ImagesApp
from pyrsia_node.gateway.images.lists import Lists
from pyrsia_node.gateway.images.names import Names, NetworkImages
from pyrsia_node.gateway.images.pulls import Pulls
from pyrsia_node.gateway.images.pushes import Pushes
from pyrsia_node.gateway.images.token_endpoint import TokenEndpoint
from pyrsia_node.ports import BlobStore, Clock
from pyrsia_node.ports.registry import RegistryDb
from pyrsia_node.ports.registry_blobs import BlobUploads
from pyrsia_node.registry.access import anonymous_mode
from pyrsia_node.registry.accounts import Accounts
from pyrsia_node.registry.passwords import PasswordChecker
from pyrsia_node.registry.service import Registry
from pyrsia_node.registry.sessions import SessionPorts
from pyrsia_node.registry.tokens import TokenSigner
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.registry_db import open_registry_db
from pyrsia_node.store.uploads import FileBlobUploads

_log: Final = logging.getLogger("pyrsia.gateway")
_MEANING: Final = {
    "push": "push, and pull what is not private (registry.anonymous)",
    "pull": "pull what is not private (registry.anonymous)",
    "none": "pull what the network vouches for alone (registry.anonymous)",
}


@dataclass(frozen=True, slots=True)
class RegistryParts:
    """What is opened for the registry, and what others need of it."""

    db: RegistryDb
    uploads: BlobUploads
    store: BlobStore
    accounts: Accounts
    signer: TokenSigner
    app: ImagesApp


def open_registry(
    stack: AsyncExitStack,
    layout: Layout,
    config: Config,
    *,
    store: BlobStore,
    images: NetworkImages,
    token_key: bytes,
    clock: Clock,
) -> RegistryParts:
    """Open the database and put the application together.

    Args:
        stack: Closes the database.
        layout: The data directory. The registry's own files are made where they are absent, as in
            a directory from before there was a registry, unless something was pushed to it.
        config: The node's configuration.
        store: Where blobs are.
        images: What the log and upstreams vouch for.
        token_key: Signs tokens; 32 bytes.
        clock: The time.
    """
    db = open_registry_db(layout.registry, layout.blobs / "local")
    stack.callback(db.close)
    uploads = FileBlobUploads(layout.uploads, store)
    registry = Registry(SessionPorts(db, uploads, store, clock, folder=layout.blobs))
    names = Names(
        images,
        registry,
        default_host=config.docker.default_registry,
        local_prefixes=config.registry.local_prefixes,
        may_push=config.registry.enabled,
    )
    mode = anonymous_mode(config.registry.anonymous, config.http.host)
    _log.info("clients without an account may %s", _MEANING[mode])
    accounts = Accounts(db, mode, clock.monotonic_s)
    signer = TokenSigner(token_key)
    gate, token = _make_door(accounts, signer, clock, config.http.public_url)
    app = ImagesApp(
        Pulls(names, images, registry, store),
        Pushes(names, registry),
        Lists(names, images, registry),
        identify=gate.identify,
        token=token,
    )
    return RegistryParts(db, uploads, store, accounts, signer, app)


def _make_door(
    accounts: Accounts, signer: TokenSigner, clock: Clock, public_url: str
) -> tuple[AccessGate, TokenEndpoint]:
    passwords = PasswordChecker(clock.monotonic_s)
    gate = AccessGate(accounts, passwords, signer, clock.now_ms, public_url)
    return gate, TokenEndpoint(gate, accounts, signer, clock.now_ms)
