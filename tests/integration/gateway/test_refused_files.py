"""pip, unmodified, meets files that the network withdrew or revoked; and what the pages say."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from consensus.types import NodeId
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Deprecate, Revoke, Vulnerable, Withdraw
from tests.fakes.data_peers import data_peer
from tests.fakes.gateway_process import CONFIG, Node, as_peer, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

PIP = Path(__file__).parents[3] / ".clients" / "bin" / "pip"
"""From 23.2 on: it reads metadata alone (PEP 658), so it says why before it is refused."""

OLD, OLD_WHEEL = make_wheel("alpha", "0.9")
NEW, NEW_WHEEL = make_wheel("alpha", "1.0")
ALPHA = Purl.pypi("alpha", "1.0")
REASON = "steals credentials"
JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Setting:
    """A gateway whose log knows alpha 0.9 and alpha 1.0; ``entry`` is that of 1.0."""

    node: Node
    http: httpx.AsyncClient
    folder: Path
    entry: int

    @property
    def member(self) -> NodeId:
        return self.node.log.local.members[0].id

    async def page(self) -> dict[str, dict[str, object]]:
        answer = await self.http.get("/pypi/simple/alpha/", headers={"accept": JSON})
        answer.raise_for_status()
        return {each["filename"]: each for each in answer.json()["files"]}

    async def pip(self, wish: str) -> subprocess.CompletedProcess[str]:
        target = self.folder / f"target-{wish}"
        command = [str(PIP), "install", "--no-cache-dir", "--retries", "0", "--no-deps"]
        command += ["--index-url", f"{self.http.base_url}/pypi/simple/", "--target", str(target)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        environment["PIP_CONFIG_FILE"] = os.devnull
        return await asyncio.to_thread(
            subprocess.run,
            [*command, wish],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@asynccontextmanager
async def setting(folder: Path, *, serve_revoked: bool = False) -> AsyncIterator[Setting]:
    config = replace(CONFIG, pypi=replace(CONFIG.pypi, serve_revoked=serve_revoked))
    async with node(folder / "node", config) as own, data_peer(folder, "peer") as peer:
        own.core.holders = [as_peer(peer.holder)]
        entry = 0
        for name, wheel, version in ((OLD, OLD_WHEEL, "0.9"), (NEW, NEW_WHEEL, "1.0")):
            peer.put(folder, wheel)
            entry = own.log.accept(document(f"pkg:pypi/alpha@{version}", file_entry(name, wheel)))
        async with (
            run_gateway(own.layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        ):
            yield Setting(own, http, folder, entry)


def test_revoked_file_is_refused_and_pip_says_why(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            sha256 = sha256_of(NEW_WHEEL)
            url = f"/pypi/files/{sha256}/{NEW}"
            assert (await it.http.get(url)).status_code == 200
            it.node.log.state(Revoke(it.member, ALPHA, sha256, REASON, "00" * 16))
            refused = await it.http.get(url)
            assert (refused.status_code, REASON in refused.text) == (403, True)
            assert f"{url} is refused".startswith(url)
            shown = (await it.page())[NEW]
            assert REASON in str(shown["yanked"])
            metadata = await it.http.get(f"{url}.metadata")
            assert metadata.text.startswith("Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
            # Unpinned, pip takes the version that is not closed; pinned, it is told and refused.
            loose = await it.pip("alpha")
            assert loose.returncode == 0, loose.stderr
            assert (tmp_path / "target-alpha" / "alpha-0.9.dist-info").is_dir()
            pinned = await it.pip("alpha==1.0")
            assert pinned.returncode != 0
            assert REASON in pinned.stderr + pinned.stdout
            assert "403" in pinned.stderr

    asyncio.run(run())


def test_withdrawn_file_is_refused_and_served_where_the_operator_opted_in(tmp_path: Path) -> None:
    async def run(*, opt_in: bool) -> None:
        folder = tmp_path / str(opt_in)
        folder.mkdir()
        async with setting(folder, serve_revoked=opt_in) as it:
            reason = "built from another source"
            it.node.log.state(Withdraw(it.member, ALPHA, it.entry, reason, "00" * 16))
            answer = await it.http.get(f"/pypi/files/{sha256_of(NEW_WHEEL)}/{NEW}")
            assert answer.status_code == (200 if opt_in else 403)
            said = answer.headers["x-pyrsia-statement"] if opt_in else answer.text
            assert reason in said
            assert reason in str((await it.page())[NEW]["yanked"])

    asyncio.run(run(opt_in=False))
    asyncio.run(run(opt_in=True))


def test_advice_is_shown_and_blocks_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with setting(tmp_path) as it:
            it.node.log.state(Vulnerable(it.member, ALPHA, "CVE-2024-3094", "é\nX: y", "00" * 16))
            it.node.log.state(Deprecate(it.member, Purl.pypi("alpha"), "use beta", None, "00" * 16))
            shown = (await it.page())[NEW]
            assert shown["yanked"] is False
            statements = shown["_statements"]
            assert isinstance(statements, list)
            assert [each["type"] for each in statements] == ["vulnerable", "deprecate"]
            answer = await it.http.get(f"/pypi/files/{sha256_of(NEW_WHEEL)}/{NEW}")
            assert answer.status_code == 200
            # What a member writes cannot make header fields of its own.
            assert "x" not in answer.headers
            assert "CVE-2024-3094" in answer.headers["x-pyrsia-statement"]
            done = await it.pip("alpha")
            assert done.returncode == 0, done.stderr

    asyncio.run(run())
