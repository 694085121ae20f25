"""A live network's log, derived again by the audit, and read by code that is not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.go_reader import build_reader
from tests.e2e.walking import Walking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("walking"),
]


def test_a_live_node_is_audited_over_http(walking: Walking) -> None:
    trust = str(walking.cluster.plan.trust)
    found = walking.pyrsia("audit", walking.url, "--trust", trust, "--format", "json").json()
    assert found["holds"] is True
    assert found["contradictions"] == []
    assert set(found["unchecked"]) == {"index"}
    assert len(found["cosigned_by"]) >= found["quorum"] == 3
    assert found["facts"]["accepted"] >= 1
    for area in ("blocks", "certificates", "execution"):
        assert found["checked"][area] >= found["height"] > 0, area
    for area in ("tree", "signatures", "verdicts"):
        assert found["checked"][area] > 0, area


def test_the_data_directory_of_a_running_member_is_audited_with_its_index(
    walking: Walking,
) -> None:
    root = walking.cluster.nodes["authorized-2"].layout.root
    network = walking.pyrsia("status", "--format", "json").json()["network"]
    done = walking.pyrsia(
        "audit", str(root), "--network-id", network, "--strict", "--format", "json"
    )
    found = done.json()
    assert found["unchecked"] == {}
    assert found["checked"]["index"] > 5


def test_go_reads_the_log_of_a_live_node_and_a_proof_that_it_served(
    walking: Walking, tmp_path: Path
) -> None:
    policy, proof = tmp_path / "policy", tmp_path / "six.tlog-proof"
    policy.write_text(walking.pyrsia("trust", "export-policy").ok().out)
    wheel = walking.wheel()
    path = f"/pypi/files/{wheel['hashes']['sha256']}/{wheel['filename']}.tlog-proof"
    proof.write_bytes(walking.get(path).content)
    log = walking.cluster.nodes["regular-1"].layout.log
    done = build_reader(tmp_path).read(log, policy=policy, proof=proof)
    assert done.code == 0, done.said
    assert "(quorum 3)" in done.said
    assert done.said.splitlines()[-1].startswith("offline proof: entry ")
