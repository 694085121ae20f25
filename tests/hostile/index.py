"""A simple index on 127.0.0.1 for tests: real HTTP, a free port, files in memory."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Index:
    """What the index serves; tests change it while it runs."""

    url: str = ""
    projects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    uploaded: dict[str, str] = field(default_factory=dict)
    """Upload time of a file name; absent ones have none on the page."""

    requests: list[str] = field(default_factory=list)
    corrupt: set[str] = field(default_factory=set)
    """Names of files that are served with other bytes than the page says."""

    broken: bool = False
    """Answer 503 to everything."""

    def add(self, project: str, file: str, data: bytes, uploaded: str | None = None) -> None:
        """Publish a file."""
        self.projects.setdefault(project, {})[file] = data
        if uploaded is not None:
            self.uploaded[file] = uploaded

    def page(self, project: str) -> bytes | None:
        """Return a project's page as HTML."""
        files = self.projects.get(project)
        if files is None:
            return None
        lines = []
        for name, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            time = self.uploaded.get(name)
            attribute = f' data-upload-time="{time}"' if time else ""
            lines.append(f'<a href="../../files/{name}#sha256={digest}"{attribute}>{name}</a>')
        return "\n".join(lines).encode()

    def file(self, name: str) -> bytes | None:
        """Return a file's bytes, as they are served."""
        for files in self.projects.values():
            if name in files:
                return files[name] + b"!" if name in self.corrupt else files[name]
        return None


@contextlib.contextmanager
def serving_index() -> Iterator[Index]:
    """Serve an index, empty at first, while the context lasts."""
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            index.requests.append(self.path)
            steps = self.path.strip("/").split("/")
            body: bytes | None = None
            if steps[0] == "simple" and len(steps) == 2:
                body = index.page(steps[1])
            elif steps[0] == "files" and len(steps) == 2:
                body = index.file(steps[1])
            status = 503 if index.broken else 404 if body is None else 200
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
