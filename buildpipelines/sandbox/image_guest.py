"""The first process of a sandbox that builds an image: gives buildah its inputs, takes the image.

Copied in as text beside ``guest``, whose life it shares; standard library alone. Buildah runs as
root of a user namespace without network. Its base images come from a registry that this process
serves on the loopback, out of blobs that the host fetched by digest; so they keep the names that
the Dockerfile calls them by. Steps (``RUN``) get no capability, no new privileges, no user
namespace of their own, the sandbox's system call filter, and the same one network: the index on
127.0.0.1:8080. What comes out is judged by the host alone.

stdin: u32 length, job as JSON, then a tar: ``context/…``, ``Dockerfile`` and
``blobs/<sha256>``. stdout: events;
then ``manifest.json``, ``config.json`` and ``layer-<number>`` for each layer above the base.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from buildpipelines.sandbox import guest
from buildpipelines.sandbox.guest import BUILD, OUT, PROXY_PORT, run, send

CONTEXT = BUILD / "context"
BLOBS = BUILD / "blobs"
HOME = BUILD / "home"
STORAGE = BUILD / "storage"
PUSHED = BUILD / "pushed"
SECCOMP_PROFILE = "/run/pyrsia/seccomp.json"
REGISTRY_PORT = 8081
IMAGE = "localhost/built:latest"
USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")

_ASKED = re.compile(r"/v2/(?:[^?]+)/(?:manifests|blobs)/sha256:([0-9a-f]{64})\Z")


def main() -> None:
    """Build an image."""
    guest.run_job(build, lambda: sorted(OUT.iterdir()))


def build(job: dict[str, Any], stdin: BinaryIO) -> None:
    """Unpack the inputs, run buildah, and put the image's parts where they are sent from."""
    send(event="stage", stage="unpack")
    unpack(stdin)
    for folder in (OUT, HOME, STORAGE, BUILD / "run", BUILD / "tmp"):
        folder.mkdir()
    # From here on nothing in here can make a user namespace, in which it would have capabilities.
    USER_NAMESPACES.write_text("0\n")
    serve_registry(job["media"])
    environment = buildah_environment(job)
    send(event="stage", stage="build")
    run("buildah", build_command(job), environment)
    send(event="stage", stage="export")
    push = ["/usr/bin/buildah", "push", "--signature-policy", policy(), "--quiet"]
    target = f"dir:{PUSHED}"
    run("export", [*push, "--compression-format", "gzip", IMAGE, target], environment)
    collect(job["base_layers"])


def unpack(stdin: BinaryIO) -> None:
    """Unpack the host's tar, which it wrote itself: plain entries with their own modes."""
    with tarfile.open(fileobj=stdin, mode="r|") as tar:
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(BUILD, **trusted)  # type: ignore[arg-type]  # noqa: S202
    CONTEXT.mkdir(exist_ok=True)
    BLOBS.mkdir(exist_ok=True)


def build_command(job: dict[str, Any]) -> list[str]:
    """Return buildah's command line: everything that could differ between nodes is given."""
    command = ["/usr/bin/buildah", "bud", "--isolation", "chroot", "--network", "host"]
    command += ["--cap-drop", "ALL", "--security-opt", f"seccomp={SECCOMP_PROFILE}"]
    command += ["--signature-policy", policy(), "--pull=false", "--no-cache"]
    command += ["--ulimit", "nofile=1024:1024", "--timestamp", str(job["timestamp"])]
    command += ["--format", job["format"], f"--layers={str(job['layers']).lower()}"]
    command += [f"--identity-label={str(job['identity_label']).lower()}"]
    command += ["--file", str(BUILD / "Dockerfile"), "--tag", IMAGE]
    if job["target"]:
        command += ["--target", job["target"]]
    if job["has_index"]:
        command += ["--build-arg", f"PIP_INDEX_URL=http://127.0.0.1:{PROXY_PORT}/simple/"]
    for argument in job["arguments"]:
        command += ["--build-arg", argument]
    return [*command, str(CONTEXT)]


def buildah_environment(job: dict[str, Any]) -> dict[str, str]:
    """Write buildah's configuration and return the environment that points to it."""
    write_toml(BUILD / "containers.conf", "[containers]", {"netns": "host"})
    write_toml(
        BUILD / "storage.conf",
        "[storage]",
        {"driver": "vfs", "graphroot": str(STORAGE), "runroot": str(BUILD / "run")},
    )
    lines = ['unqualified-search-registries = ["docker.io"]', 'short-name-mode = "permissive"']
    for host in job["hosts"]:
        where = f"127.0.0.1:{REGISTRY_PORT}/{host.replace(':', '-')}"
        lines += ["[[registry]]", f"prefix = {json.dumps(host)}"]
        lines += [f"location = {json.dumps(where)}", "insecure = true"]
    (BUILD / "registries.conf").write_text("\n".join(lines) + "\n")
    # Steps see these, and the image does not keep them: what goes elsewhere than to our index
    # reaches the host's proxy, which refuses and notes it.
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    return {
        **proxies,
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": "/usr/bin:/usr/sbin",
        "HOME": str(HOME),
        "TMPDIR": str(BUILD / "tmp"),
        "XDG_RUNTIME_DIR": str(BUILD / "run"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "CONTAINERS_CONF": str(BUILD / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(BUILD / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(BUILD / "registries.conf"),
        # We are in the namespace already; buildah must not look for one in /etc/subuid.
        "_CONTAINERS_USERNS_CONFIGURED": "1",
    }


def policy() -> str:
    """Return the path of a policy that lets everything through: digests are what counts here."""
    path = BUILD / "policy.json"
    if not path.exists():
        path.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    return str(path)


def write_toml(path: Path, table: str, values: dict[str, object]) -> None:
    """Write one table; JSON's texts and lists are TOML's, too."""
    lines = [table, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")


def serve_registry(media: dict[str, str]) -> None:
    """Serve the fetched blobs as a registry, read-only, by digest alone."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = _ASKED.match(self.path)
            path = BLOBS / found[1] if found else None
            if self.path == "/v2/":
                self.answer(200, "application/json", 2)
                self.wfile.write(b"{}")
            elif found and path and path.is_file():
                kind = media.get(found[1], "application/octet-stream")
                self.answer(200, kind, path.stat().st_size, f"sha256:{found[1]}")
                with path.open("rb") as file:
                    while self.command == "GET" and (data := file.read(guest.CHUNK_BYTES)):
                        self.wfile.write(data)
            else:
                self.answer(404, "application/json", 0)

        do_HEAD = do_GET  # noqa: N815 - the standard library's name

        def answer(self, status: int, kind: str, length: int, digest: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("Docker-Distribution-API-Version", "registry/2.0")
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: the log is the build's."""

    server = ThreadingHTTPServer(("127.0.0.1", REGISTRY_PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def collect(base_layers: list[list[str]]) -> None:
    """Move manifest, config and every layer above the base to the outputs.

    ``base_layers`` are the diff ids of each base; layers of the base the host has already.
    """
    manifest = json.loads((PUSHED / "manifest.json").read_bytes())
    config_path = PUSHED / manifest["config"]["digest"].removeprefix("sha256:")
    diff_ids = json.loads(config_path.read_bytes())["rootfs"]["diff_ids"]
    known = max((len(b) for b in base_layers if diff_ids[: len(b)] == b), default=0)
    os.rename(PUSHED / "manifest.json", OUT / "manifest.json")  # noqa: PTH104 - one way to move
    for number, layer in enumerate(manifest["layers"]):
        if number >= known:
            path = PUSHED / layer["digest"].removeprefix("sha256:")
            # Linked, not moved: two layers may be one file.
            os.link(path, OUT / f"layer-{number:03}")
    os.link(config_path, OUT / "config.json")
