"""The ``pyrsia`` command at a real gateway over a real published log, and a webhook's receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import Node, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

PYRSIA = Path(sys.executable).parent / "pyrsia"


@dataclass
class Finished:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Setting:
    node: Node
    folder: Path
    leaves: dict[str, int] = field(default_factory=dict)

    def accept(self, name: str) -> int:
        file, data = make_wheel(name, "1.0")
        doc = document(f"pkg:pypi/{name}@1.0", file_entry(file, data))
        self.leaves[name] = self.node.log.accept(doc)
        return self.leaves[name]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYRSIA_CONFIG": str(self.folder / "pyrsia.toml"),
            "COLUMNS": "200",
            "HOME": str(self.folder),
        }

    async def pyrsia(self, *words: object, **more: str) -> Finished:
        def run() -> Finished:
            done = subprocess.run(
                [PYRSIA, *map(str, words)],
                env=self.environment() | more,
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
            return Finished(done.returncode, done.stdout, done.stderr)

        return await asyncio.to_thread(run)


def scenario(
    folder: Path,
    act: Callable[[Setting], Awaitable[None]],
    environment: dict[str, str] | None = None,
) -> None:
    """Act on a gateway that runs in ``environment``, over three packages."""

    async def run() -> None:
        async with node(folder / "node") as own:
            it = Setting(own, folder)
            for name in ("six", "idna", "attrs"):
                it.accept(name)
            trust = folder / "net.trust"
            trust.write_bytes(own.log.trust_file.encode())
            async with run_gateway(own.layout, environment) as gateway:
                port = gateway.url.rpartition(":")[2]
                (folder / "pyrsia.toml").write_text(f"port = {port}\ntrust = '{trust}'\n")
                await act(it)

    asyncio.run(run())


def bounded(folder: Path, module: str, name: str, value: int) -> dict[str, str]:
    """Return the environment of a process in which a module's bound has another value."""
    folder.mkdir()
    code = f"import importlib\nimportlib.import_module({module!r}).{name} = {value}\n"
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


@dataclass
class Receiver:
    """A webhook's receiver: refuses what ``refuse`` says, keeps the rest."""

    refuse: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0
    url: str = ""
    before_answer: Callable[[], object] = field(default=lambda: None)

    @contextlib.contextmanager
    def listen(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked += 1
                status = receiver.refuse.pop(0) if receiver.refuse else 204
                if status == 204:
                    receiver.taken.append((dict(self.headers.items()), body))
                receiver.before_answer()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def indexes(self) -> list[int]:
        return [json.loads(body)["index"] for _, body in self.taken]
