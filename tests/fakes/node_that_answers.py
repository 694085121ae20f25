"""An HTTP server in the place of a node, for tests of what commands make of its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

Said = tuple[int, bytes]
"""A status code and a body."""

Answer = Callable[[str, str, bytes], Said]
"""Says something to a method, a path and a body."""


def said(document: object, *, code: int = 200) -> Said:
    """Return an answer in JSON."""
    return code, json.dumps(document).encode()


@contextmanager
def node_that_answers(folder: Path, answer: Answer) -> Iterator[Path]:
    """Run the server; yield the path of settings in ``folder`` that name it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answer(self.command, self.path, self._body())
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def log_message(self, *_: object) -> None:
            """Say nothing: the tests' output is not the place."""

    settings = folder / "pyrsia.toml"
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        settings.write_text(f"port = {server.server_port}\n")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield settings
        finally:
            server.shutdown()
            thread.join()
