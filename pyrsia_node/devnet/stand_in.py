"""Debian's ``docker-registry`` as the registry that a node mirrors: a real one, on loopback.

For demonstrations and tests on machines without the registries that people use. One process with a
folder and a port of its own, ended by its own id.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from pyrsia_node.devnet.images import Image
from pyrsia_node.model.errors import UnavailableError

_START_SECONDS_MAX = 15
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_ASKED = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d+) ')


@dataclass
class DebianRegistry:
    """A ``docker-registry`` over a folder. Stopped and started again it has the same address."""

    folder: Path
    settings: dict[str, object]
    port: int = 0
    _process: subprocess.Popen[str] | None = None
    _lines: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @property
    def host(self) -> str:
        """Return ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the address under which ``/v2/`` answers."""
        return f"http://{self.host}"

    @property
    def pid(self) -> int:
        """Return the process id of the running registry."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens."""
        config = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": {"addr": self.host, "secret": "a secret of tests"},
            **self.settings,
        }
        path = self.folder / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML, too
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        is_listening = threading.Event()
        self._reader = threading.Thread(
            target=self._read, args=(self._process, is_listening), daemon=True
        )
        self._reader.start()
        if not is_listening.wait(_START_SECONDS_MAX) or not self.port:
            self.stop()
            raise UnavailableError("\n".join(["docker-registry does not listen:", *self._lines]))

    def stop(self) -> None:
        """End it; who asks it gets a refused connection."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(15)
        assert self._reader is not None
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def asked(self) -> list[tuple[str, str, int]]:
        """Return method, target and status of the requests it has written down so far.

        It writes after it has answered: who must have all of them stops it first.
        """
        found = (_ASKED.search(line) for line in list(self._lines))
        return [(each[1], each[2], int(each[3])) for each in found if each]

    def forget_asked(self) -> None:
        """Begin the list of requests anew."""
        self._lines.clear()

    def push(self, image: Image, repository: str, *tags: str) -> str:
        """Push an image to a registry that wants no password; returns its digest."""
        push(image, self.url, repository, *tags)
        return image.digest

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest, as an upstream does that takes an image back."""
        httpx.delete(f"{self.url}/v2/{repository}/manifests/{digest}").raise_for_status()

    def _read(self, process: subprocess.Popen[str], is_listening: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.rstrip())
            found = _LISTENING.search(line)
            if found:
                self.port = int(found[1])
                is_listening.set()
        is_listening.set()


@contextmanager
def running_registry(
    folder: Path, settings: Mapping[str, object] | None = None, *, port: int = 0
) -> Iterator[DebianRegistry]:
    """Run a registry; without ``settings`` everybody may pull from it and push to it."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = DebianRegistry(folder, dict(settings or {}), port)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def push(
    image: Image, url: str, repository: str, *tags: str, auth: tuple[str, str] | None = None
) -> None:
    """Push an image to any registry: blobs in one request each, children before their index."""
    with httpx.Client(base_url=f"{url}/v2/{repository}", auth=auth, timeout=60) as client:
        for digest, data in image.blobs.items():
            if client.head(f"/blobs/{digest}").status_code == 200:
                continue
            begun = client.post("/blobs/uploads/").raise_for_status()
            # A relative place is legal, and what is in its query belongs to it.
            place = httpx.URL(url).join(begun.headers["Location"])
            sent = client.put(place.copy_add_param("digest", digest), content=data)
            sent.raise_for_status()
        for child in image.children:
            _put_manifest(client, child.digest, child.media, child.data)
        for reference in tags or (image.digest,):
            _put_manifest(client, reference, image.root.media, image.root.data)


def _put_manifest(client: httpx.Client, reference: str, media: str, data: bytes) -> None:
    headers = {"Content-Type": media}
    client.put(f"/manifests/{reference}", content=data, headers=headers).raise_for_status()
