"""A member that breaks its word over a real link is named by every node, and a fork stops one."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from consensus import wire
from consensus.judge import TRANSCRIPT_BYTES_MAX, decode_transcript
from consensus.types import Certificate, Digest, Height, Message, NodeId, View, Vote, VoteKind
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.transcripts import encode_question
from pyrsia_node.store.keys import KeyUse, load_keys
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until

PYRSIA = Path(sys.executable).parent / "pyrsia"
TRAITOR = "authorized-4"
SOMEBODY_BROKE_THEIR_WORD = 3
A, B = Digest(b"a" * 32), Digest(b"b" * 32)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster.create(tmp_path / "net", authorized=4, regular=1) as made:
        made.start()
        made.wait_ready()
        made.wait_connected()
        yield made


class Traitors:
    """Signs with any member's key: what f + 1 traitors together can do."""

    def __init__(self, cluster: Cluster) -> None:
        first = cluster.members[0]
        self._genesis = Genesis.decode(first.layout.genesis.read_bytes())
        self._set = self._genesis.set_leaf().to_consensus()
        keys = {node.peer_id: load_keys(node.layout.node_key) for node in cluster.members}
        self._signers = [keys[member.id].signer(KeyUse.VOTE) for member in self._set.members]
        self.traitor = keys[cluster.nodes[TRAITOR].peer_id]
        index = self._set.index_of(NodeId(cluster.nodes[TRAITOR].peer_id))
        assert index is not None
        self.index = index
        self._cluster = cluster

    def vote(self, voter: int, kind: VoteKind, name: Digest, *, height: int, view: int) -> Vote:
        signed = wire.vote_bytes(
            kind,
            Height(height),
            View(view),
            name,
            chain_id=Digest(self._genesis.network_id),
            set_hash=self._set.set_hash,
        )
        signature = self._signers[voter](signed)
        return Vote(kind, Height(height), View(view), name, voter, signature)

    def final(self, name: Digest, *, height: int, view: int) -> Certificate:
        votes = [
            self.vote(each, VoteKind.FINALIZE, name, height=height, view=view) for each in (1, 2, 3)
        ]
        signatures = tuple(vote.signature for vote in votes)
        kind = VoteKind.FINALIZE
        return Certificate(kind, Height(height), View(view), name, (1, 2, 3), signatures)

    def tell(
        self, label: str, messages: Sequence[Message], until_known: Callable[[], object]
    ) -> None:
        """Speak to a node as the traitor, over the member link, until ``until_known`` holds."""
        trio.run(self._tell, label, messages, until_known)

    async def _tell(
        self, label: str, messages: Sequence[Message], until_known: Callable[[], object]
    ) -> None:
        victim = self._cluster.nodes[label]
        async with self._link(label) as network:
            with trio.fail_after(40):
                while not await trio.to_thread.run_sync(until_known):
                    for message in messages:
                        network.send(PeerId(victim.peer_id), wire.encode_message(message, n=4))
                    await trio.sleep(0.5)

    def transcript(self, label: str, height: int) -> tuple[Certificate, ...]:
        """Ask a node what was certified at a height, as anybody may."""
        return trio.run(self._transcript, label, height)

    async def _transcript(self, label: str, height: int) -> tuple[Certificate, ...]:
        victim = PeerId(self._cluster.nodes[label].peer_id)
        async with self._link(label) as network:
            answer = await network.ask(
                victim,
                "transcript",
                encode_question(height),
                timeout_s=10,
                answer_bytes_max=TRANSCRIPT_BYTES_MAX,
            )
        return decode_transcript(answer, n=4)

    @asynccontextmanager
    async def _link(self, label: str) -> AsyncIterator[Network]:
        victim = self._cluster.nodes[label]
        config = NetworkConfig(
            genesis=self._genesis.network_id.hex(),
            bootstrap=(victim.p2p_address,),
            label=TRAITOR,
            role="authorized",
            gossip=False,
        )
        async with Network.open(config, self.traitor.p2p_seed(), clock=SystemClock()) as network:
            network.set_members([PeerId(victim.peer_id)])
            with trio.fail_after(20):
                await network.until_connected(PeerId(victim.peer_id))
            yield network


class Command:
    """``pyrsia`` as people run it, against one node."""

    def __init__(self, cluster: Cluster, label: str, folder: Path) -> None:
        self._config = folder / f"{label}.toml"
        port = cluster.nodes[label].http_url.rpartition(":")[2]
        self._config.write_text(f"port = {port}\n")
        self._folder = folder

    def __call__(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [PYRSIA, *words],
            env={
                "PATH": os.environ["PATH"],
                "PYRSIA_CONFIG": str(self._config),
                "COLUMNS": "220",
                "HOME": str(self._folder),
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.stderr == "", done.stderr
        return done.returncode, done.stdout


def evidence(cluster: Cluster, label: str) -> dict[str, Any]:
    return dict(cluster.call(label, "evidence", {}))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_traitor_is_named_by_every_node_and_a_fork_by_those_who_saw_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    traitors = Traitors(cluster)
    reader = Command(cluster, "regular-1", tmp_path)
    assert reader("evidence") == (0, "No member is known to have broken its word.\n")

    cluster.stop(TRAITOR)  # Its key lives on in this test.
    pair = [
        traitors.vote(traitors.index, VoteKind.NOTARIZE, name, height=1, view=9) for name in (A, B)
    ]
    traitors.tell("authorized-1", pair, lambda: evidence(cluster, "authorized-1")["evidence"])
    until(
        lambda: any("leaf" in each for each in evidence(cluster, "regular-1")["evidence"]),
        "a node that is no member has the evidence from the log",
    )

    code, table = reader("evidence")
    assert code == SOMEBODY_BROKE_THEIR_WORD
    assert TRAITOR in table
    assert "two notarizations" in table
    assert A.hex()[:12] in table
    assert B.hex()[:12] in table
    code, text = reader("evidence", "--format", "json")
    assert code == SOMEBODY_BROKE_THEIR_WORD
    (line,) = json.loads(text)["evidence"]
    assert line["first"]["sig"] == pair[0].signature.hex()
    assert json.loads(text)["forks"] == []
    (row,) = csv.DictReader(io.StringIO(reader("evidence", "--format", "csv")[1]))
    assert (row["member"], row["height"], row["leaf"]) == (TRAITOR, "1", str(line["leaf"]))
    assert "EVIDENCE: authorized-4" in reader("status")[1]

    victim = Command(cluster, "authorized-1", tmp_path)
    (final,) = [
        one for one in traitors.transcript("authorized-2", 1) if one.kind is VoteKind.FINALIZE
    ]
    forged = traitors.final(B, height=1, view=final.view)
    traitors.tell("authorized-1", [forged], lambda: evidence(cluster, "authorized-1")["forks"])
    code, table = victim("evidence")
    assert code == SOMEBODY_BROKE_THEIR_WORD
    assert "fork: " in table
    (fork,) = evidence(cluster, "authorized-1")["forks"]
    assert len(fork["culprits"]) >= fork["needed"] == 2
    assert "FORK: two blocks of height 1 are final" in victim("status")[1]
    # It stays on the side that it was on, serves it, and votes no more, also after a restart.
    height = cluster.status("authorized-1")["height"]
    cluster.stop("authorized-1")
    cluster.start("authorized-1")
    cluster.wait_ready("authorized-1")
    signing = Signing(cluster, Random(7))
    transaction = signing.request("authorized-2", "after-the-fork").encoded.decode()
    cluster.call("authorized-2", "submit", {"transaction": transaction})
    assert "FORK" in str(cluster.status("authorized-1")["alarms"])
    assert cluster.status("authorized-1")["height"] == height
