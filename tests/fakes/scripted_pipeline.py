"""A build pipeline of somebody else's, over plain HTTP: it answers what a test tells it to."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUILD = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


@dataclass
class Answer:
    """One answer; ``body`` is sent as it is, or as JSON if it is no bytes."""

    status: int = 200
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)
    is_silent: bool = False
    """Whether the body never comes, until the client goes."""

    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class ScriptedPipeline:
    """Answers by method and path; a list is gone through, and its last answer stays.

    ``asked`` is every request in order, as method, path and body.
    """

    url: str = ""
    script: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def answers(self, request: str, *answers: Answer) -> None:
        """Answer ``request``, such as "PUT /build", so from now on."""
        self.script[request] = list(answers)

    def builds(self, files: dict[str, bytes], *, build: str = BUILD) -> None:
        """Build these files at once, whatever is asked."""
        urls = [f"/build/{build}/artifacts/{name}" for name in files]
        self.answers("PUT /build", Answer(body=build))
        done = {"id": build, "status": {"Success": {"artifact_urls": urls}}}
        running = {"id": build, "status": "Running"}
        self.answers(f"GET /build/{build}", Answer(body=running), Answer(body=done))
        for url, content in zip(urls, files.values(), strict=True):
            self.answers(f"GET {url}", Answer(body=content))

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.asked.append((method, path, body))
        self.headers.append(headers)
        answers = self.script.get(f"{method} {path}", [Answer(404)])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextlib.contextmanager
def serving_pipeline(socket_path: Path | None = None) -> Iterator[ScriptedPipeline]:
    """Serve a pipeline on 127.0.0.1, or on a unix socket, until the context ends."""
    pipeline = ScriptedPipeline()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "client"

        def log_message(self, *_: Any) -> None:
            pass

        def do_PUT(self) -> None:
            self._answer("PUT", self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            self._answer("GET", b"")

        def _answer(self, method: str, body: bytes) -> None:
            answer = pipeline.answer(method, self.path, body, dict(self.headers))
            data = answer.data()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(data)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                if answer.is_silent:
                    self.rfile.read(1)
                self.wfile.write(data)
            # What says that it is longer than it is ends here.
            self.close_connection = self.close_connection or "Content-Length" in answer.headers

    server: socketserver.BaseServer
    if socket_path is None:
        http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        pipeline.url = f"http://127.0.0.1:{http_server.server_port}"
        server = http_server
    else:
        server = socketserver.ThreadingUnixStreamServer(str(socket_path), Handler)
        pipeline.url = f"unix://{socket_path}"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield pipeline
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
