"""The core's methods about images on the real socket of a real gateway process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.schema.mirroring import Look, MirrorStatus
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.gateway_process import CONFIG, node, run_gateway
from tests.fakes.images import Recipe, busybox_image
from tests.fakes.registries import debian_registry

IMAGE = "example.test/team/app"


def test_gateway_imports_an_image_for_the_core(tmp_path: Path) -> None:
    image = busybox_image(Recipe(says="by socket"))

    async def scenario(url: str) -> None:
        upstream = RegistryUpstream("example.test", url, allow_private=True, importable=True)
        docker = replace(CONFIG.docker, upstreams=(upstream,))
        (tmp_path / "node").mkdir()
        config = replace(CONFIG, docker=docker)
        async with node(tmp_path / "node", config) as here, run_gateway(here.layout) as gateway:
            link = LinkClient(gateway.layout.gateway_socket)
            try:
                found = await link.call("look", {"image": IMAGE, "tag": "1"}, timeout_s=10)
                assert Look.parse(found).digest == image.digest
                job = {"job": "b1", "image": IMAGE, "digest": image.digest, "tag": "1"}
                await link.call("mirror", {**job, "platforms": []}, timeout_s=10)
                while True:
                    answer = await link.call("mirror_job", {"job": "b1"}, timeout_s=10)
                    status = MirrorStatus.parse(answer)
                    if status.state != "running":
                        break
                    await asyncio.sleep(0.02)
                assert status.result is not None, status.failure
                assert {f.role for f in status.result.files} == {"root", "config", "layer"}
                await link.call("mirror_forget", {"job": "b1"}, timeout_s=10)
                with pytest.raises(NotFoundError):
                    await link.call("mirror_job", {"job": "b1"}, timeout_s=10)
            finally:
                link.close()

    with debian_registry(tmp_path / "registry") as registry:
        registry.push(image, "team/app", "1")
        asyncio.run(scenario(registry.url))
