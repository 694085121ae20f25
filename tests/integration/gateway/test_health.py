"""What supervisors of containers ask a gateway: is it alive, may clients be sent to it?"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from pyrsia_node.devnet.plan import make_network
from tests.fakes.gateway_process import node, run_gateway


def test_gateway_with_a_log_is_live_and_ready_whether_its_core_answers_or_not(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with (
            node(tmp_path) as it,
            run_gateway(it.layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url) as http,
        ):
            for path in ("/livez", "/healthz", "/readyz"):
                answer = await http.get(path)
                assert (answer.status_code, answer.text) == (200, "ok\n"), path
            assert (await http.head("/readyz")).status_code in {200, 405}

    asyncio.run(story())


def test_gateway_without_a_log_is_live_and_not_ready(tmp_path: Path) -> None:
    plan = make_network(tmp_path / "net", authorized=1, regular=0)

    async def story() -> None:
        layout = plan.nodes[0].layout
        async with (
            run_gateway(layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url) as http,
        ):
            assert (await http.get("/livez")).status_code == 200
            answer = await http.get("/readyz")
            assert answer.status_code == 503
            assert "checkpoint" in answer.text

    asyncio.run(story())
