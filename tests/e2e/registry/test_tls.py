"""Real clients at a node that speaks HTTPS with a certificate of the operator's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.certificates import write_certificate
from tests.fakes.engines import Containers, container_tools
from tests.fakes.gateway_process import CONFIG, node, run_gateway
from tests.fakes.images import Recipe, busybox_image, write_layout

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("registry")]
HTTP = replace(CONFIG.http, tls_certificate="tls.pem", tls_key="tls.key")


def _at_tls_node(folder: Path, act: Callable[[str, Path], None]) -> None:
    """Act with HOST:PORT of a node and a folder of certificates that trusts it."""

    async def story() -> None:
        root, trusted = folder / "node", folder / "trusted"
        root.mkdir()
        trusted.mkdir()
        certificate, _ = write_certificate(root)
        (trusted / "ca.crt").write_bytes(certificate.read_bytes())
        async with node(root, replace(CONFIG, http=HTTP)) as it, run_gateway(it.layout) as gateway:
            await asyncio.to_thread(act, gateway.url.removeprefix("https://"), trusted)

    asyncio.run(story())


def test_skopeo_pushes_and_podman_pulls_over_tls(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    write_layout(layout, busybox_image(Recipe("over tls")), "1")

    def act(host: str, trusted: Path) -> None:
        image = f"{host}/team/app:1"
        with container_tools() as tools:
            _push_and_run(tools, f"oci:{layout}:1", image, trusted)

    _at_tls_node(tmp_path, act)


def _push_and_run(tools: Containers, source: str, image: str, trusted: Path) -> None:
    strange = tools.skopeo("copy", source, f"docker://{image}")
    assert strange.code != 0
    assert "certificate" in strange.err
    tools.skopeo("copy", "--dest-cert-dir", trusted, source, f"docker://{image}").ok()
    tools.podman("pull", "--cert-dir", trusted, image).ok()
    assert tools.podman("run", "--rm", "--network", "none", image).ok().out == "over tls\n"
