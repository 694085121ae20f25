"""Which kind a name is, and whose: the log's, this node's own, an upstream's.

docs/design/registry.md, "Names". The order of answers is the log, what was pushed here, upstreams;
a name that the log or an upstream knows is read-only here, so that no push shadows it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

from pyrsia_node.artifacts.images.found import FoundBlob, FoundManifest, LoggedChange
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.gateway.images.access import Rights
from pyrsia_node.gateway.images.routes import Route
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.oci import LIBRARY, ImageName, OciDigest
from pyrsia_node.registry.access import Action, prefixes_of
from pyrsia_node.registry.errors import ReadOnlyError, UnsupportedError
from pyrsia_node.registry.service import Registry

BELIEVED_SECONDS: Final = 0.02
NAMES_KEPT: Final = 4096
OFFICIAL: Final = f"{LIBRARY}/"
"""What the default registry itself publishes."""


class NetworkImages(Protocol):
    """Images that the log or an upstream vouches for (``artifacts.images.images.Images``)."""

    async def manifest(
        self, name: ImageName, reference: str, *, upstream: bool = True
    ) -> FoundManifest:
        """Return a manifest by tag or digest; without ``upstream`` the log alone answers."""
        ...

    async def stat(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> FoundBlob:
        """Return what a blob is, without fetching it."""
        ...

    async def open(self, name: ImageName, digest: OciDigest, *, upstream: bool = True) -> Reader:
        """Return a blob's bytes, streamed while they are still being fetched."""
        ...

    async def tags(self, name: ImageName, *, upstream: bool = True) -> list[str] | None:
        """Return all tags, sorted bytewise; None if nobody knows the name."""
        ...

    async def history(self, name: ImageName, tag: str) -> list[LoggedChange]:
        """Return what the log says of a tag, oldest first."""
        ...

    async def logs(self, name: ImageName) -> bool:
        """Tell whether the log has an entry of this name that counts."""
        ...

    async def knows(self, name: ImageName) -> bool:
        """Tell whether the log, or an upstream that may be asked, knows the name."""
        ...

    def is_private(self, name: ImageName) -> bool:
        """Tell whether this node would ask the name's upstream with credentials."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that a request is about.

    ``image`` is its name in the log and upstream, None for a name that is this node's own whatever
    others say; ``local`` is its name here, None where the request names a registry.
    """

    image: ImageName | None
    local: str | None


class Names:
    """Tells whose a name is."""

    def __init__(
        self,
        images: NetworkImages,
        registry: Registry,
        *,
        default_host: str,
        local_prefixes: tuple[str, ...],
        may_push: bool,
    ) -> None:
        """Take the services, and what the configuration says of names.

        Args:
            images: The log's and upstreams' side.
            registry: This node's own repositories.
            default_host: The registry of names without one.
            local_prefixes: Names under these are always this node's own.
            may_push: Whether anything may be pushed here at all.
        """
        self._images = images
        self._registry = registry
        self._default_host = default_host
        self._local_prefixes = frozenset(local_prefixes)
        self._may_push = may_push
        self._logged: dict[ImageName, tuple[float, bool]] = {}

    def target(self, route: Route) -> Target:
        """Return whom a request's name may belong to; raises RouteError if it is too long."""
        if not route.host and self._local_prefixes.intersection(prefixes_of(route.repository)):
            return Target(None, route.repository)
        image = route.image(default_host=self._default_host)
        return Target(image, None if route.host else route.repository)

    async def is_logged(self, target: Target) -> bool:
        """Tell whether the log answers for a name that is pulled, as of a moment ago.

        Thousands of pulls a second need not look at the log's head each; a push does (``own``).
        """
        image = target.image
        if image is None:
            return False
        now = asyncio.get_running_loop().time()
        until, is_logged = self._logged.get(image, (now, False))
        if until <= now:
            is_logged = await self._images.logs(image)
            if len(self._logged) >= NAMES_KEPT:
                self._logged.clear()
            self._logged[image] = now + BELIEVED_SECONDS, is_logged
        return is_logged

    async def own(self, target: Target, rights: Rights, action: Action) -> str:
        """Return the name of a repository that a client may change here.

        The upstream is asked last: neither may strangers make this node ask, nor does it tell
        anybody the names of private repositories.

        Raises:
            UnsupportedError: Nothing may be pushed to this node.
            ReadOnlyError: The name is somebody else's.
            AccessError: The client may not change it.
            UnavailableError: It would be new, and whether it is somebody else's cannot be told.
        """
        local, image = target.local, target.image
        if local is None:
            raise ReadOnlyError(f"{image} is another registry's: push to a name without a registry")
        if not self._may_push:
            raise UnsupportedError("this node takes no pushes: registry.enabled is false")
        if image is not None and await self._images.logs(image):
            raise ReadOnlyError(f"{local} is {image} in the network's log, and read-only here")
        is_new = not self._registry.has_repository(local)
        if image is not None and is_new and local.startswith(OFFICIAL):
            # Mirrors are asked by these names without a registry: whoever may push would decide
            # what they are for every client of this node, whether or not anybody is asked.
            raise ReadOnlyError(f"{local} means {image}; push below another name")
        rights.check(action, local)
        if image is None or rights.is_private(local) or not is_new:
            return local
        await self._check_new(local, image)
        return local

    async def _check_new(self, local: str, image: ImageName) -> None:
        try:
            known = await self._images.knows(image)
        except UnavailableError as error:
            raise UnavailableError(
                f"whether {image} exists cannot be told just now ({error}); try again, or put a"
                " prefix of the name into registry.local_prefixes"
            ) from error
        if known:
            raise ReadOnlyError(f"{local} is {image} at its registry, and read-only here")

    def check_upstream(self, target: Target, rights: Rights, asked: str) -> ImageName:
        """Return the image whose upstream a client may have asked.

        Raises:
            AccessError: This node would ask with credentials, and the client has no right to what
                they open.
        """
        assert target.image is not None
        if self._images.is_private(target.image):
            rights.check_credentialed(target.image, asked)
        return target.image
