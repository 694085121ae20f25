"""A git server behind https on this machine: where the sources of demonstrations and tests lie.

Git's own ``http-backend`` does the work, behind a small TLS front with a certificate of its own,
which callers name to clients as ``SSL_CERT_FILE``. Files that lie beside the repositories are
served as they are, so archives of sources can be had, too. For loopback alone; everybody may read.
"""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar, Final, cast
from urllib.parse import unquote, urlsplit

from pyrsia_node.devnet.certificates import write_certificate

_HOST: Final = "127.0.0.1"
_GIT_TIMEOUT_S: Final = 120.0
_BODY_BYTES_MAX: Final = 64 << 20
_DATE: Final = "2024-01-02T03:04:05Z"
_WHO: Final = "Example"
_AS_IS: Final = "* -text -filter -ident -eol -working-tree-encoding\n"
"""Attributes that win over those of a tree: what is added is stored byte for byte."""


@dataclass
class GitServer:
    """Serves every repository below ``folder``; stopped and started again at the same port."""

    folder: Path
    certificate: Path
    key: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Paths and queries asked for, in order."""
    redirects: dict[str, str] = field(default_factory=dict)
    """Paths, by how they begin, that are sent to another address."""
    _server: http.server.ThreadingHTTPServer | None = None

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        return self.certificate

    @property
    def host(self) -> str:
        """``HOST:PORT``."""
        return urlsplit(self.url).netloc

    def start(self) -> None:
        """Listen: at a port of the system's choice at first, then always at the same."""
        port = urlsplit(self.url).port or 0
        handler = type("Handler", (_Handler,), {"git": self})
        server = _Server((_HOST, port), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        # The handshake is made by each connection's own thread, so a silent client holds up none.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server = server
        self.url = f"https://{_HOST}:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Close the listener; ``start`` goes on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def serve_git(folder: Path, *, work: Path) -> Iterator[GitServer]:
    """Serve the repositories below ``folder``; the certificate is written into ``work``."""
    certificate, key = write_certificate(work, "git of a development network", stem="git-ca")
    server = GitServer(folder, certificate, key)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def make_repository(target: Path, *, files: Mapping[str, bytes], tag: str) -> str:
    """Make a bare repository of one tagged commit out of these files; return the commit.

    The same files give the same commit: author and dates are fixed.
    """
    work = target.with_name(f"{target.name}-files")
    for name, data in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return make_repository_from(work, target, tag=tag)


def make_repository_from(folder: Path, target: Path, *, tag: str) -> str:
    """Make, or go on with, a bare repository: one more tagged commit with this folder's files.

    Returns:
        The commit. An existing tag of that name is moved, as a forgetful upstream does.
    """
    if not target.exists():
        run_git("init", "--quiet", "--bare", "--initial-branch=main", str(target))
        # Public hosts let clients ask for a commit by its name, too.
        run_git("--git-dir", str(target), "config", "uploadpack.allowReachableSHA1InWant", "true")
    (target / "info").mkdir(exist_ok=True)
    (target / "info" / "attributes").write_text(_AS_IS, encoding="utf-8")
    at = ("--git-dir", str(target), "--work-tree", str(folder))
    run_git(*at, "add", "--all", "--force", ".")
    run_git(*at, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", tag)
    run_git(*at, "tag", "--force", tag)
    return run_git(*at, "rev-parse", "HEAD").strip()


def run_git(*words: str) -> str:
    """Run git with nothing of this user's configuration; return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(
        ["git", *words],
        env={**_environment(), **_identity()},
        capture_output=True,
        check=True,
        text=True,
        timeout=_GIT_TIMEOUT_S,
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }


def _identity() -> dict[str, str]:
    found = {}
    for role in ("AUTHOR", "COMMITTER"):
        found[f"GIT_{role}_NAME"] = _WHO
        found[f"GIT_{role}_EMAIL"] = "example@example.org"
        found[f"GIT_{role}_DATE"] = _DATE
    return found


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients may leave whenever they like, or not trust the certificate."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    git: GitServer
    timeout: ClassVar[float | None] = 30.0

    def do_GET(self) -> None:
        """Answer git's first question, or with a file."""
        if self._is_redirected():
            return
        folder = self.git.folder.resolve()
        file = (folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        # Of the repositories themselves git decides what is shown.
        if file.parent == folder and file.is_file():
            self.git.requests.append(self.path)
            self._send(200, {"Content-Type": "application/octet-stream"}, file.read_bytes())
        elif file.is_relative_to(folder):
            self._ask_git(b"")
        else:
            self._send(404, {}, b"")

    def do_POST(self) -> None:
        """Let git answer what a client wants."""
        body = self._body()
        if body is None:
            self.close_connection = True
            self._send(413, {}, b"")
        elif not self._is_redirected():
            self._ask_git(body)

    def _is_redirected(self) -> bool:
        for start, address in self.git.redirects.items():
            if self.path.startswith(start):
                self.git.requests.append(self.path)
                rest = self.path.removeprefix(start)
                self._send(301, {"Location": f"{address}{rest}"}, b"")
                return True
        return False

    def _body(self) -> bytes | None:
        """Return the request's body, None where it is too long."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length", "0"))
            return self.rfile.read(length) if length <= _BODY_BYTES_MAX else None
        body = b""
        while size := int(self.rfile.readline(1 << 10).partition(b";")[0], 16):
            if len(body) + size > _BODY_BYTES_MAX:
                return None
            body += self.rfile.read(size)
            self.rfile.readline(1 << 10)
        self.rfile.readline(1 << 10)
        return body

    def _ask_git(self, body: bytes) -> None:
        self.git.requests.append(self.path)
        parts = urlsplit(self.path)
        environment = {
            **_environment(),
            "GIT_PROJECT_ROOT": str(self.git.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            # The folder may belong to another account than this process.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": self.client_address[0],
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env=environment,
            input=body,
            capture_output=True,
            check=False,
            timeout=_GIT_TIMEOUT_S,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n") if line]
        headers = {name.decode(): value.strip().decode() for name, _, value in lines}
        status = int(headers.pop("Status", "200").split()[0])
        self._send(status if headers else 500, headers, content)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            cast("IO[bytes]", self.wfile).write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base says
        """Print nothing; ``requests`` keeps it."""
