"""A Maven repository over folders: the upstream that demonstration, tests and benchmarks stand on.

Serves the union of its folders, the first that has a file wins, and computes ``.sha1``, ``.md5``,
``.sha256``, ``.sha512`` and ``maven-metadata.xml`` (of an artifact and of a group's plugins).
It can be stopped and started at the same port, told to answer wrongly, and keeps every request.
For loopback alone: nobody may depend on it for anything but to see what a node does.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

CHECKSUMS: Final = ("sha1", "md5", "sha256", "sha512")
DEBIAN: Final = Path("/usr/share/maven-repo")
DEBIAN_JARS: Final = Path("/usr/share/java")
"""Where the jars of Debian's repository really lie: links out of it lead there."""

_PLEXUS_UTILS: Final = "org/codehaus/plexus/plexus-utils"
DEBIAN_ALIASES: Final[Mapping[str, str]] = {f"{_PLEXUS_UTILS}/1.1": f"{_PLEXUS_UTILS}/2.x"}
"""Versions that Maven asks for by itself and that Debian has under another number."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came, and the status it was answered with."""

    method: str
    path: str
    headers: dict[str, str]
    status: int


@dataclass
class MavenRepository:
    """The repository; who runs it may change its attributes while it runs."""

    folders: Sequence[Path]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Folders of a version that are copies of another one's, both as paths of the repository."""
    links_to: Sequence[Path] = ()
    """Where links may lead besides the folders themselves."""
    extra: dict[str, bytes] = field(default_factory=dict)
    """Files by path that lie in no folder, or that shadow one: a wrong checksum, a signature."""
    absent: set[str] = field(default_factory=set)
    """Paths that are 404 although they are there, or could be computed."""
    status: int = 0
    """If not 0, every answer."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _server: http.server.ThreadingHTTPServer | None = None
    _digests: dict[tuple[str, str, int], str] = field(default_factory=dict)

    def start(self) -> None:
        """Listen: at a port of the system's choice at first, then always at the same."""
        port = urlsplit(self.url).port or 0
        handler = type("Handler", (_Handler,), {"repository": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/maven2"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the listener and every connection; ``start`` goes on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def paths(self) -> list[str]:
        """Return the paths asked for, in order."""
        return [each.path for each in self.asked]

    def is_run_by(self, server: object) -> bool:
        """Tell whether it listens, and through this server: not one that was stopped."""
        return self._server is server

    # ------------------------------------------------------------ what there is

    def body(self, path: str) -> bytes | None:
        """Return a file's bytes, found or computed; None if there is none."""
        if path in self.absent:
            return None
        if path in self.extra:
            return self.extra[path]
        file = self._file(path)
        if file is not None:
            return file.read_bytes()
        stem, _, kind = path.rpartition(".")
        if kind in CHECKSUMS and stem.rpartition(".")[2] not in CHECKSUMS:
            return self._checksum(stem, kind)
        if path.endswith("/maven-metadata.xml"):
            return self._metadata(path.removesuffix("/maven-metadata.xml"))
        return None

    def modified_s(self, path: str) -> int:
        """Return the time of a file in seconds, 0 for what is computed."""
        file = self._file(path)
        return 0 if file is None or path in self.extra else int(file.stat().st_mtime)

    def _file(self, path: str) -> Path | None:
        folder, _, name = path.rpartition("/")
        if folder in self.aliases:
            old, new = folder.rpartition("/")[2], self.aliases[folder].rpartition("/")[2]
            path = f"{self.aliases[folder]}/{name.replace(f'-{old}', f'-{new}', 1)}"
        if any(part in {"", ".", ".."} for part in path.split("/")):
            return None
        for root in self.folders:
            file = (root / path).resolve()
            inside = any(file.is_relative_to(each.resolve()) for each in (root, *self.links_to))
            if inside and file.is_file():
                return file
        return None

    def _checksum(self, path: str, kind: str) -> bytes | None:
        data = self.body(path)
        if data is None:
            return None
        key = path, kind, len(data)
        if path in self.extra or path.endswith("maven-metadata.xml"):
            return hashlib.new(kind, data).hexdigest().encode()
        if key not in self._digests:
            self._digests[key] = hashlib.new(kind, data).hexdigest()
        return self._digests[key].encode()

    def _metadata(self, path: str) -> bytes | None:
        versions = sorted({each.name for each in self._folders_of(path) if any(each.glob("*.pom"))})
        if versions:
            group, _, artifact = path.rpartition("/")
            return _artifact_metadata(group.replace("/", "."), artifact, versions)
        plugins = sorted(each.name for each in self._folders_of(path) if "plugin" in each.name)
        return _plugin_metadata(plugins) if plugins else None

    def _folders_of(self, path: str) -> Iterator[Path]:
        for root in self.folders:
            folder = root / path
            if folder.is_dir() and ".." not in path.split("/"):
                yield from (each for each in folder.iterdir() if each.is_dir())


def _artifact_metadata(group: str, artifact: str, versions: list[str]) -> bytes:
    listed = "".join(f"      <version>{escape(each)}</version>\n" for each in versions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<metadata>\n'
        f"  <groupId>{escape(group)}</groupId>\n  <artifactId>{escape(artifact)}</artifactId>\n"
        f"  <versioning>\n    <latest>{escape(versions[-1])}</latest>\n"
        f"    <release>{escape(versions[-1])}</release>\n    <versions>\n{listed}    </versions>\n"
        "    <lastUpdated>20200101000000</lastUpdated>\n  </versioning>\n</metadata>\n"
    ).encode()


def _plugin_metadata(plugins: list[str]) -> bytes:
    listed = "".join(
        f"    <plugin>\n      <name>{escape(each)}</name>\n"
        f"      <prefix>{escape(prefix_of(each))}</prefix>\n"
        f"      <artifactId>{escape(each)}</artifactId>\n    </plugin>\n"
        for each in plugins
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<metadata>\n'
        f"  <plugins>\n{listed}  </plugins>\n</metadata>\n"
    ).encode()


def prefix_of(artifact: str) -> str:
    """Return the prefix that Maven gives a plugin which names none."""
    return re.sub(r"-?maven-?|-?plugin-?", "", artifact)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients may leave whenever they like."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repository: MavenRepository
    # Keep-alive connections of a stopped repository end soon.
    timeout: ClassVar[float | None] = 30.0
    # Else the head waits for the acknowledgement of what went before.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with the file."""
        self._answer(is_head=False)

    def do_HEAD(self) -> None:
        """Answer with what would come before the file."""
        self._answer(is_head=True)

    def do_PUT(self) -> None:
        """Refuse what is deployed, after taking it in."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._keep(self._path(), 405)
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/maven2/")

    def _keep(self, path: str, status: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.repository.asked.append(Asked(self.command, path, headers, status))

    def _answer(self, *, is_head: bool) -> None:
        repository = self.repository
        if not repository.is_run_by(self.server):
            self.close_connection = True
            return
        path = self._path()
        body = repository.body(path) if not repository.status else b""
        status = repository.status or (404 if body is None else 200)
        modified = repository.modified_s(path) if body is not None else 0
        since = self.headers.get("If-Modified-Since")
        if since is not None and modified and _seconds(since) >= modified:
            status = 304
        self._keep(path, status)
        shown = b"" if body is None or status != 200 else body
        self.send_response(status)
        if status != 304:
            self.send_header("Content-Length", str(len(shown)))
        if modified:
            self.send_header("Last-Modified", email.utils.formatdate(modified, usegmt=True))
        self.end_headers()
        if not is_head and status != 304:
            self.wfile.write(shown)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base says
        """Print nothing; ``asked`` keeps it."""


def _seconds(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return -1.0


def debian_repository(*before: Path) -> MavenRepository:
    """Return Debian's own repository, behind the folders ``before``; it is not started yet."""
    return MavenRepository([*before, DEBIAN], aliases=DEBIAN_ALIASES, links_to=[DEBIAN_JARS])


@contextmanager
def serve_repository(repository: MavenRepository) -> Iterator[MavenRepository]:
    """Run a repository while the context lives."""
    repository.start()
    try:
        yield repository
    finally:
        repository.stop()
