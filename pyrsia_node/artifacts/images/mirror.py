"""Fetches an image whole from its upstream: what a member attests that it saw by itself.

Root, the manifests of the platforms asked for (all of them if none is named), configs and layers;
every digest and size is checked, and the blobs become shared. Nothing comes from peers. At the end
the upstream is asked once more what the tag is. docs/design/registry.md, "In the log".

The image must be one that anybody may pull: everything is fetched without credentials, and nothing
from a registry inside a private network unless its entry says so, because a request of others must
not make this node publish what it alone may see.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyrsia_node.artifacts.images.facts import (
    CONFIG_BYTES_MAX,
    config_platform,
    image_facts,
    is_platform,
)
from pyrsia_node.artifacts.images.intakes import Intakes, Wanted
from pyrsia_node.artifacts.images.keeping import keep_bytes
from pyrsia_node.artifacts.images.registry_client import JOB_WAITS, RegistryClient, RemoteManifest
from pyrsia_node.artifacts.images.upstreams import Upstreams
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.manifests import Descriptor, Manifest, parse_manifest
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.ports import BlobInfo, BlobStore, Clock
from pyrsia_node.schema.mirroring import FILES_MAX, Look, Mirrored, MirroredFile

DEPTH_MAX: Final = 4
"""Indexes in indexes."""

FETCHES_MAX: Final = 4
"""Blobs at once, of all imports together."""

UNKNOWN_PLATFORM: Final = "unknown/unknown"
"""The platform under which indexes list attestations: documents about the image."""


class MovedError(Exception):
    """The tag is another digest by now; ``seen_ms`` is when that was seen."""

    def __init__(self, now: OciDigest, seen_ms: int) -> None:
        """Remember what the tag is."""
        super().__init__(str(now))
        self.now = now
        self.seen_ms = seen_ms


@dataclass(frozen=True, slots=True)
class Wish:
    """What to fetch. With ``tag`` that is looked at again in the end."""

    name: ImageName
    digest: OciDigest
    tag: str | None
    platforms: tuple[str, ...]


@dataclass(slots=True)
class Progress:
    """Where it stands, for people; bytes count blobs, whose sizes manifests tell."""

    stage: str = "waiting"
    detail: str = ""
    total_bytes: int = 0
    done: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class _Part:
    role: str
    descriptor: Descriptor
    platform: str


@dataclass(slots=True)
class _Plan:
    """The parts of an image, each digest once, in the order in which they were found."""

    wish: Wish
    leases: ExitStack
    bytes_max: int
    bytes: int = 0
    parts: dict[OciDigest, _Part] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)
    first_config: OciDigest | None = None
    platforms: list[str] = field(default_factory=list)

    def add(self, role: str, descriptor: Descriptor, platform: str = "") -> bool:
        """Take a part in; tells whether it is new.

        Raises:
            VerificationError: It was told with another size before.
            InvalidInputError: There are too many, or too many bytes in all.
        """
        known = self.parts.get(descriptor.digest)
        if known is not None:
            if known.descriptor.size != descriptor.size:
                raise VerificationError(f"{descriptor.digest} is told with two sizes")
            return False
        if len(self.parts) == FILES_MAX:
            raise InvalidInputError(f"the image has more than {FILES_MAX} files")
        self.bytes += descriptor.size
        if self.bytes > self.bytes_max:
            raise InvalidInputError(
                f"the image has more than {self.bytes_max} bytes (docker.import_bytes_max)"
            )
        self.parts[descriptor.digest] = _Part(role, descriptor, platform)
        return True

    def wants(self, platform: str) -> bool:
        """Tell whether a platform was asked for: without a variant all of its variants are."""
        return not self.wish.platforms or any(
            platform == each or platform.startswith(f"{each}/") for each in self.wish.platforms
        )


@dataclass(frozen=True, slots=True)
class MirrorParts:
    """What imports stand on; ``folder`` takes manifests until they are in ``store``."""

    upstreams: Upstreams
    intakes: Intakes
    store: BlobStore
    folder: Path
    clock: Clock


class ImageMirror:
    """Looks at tags and fetches images, for members that attest them."""

    def __init__(self, parts: MirrorParts, *, bytes_max: int) -> None:
        """Fetch images of at most ``bytes_max`` bytes in all."""
        self._upstreams = parts.upstreams
        self._intakes = parts.intakes
        self._store = parts.store
        self._folder = parts.folder
        self._clock = parts.clock
        self._bytes_max = bytes_max
        self._slots = asyncio.Semaphore(FETCHES_MAX)

    async def look(self, name: ImageName, tag: str) -> Look:
        """Return what a tag is at its upstream now, as anybody may see it.

        Raises:
            NotFoundError: It is not there, is not public, or its registry may not be asked.
            UnavailableError: It cannot be asked just now.
            VerificationError: The registry contradicts itself.
        """
        client = await self._client(name)
        found = await client.look(name, tag, patience=JOB_WAITS)
        return Look(
            digest=str(found.digest),
            media=found.media,
            size=found.size,
            seen_ms=self._clock.now_ms(),
        )

    async def fetch(self, wish: Wish, progress: Progress, leases: ExitStack) -> Mirrored:
        """Return when the image is in the store, whole.

        Args:
            wish: What to fetch.
            progress: Kept up to date.
            leases: Keeps all of it in the store until the caller closes it.

        Raises:
            MovedError: The tag is another digest by now.
            InvalidInputError: The image is none that can be mirrored; says why.
            NotFoundError, UnavailableError, VerificationError: As :meth:`look`.
        """
        plan = _Plan(wish, leases, self._bytes_max)
        client = await self._client(wish.name)
        progress.stage = "manifests"
        root = await client.manifest(wish.name, str(wish.digest), patience=JOB_WAITS)
        await self._manifest(client, plan, "root", root, "", depth=1)
        if wish.platforms and not plan.platforms:
            raise InvalidInputError(f"{wish.name} has none of {', '.join(wish.platforms)}")
        progress.stage = "blobs"
        infos = await self._blobs(client, plan, progress)
        facts = image_facts(
            await asyncio.to_thread(self._config, plan, infos),
            [each.annotations for each in reversed(plan.manifests[:2])],
            plan.platforms,
        )
        progress.stage = "tag"
        seen_ms = await self._seen(client, wish, root)
        files = [_file(part, infos[digest]) for digest, part in plan.parts.items()]
        return Mirrored(files=files, facts=facts, seen_ms=seen_ms)

    async def _client(self, name: ImageName) -> RegistryClient:
        """Return what asks the registry as anybody could; raises NotFoundError."""
        if not self._upstreams.may_import(name):
            raise NotFoundError(
                f"this node imports nothing from {name.host}: what lies inside a private network "
                "becomes public only with importable = true in its entry of docker.upstreams"
            )
        return await self._upstreams.client(name, anonymous=True)

    # ------------------------------------------------------------ manifests

    async def _manifest(
        self,
        client: RegistryClient,
        plan: _Plan,
        role: str,
        found: RemoteManifest,
        platform: str,
        *,
        depth: int,
    ) -> None:
        """Take in a manifest and all that it needs."""
        manifest = _parsed(found)
        own = Descriptor(manifest.media, found.digest, len(found.data))
        plan.add(role, own, platform)
        info = await asyncio.to_thread(keep_bytes, self._store, self._folder, found.data)
        plan.leases.enter_context(self._store.lease(info.sha256))
        self._intakes.note_sha256(found.digest, info.sha256)
        plan.manifests.append(manifest)
        if manifest.is_index:
            await self._children(client, plan, manifest, depth=depth)
            return
        if depth == 1:
            platform = await self._platform_of(client, plan, manifest)
        _add_blobs(plan, manifest, platform)

    async def _children(
        self, client: RegistryClient, plan: _Plan, index: Manifest, *, depth: int
    ) -> None:
        if depth == DEPTH_MAX:
            raise InvalidInputError(f"indexes are nested more than {DEPTH_MAX} deep")
        for child in index.parts:
            if child.digest in plan.parts or (child.platform and not plan.wants(child.platform)):
                continue
            if not child.platform and plan.wish.platforms and not child.is_manifest:
                continue
            if not child.is_manifest:
                plan.add("layer", child)
                continue
            found = await client.manifest(plan.wish.name, str(child.digest), patience=JOB_WAITS)
            if len(found.data) != child.size:
                raise VerificationError(f"{child.digest} has {len(found.data)} bytes")
            await self._manifest(client, plan, "manifest", found, child.platform, depth=depth + 1)

    async def _platform_of(self, client: RegistryClient, plan: _Plan, manifest: Manifest) -> str:
        """Return the platform of an image without an index, which its config alone tells."""
        config = manifest.config
        if config is None or config.size > CONFIG_BYTES_MAX:
            return ""
        info = await self._blob(client, plan, config)
        data = await asyncio.to_thread(self._read, info.sha256)
        platform = config_platform(data)
        if plan.wish.platforms and not plan.wants(platform):
            raise InvalidInputError(f"{plan.wish.name} is for {platform or 'no platform'} alone")
        return platform

    # ------------------------------------------------------------ blobs

    async def _blobs(
        self, client: RegistryClient, plan: _Plan, progress: Progress
    ) -> dict[OciDigest, BlobInfo]:
        """Fetch what the manifests need, some at once; the first error ends all."""
        wanted = [part.descriptor for part in plan.parts.values() if not _is_manifest(part)]
        progress.total_bytes = sum(each.size for each in wanted)
        progress.done = lambda: sum(self._written(each) for each in wanted)
        infos = {
            digest: BlobInfo(info.sha256, info.size, info.pieces)
            for digest, part in plan.parts.items()
            if _is_manifest(part) and (info := self._stored(digest)) is not None
        }
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    each.digest: group.create_task(self._blob(client, plan, each))
                    for each in wanted
                }
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return infos | {digest: task.result() for digest, task in tasks.items()}

    async def _blob(self, client: RegistryClient, plan: _Plan, wanted: Descriptor) -> BlobInfo:
        """Return a blob that is in the store, and stays there while the plan's leases live."""
        name = plan.wish.name
        for _ in range(3):
            info = self._stored(wanted.digest) or await self._fetched(client, name, wanted)
            if info.size != wanted.size:
                raise VerificationError(f"{wanted.digest} has {info.size} bytes, not {wanted.size}")
            # What another large blob pushed out of the cache just now is fetched again.
            with contextlib.suppress(NotFoundError):
                plan.leases.enter_context(self._store.lease(info.sha256))
                return info
        raise UnavailableError(f"{wanted.digest} comes and goes: the cache is too small")

    async def _fetched(
        self, client: RegistryClient, name: ImageName, wanted: Descriptor
    ) -> BlobInfo:
        async with self._slots:
            intake = self._intakes.begin(
                Wanted(wanted.digest, name.host, wanted.size),
                lambda start: client.blob(name, wanted.digest, start=start, patience=JOB_WAITS),
                patience=JOB_WAITS,
            )
            return await intake.wait()

    def _stored(self, digest: OciDigest) -> BlobInfo | None:
        """Return a blob that may be given to everybody already.

        One that is only local does not count: that somebody names it is no proof that its upstream
        has it, and what was pushed here must not become public by being named.
        """
        sha256 = self._intakes.sha256_of(digest)
        if sha256 is None or not self._store.is_shared(sha256):
            return None
        return self._store.stat(sha256)

    def _written(self, wanted: Descriptor) -> int:
        intake = self._intakes.running(wanted.digest, local=False)
        if intake is not None:
            return intake.written
        return wanted.size if self._stored(wanted.digest) is not None else 0

    def _config(self, plan: _Plan, infos: dict[OciDigest, BlobInfo]) -> bytes:
        info = None if plan.first_config is None else infos.get(plan.first_config)
        return b"" if info is None or info.size > CONFIG_BYTES_MAX else self._read(info.sha256)

    def _read(self, sha256: str) -> bytes:
        with self._store.lease(sha256) as path:
            return Path(path).read_bytes()

    async def _seen(self, client: RegistryClient, wish: Wish, root: RemoteManifest) -> int:
        """Return when the tag was seen to be still this image; raises MovedError."""
        if wish.tag is None:
            return self._clock.now_ms()
        now = (await client.look(wish.name, wish.tag, patience=JOB_WAITS)).digest
        if now.algorithm != wish.digest.algorithm:
            found = await client.manifest(wish.name, wish.tag, patience=JOB_WAITS)
            now = wish.digest if found.data == root.data else found.digest
        seen_ms = self._clock.now_ms()
        if now != wish.digest:
            raise MovedError(now, seen_ms)
        return seen_ms


def _parsed(found: RemoteManifest) -> Manifest:
    known = found.media if found.media.startswith("application/vnd.") else ""
    return parse_manifest(found.data, media=known)


def _add_blobs(plan: _Plan, manifest: Manifest, platform: str) -> None:
    is_image = platform not in {"", UNKNOWN_PLATFORM}
    if is_image:
        plan.platforms.append(platform)
    if manifest.config is not None:
        plan.add("config", manifest.config, platform)
        if plan.first_config is None and (is_image or not plan.wish.platforms):
            plan.first_config = manifest.config.digest
    for layer in manifest.parts:
        if layer.must_be_here:
            plan.add("layer", layer)


def _is_manifest(part: _Part) -> bool:
    return part.role in {"root", "manifest"}


def _file(part: _Part, info: BlobInfo) -> MirroredFile:
    assert info.pieces is not None  # a shared blob has its pieces
    return MirroredFile.model_validate(
        {
            "role": part.role,
            "digest": str(part.descriptor.digest),
            "sha256": info.sha256,
            "size": info.size,
            "pieces": info.pieces,
            "media": part.descriptor.media,
            "platform": part.platform if is_platform(part.platform) else "",
        }
    )
