"""The upstream registries of one gateway: what imports and pull-through share, opened at first use.

A node that asks no upstream loads no HTTP client for it (about 20 MB and a quarter of a second), so
everything that needs one is imported inside the functions that make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.artifacts.images.requests import ImportRequests
from pyrsia_node.artifacts.images.source import ImageSource
from pyrsia_node.gateway.core_link import CoreLink
from pyrsia_node.model.oci import PURL_TYPE, ImageName
from pyrsia_node.ports import BlobStore, Clock
from pyrsia_node.ports.registry import RegistryDb
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.link_terms import Handler
from pyrsia_node.schema.links import BuildParams

if TYPE_CHECKING:
    from pyrsia_node.artifacts.images.intakes import Intakes
    from pyrsia_node.artifacts.images.proxy import ImageProxy
    from pyrsia_node.artifacts.images.upstreams import Upstreams
    from pyrsia_node.gateway.mirror_jobs import MirrorJobs

MIRROR_METHODS: Final = ("look", "mirror", "mirror_job", "mirror_forget")
MIRROR_TIMEOUTS_S: Final[Mapping[str, float]] = {"look": 120.0, "mirror_forget": 30.0}

LEFT_SHARE: Final = 8
"""What failed fetches leave may take this part of the cache's space beside it."""


class ImageSources:
    """Makes each part once; ``stack`` closes what was made."""

    def __init__(
        self,
        stack: AsyncExitStack,
        layout: Layout,
        config: Config,
        store: BlobStore,
        clock: Clock,
    ) -> None:
        """Ask the registries of ``config``; bytes go into ``store``."""
        self._stack = stack
        self._layout = layout
        self._config = config
        self._store = store
        self._clock = clock
        self._upstreams: Upstreams | None = None
        self._intakes: Intakes | None = None
        self._jobs: MirrorJobs | None = None
        self._proxy: ImageProxy | None = None
        stack.push_async_callback(self._close)

    def mirror_table(self) -> dict[str, Handler]:
        """Return the handlers of ``run/gateway.sock`` about imports."""
        return {method: self._handler(method) for method in MIRROR_METHODS}

    def source(self, db: RegistryDb) -> ImageSource | None:
        """Return what pulls through upstreams; None if policy denies what the log does not know."""
        docker = self._config.docker
        if docker.policy != "upstream":
            return None
        if self._proxy is None:
            from pyrsia_node.artifacts.images.proxy import ImageProxy, ProxyParts  # noqa: PLC0415

            upstreams, intakes = self._parts()
            folder = self._layout.partial
            parts = ProxyParts(upstreams, intakes, self._store, folder, db, self._clock)
            self._proxy = ImageProxy(
                parts, fresh_seconds=docker.fresh_seconds, is_offline=docker.offline
            )
            # Once more, because ``db`` was opened after this: nothing may write to it when closed.
            self._stack.push_async_callback(self._close)
        return self._proxy

    # ------------------------------------------------------------ inside

    def _handler(self, method: str) -> Handler:
        async def call(params: JsonObject) -> Mapping[str, object]:
            return await self._mirror_jobs().table()[method](params)

        return call

    def _parts(self) -> tuple[Upstreams, Intakes]:
        if self._upstreams is None or self._intakes is None:
            from pyrsia_node.artifacts.images.intakes import Intakes  # noqa: PLC0415
            from pyrsia_node.artifacts.images.upstreams import Upstreams  # noqa: PLC0415

            docker = self._config.docker
            auth_file = self._layout.root / docker.auth_file if docker.auth_file else None
            self._upstreams = Upstreams(docker.upstreams, auth_file)
            self._intakes = Intakes(
                self._store,
                self._layout.partial,
                left_bytes_max=self._config.cache.bytes_max // LEFT_SHARE,
            )
        return self._upstreams, self._intakes

    def _mirror_jobs(self) -> MirrorJobs:
        if self._jobs is None:
            from pyrsia_node.artifacts.images.mirror import ImageMirror, MirrorParts  # noqa: PLC0415
            from pyrsia_node.gateway.mirror_jobs import MirrorJobs  # noqa: PLC0415

            upstreams, intakes = self._parts()
            folder = self._layout.partial
            parts = MirrorParts(upstreams, intakes, self._store, folder, self._clock)
            mirror = ImageMirror(parts, bytes_max=self._config.docker.import_bytes_max)
            self._jobs = MirrorJobs(mirror, default_host=self._config.docker.default_registry)
        return self._jobs

    async def _close(self) -> None:
        if self._jobs is not None:
            await self._jobs.close()
        if self._proxy is not None:
            await self._proxy.close()
        if self._intakes is not None:
            await self._intakes.close()
        if self._upstreams is not None:
            await self._upstreams.close()


def import_requests(stack: AsyncExitStack, config: Config, core: CoreLink) -> ImportRequests | None:
    """Return what turns misses into wishes for imports, where the operator wants that."""
    if not config.docker.request_on_miss:
        return None

    async def ask(name: ImageName, reference: str) -> None:
        wish = {"ecosystem": PURL_TYPE, "name": str(name), "version": reference}
        await core.build(BuildParams.parse(wish))

    requests = ImportRequests(ask, per_hour=config.docker.requests_per_hour)
    stack.push_async_callback(requests.close)
    return requests
