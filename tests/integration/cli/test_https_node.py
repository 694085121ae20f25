"""The command at a node that speaks HTTPS, by a certificate that only this node's clients trust."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.fakes.certificates import write_certificate
from tests.fakes.gateway_process import CONFIG, node, run_gateway

PYRSIA = Path(sys.executable).parent / "pyrsia"
HTTP = replace(CONFIG.http, tls_certificate="tls.pem", tls_key="tls.key")


def test_command_talks_to_a_node_over_https_and_trusts_what_its_settings_name(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "pyrsia.toml"

    async def pyrsia(*words: str) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
            return subprocess.run(
                [PYRSIA, *words],
                env=environment | {"PYRSIA_CONFIG": str(settings)},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )

        return await asyncio.to_thread(run)

    async def story() -> None:
        root = tmp_path / "node"
        root.mkdir()
        certificate, _ = write_certificate(root)
        async with node(root, replace(CONFIG, http=HTTP)) as it, run_gateway(it.layout) as gateway:
            assert gateway.url.startswith("https://127.0.0.1:")
            port = gateway.url.rpartition(":")[2]
            await pyrsia("config", "edit", "--port", port)
            assert (await pyrsia("ping")).returncode == 5
            await pyrsia("config", "edit", "--tls")
            assert "CERTIFICATE_VERIFY_FAILED" in (await pyrsia("ping")).stderr
            await pyrsia("config", "edit", "--ca-file", str(certificate))
            assert f"at {gateway.url}" in (await pyrsia("ping")).stdout
            told = json.loads((await pyrsia("status", "--format", "json")).stdout)
            assert told["core"] == "up"
            await pyrsia("config", "edit", "--ca-file", str(tmp_path / "absent.pem"))
            said = await pyrsia("ping")
            assert (said.returncode, "absent.pem" in said.stderr) == (2, True)

    asyncio.run(story())
