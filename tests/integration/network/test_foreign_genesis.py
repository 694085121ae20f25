"""A node of another network is refused, and both sides can read why."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.schema.config import Config
from tests.integration.network.waiting import until


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_node_with_another_genesis_is_refused_and_both_name_both_hashes(tmp_path: Path) -> None:
    home_plan = Cluster.create(tmp_path / "home", authorized=1, regular=0)
    address = home_plan.nodes["authorized-1"].p2p_address

    def stray(config: Config) -> Config:
        bootstrap = (address,) if config.node.role == "regular" else ()
        return replace(config, p2p=replace(config.p2p, bootstrap=bootstrap))

    away_plan = Cluster.create(tmp_path / "away", authorized=1, regular=1, configure=stray)
    with home_plan as home, away_plan as away:
        home.start()
        away.start("regular-1")
        home.wait_ready()
        away.wait_ready("regular-1")
        hashes = home.plan.network, away.plan.network
        assert hashes[0] != hashes[1]
        logs = [home.nodes["authorized-1"].log_file, away.nodes["regular-1"].log_file]
        for log in logs:
            until(partial(_says_both, log, hashes), f"both hashes in {log}", 40)
        assert home.status("authorized-1")["peers_count"] == 0
        assert away.status("regular-1")["peers_count"] == 0


def _says_both(log: str, hashes: tuple[str, str]) -> bool:
    lines = Path(log).read_text(encoding="utf-8").splitlines()
    return any(all(network in line for network in hashes) for line in lines)
