"""The registries that this node may ask, each with one client: the allow-list, nothing beside it.

``docker.upstreams`` names them (``schema.upstreams``). Clients are made when they are needed first
and share nothing but the credential file.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

from yarl import URL

from pyrsia_node.artifacts.images.credentials import CredentialFile
from pyrsia_node.artifacts.images.registry_client import RegistryClient
from pyrsia_node.artifacts.images.tokens import Authorizer
from pyrsia_node.artifacts.safe_http import SafeHttp
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.schema.upstreams import RegistryUpstream, find_upstream

CLIENTS_MAX: Final = 256
"""Registries at once; only a list with ``*`` can reach it."""


class Upstreams:
    """Clients by registry."""

    def __init__(self, entries: tuple[RegistryUpstream, ...], auth_file: Path | None) -> None:
        """Allow ``entries``; make it inside a running event loop.

        Args:
            entries: ``docker.upstreams``.
            auth_file: ``docker.auth_file``, if there is one.
        """
        self._entries = entries
        self._credentials = CredentialFile(auth_file)
        self._nobody = CredentialFile(None)
        self._clients: OrderedDict[tuple[str, bool], RegistryClient] = OrderedDict()

    def allows(self, name: ImageName) -> bool:
        """Tell whether the registry of an image may be asked."""
        return find_upstream(self._entries, name.host) is not None

    def is_private(self, name: ImageName) -> bool:
        """Tell whether an image is asked for with credentials; raises UnavailableError."""
        return self._credentials.login(name) is not None or self._has_user(name)

    def is_public(self, name: ImageName) -> bool:
        """Tell whether anybody could have an image from its registry, other nodes among them.

        Not with credentials, and not from a registry inside a private network.
        """
        entry = find_upstream(self._entries, name.host)
        return entry is not None and not entry.allow_private and not self.is_private(name)

    def may_import(self, name: ImageName) -> bool:
        """Tell whether an import may make an image public; True if its registry is unknown here."""
        entry = find_upstream(self._entries, name.host)
        return entry is None or entry.may_import

    async def client(self, name: ImageName, *, anonymous: bool = False) -> RegistryClient:
        """Return what asks the registry of an image; ``anonymous`` without any credentials.

        Raises:
            NotFoundError: The configuration does not allow to ask it.
        """
        entry = find_upstream(self._entries, name.host)
        if entry is None:
            raise NotFoundError(
                f"this node does not ask {name.host}: no entry of docker.upstreams allows it"
            )
        key = (name.host, anonymous)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._open(entry, anonymous=anonymous)
            if len(self._clients) > CLIENTS_MAX:
                _, oldest = self._clients.popitem(last=False)
                await oldest.close()
        self._clients.move_to_end(key)
        return client

    async def close(self) -> None:
        """Close every client."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()

    def _has_user(self, name: ImageName) -> bool:
        entry = find_upstream(self._entries, name.host)
        return entry is not None and bool(URL(entry.url).user)

    def _open(self, entry: RegistryUpstream, *, anonymous: bool) -> RegistryClient:
        url = str(URL(entry.url).with_user(None)) if anonymous else entry.url
        http = SafeHttp(
            url,
            allow_private=entry.allow_private,
            setting=f"allow_private of {entry.host} in docker.upstreams",
        )
        credentials = self._nobody if anonymous else self._credentials
        rights = Authorizer(http, credentials, is_secure=url.startswith("https:"))
        return RegistryClient(url, http, rights)
