"""A real gateway with images of the log and room for pushed ones, for tests with real clients.

The log is a real one (``published_log``), made before the gateway starts, and the images' bytes lie
in its store as if they had been fetched. Blocking, because real clients are commands.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyrsia_node.devnet.ports import free_ports
from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.documents import Document as LogDocument
from pyrsia_node.model.documents import FileEntry
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.model.manifests import parse_manifest
from pyrsia_node.model.oci import ImageReference, parse_reference
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.blobs import FileBlobStore
from tests.fakes.gateway_process import CONFIG, START_SECONDS_MAX, make_data_directory
from tests.fakes.images import Image
from tests.fakes.logged_images import DOCKER_PARAMS, image_document, image_file
from tests.fakes.published_log import PublishedLog

PYRSIA = Path(sys.executable).parent / "pyrsia"


@dataclass
class ImageNode:
    """A node that serves images; ``start`` and ``kill`` as often as a test wants."""

    layout: Layout
    log: PublishedLog
    settings: Path
    url: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Return ``HOST:PORT``, what stands before names of images."""
        return self.url.removeprefix("http://")

    @property
    def pid(self) -> int:
        """Return the gateway's process id."""
        assert self._process is not None
        return self._process.pid

    def accept(self, reference: str, image: Image) -> int:
        """Put an image into the log under a name with tag or digest; return its leaf."""
        name = parse_reference(reference, default_host="docker.io")
        self.keep(image)
        return self.log.accept(_document(name, image))

    def keep(self, image: Image) -> None:
        """Put an image's bytes into the store; only while the gateway does not run."""
        assert self._process is None
        store = FileBlobStore(self.layout.blobs, cached_bytes_max=1 << 40)
        documents = (each.data for each in (image.root, *image.children))
        with tempfile.TemporaryDirectory(dir=self.layout.root) as folder:
            for data in (*documents, *image.blobs.values()):
                entry = image_file("layer", data)
                path = Path(folder) / entry.sha256
                path.write_bytes(data)
                if store.stat(entry.sha256) is None:
                    store.adopt(str(path), entry.sha256)

    def start(self) -> None:
        """Start the gateway and wait until it answers; its address stays the same."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyrsia_node.gateway", "--data", str(self.layout.root)],
            stdout=subprocess.DEVNULL,
            env=os.environ,
        )
        self.url = asyncio.run(_ready(self.layout, self._process))
        token = self.layout.root / CONFIG.http.admin_token_file
        port = self.url.rpartition(":")[2]
        self.settings.write_text(f"port = {port}\ntoken_file = '{token}'\n")

    def stop(self) -> None:
        """End it as an operator does."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(20) == 0
            self._process = None

    def kill(self) -> None:
        """End it as the kernel would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pyrsia(self, *words: str | Path) -> str:
        """Run ``pyrsia WORDS`` at this node; return what it says."""
        done = subprocess.run(
            [PYRSIA, *map(str, words)],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PYRSIA_CONFIG": str(self.settings)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, *words: str | Path) -> str:
        """Run ``pyrsia configure WORDS`` for this node; return what it says."""
        return self.pyrsia("configure", *words)


@contextmanager
def image_node(
    folder: Path,
    images: Mapping[str, Image] | None = None,
    *,
    config: Callable[[Config], Config] = lambda config: config,
) -> Iterator[ImageNode]:
    """Run a node whose log has these images by their references."""
    # A port below those that the system gives away: the node comes back at its address.
    (port,) = free_ports(1)
    base = replace(CONFIG, http=replace(CONFIG.http, port=port))
    folder.mkdir(parents=True, exist_ok=True)
    layout = make_data_directory(folder, config(base))
    log = PublishedLog(folder, params=DOCKER_PARAMS)
    node = ImageNode(layout, log, folder / "pyrsia.toml")
    try:
        for reference, image in (images or {}).items():
            node.accept(reference, image)
        node.start()
        yield node
    finally:
        node.stop()
        log.close()


async def _ready(layout: Layout, process: subprocess.Popen[bytes]) -> str:
    client = LinkClient(layout.gateway_socket)
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                try:
                    return str((await client.call("ping", {}))["http_url"])
                except UnavailableError:
                    assert process.poll() is None, "the gateway ended"
                    await asyncio.sleep(0.02)
    finally:
        client.close()


def _document(reference: ImageReference, image: Image) -> LogDocument:
    files: dict[str, FileEntry] = {}
    for document in image.children:
        files[document.digest] = image_file("manifest", document.data, media=document.media)
    for document in image.children or (image.root,):
        manifest = parse_manifest(document.data)
        assert manifest.config is not None
        for role, parts in (("config", (manifest.config,)), ("layer", manifest.parts)):
            for part in parts:
                data = image.blobs[str(part.digest)]
                files[str(part.digest)] = image_file(role, data, media=part.media)
    root = image_file("root", image.root.data, media=image.root.media)
    return image_document(reference.name, reference.version, None, files=(root, *files.values()))
