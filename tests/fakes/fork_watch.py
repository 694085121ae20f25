"""A fork watch over a local chain: what it reads, checks and asks can be seen."""

from __future__ import annotations

from consensus import ed25519, wire
from consensus.types import Certificate, Digest, Height, View, VoteKind
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.replica.budget import CheckCounter
from pyrsia_node.replica.evidence import EvidenceLocker, EvidenceReporter, Reporting
from pyrsia_node.replica.forks import ForkWatch, Watched
from pyrsia_node.replica.transcripts import Transcripts
from tests.fakes.build_site import Peers
from tests.fakes.local_chain import LocalChain


class Watch:
    """A fork watch over a chain; ``epochs`` are those whose set was read for it."""

    def __init__(self, local: LocalChain) -> None:
        self.local = local
        self.epochs: list[int] = []
        self.checks = CheckCounter(ed25519.verify)
        self.transcripts = Transcripts(local.store, local.chain)
        self.halts = 0
        self.peers = Peers()
        self.forks = ForkWatch(
            Watched(
                store=local.store,
                chain=local.chain,
                transcripts=self.transcripts,
                evidence=reporter(local.store, local),
                requests=self.peers,
                chain_id=Digest(local.network_id),
                checks=self.checks,
                halted=self._halted,
            )
        )

    def _halted(self) -> None:
        self.halts += 1

    def certificate(self, height: int) -> Certificate:
        n = len(self.local.chain.members_at(height).members)
        return wire.decode_certificate(self.local.chain.certificate(height), n=n)

    def signed(
        self, kind: VoteKind, name: Digest, *, height: int, view: int, signers: tuple[int, ...]
    ) -> Certificate:
        """Return what members ``signers`` of the first set say of a height of it."""
        voters = self.local.genesis.set_leaf().to_consensus()
        message = wire.vote_bytes(
            kind,
            Height(height),
            View(view),
            name,
            chain_id=Digest(self.local.network_id),
            set_hash=voters.set_hash,
        )
        signatures = tuple(self.local.members[one].sign["vote"](message) for one in signers)
        return Certificate(kind, Height(height), View(view), name, signers, signatures)

    def show(self, certificate: Certificate) -> None:
        n = len(self.local.chain.members_at(certificate.height).members)
        self.forks.look_at_frame(wire.encode_message(certificate, n=n))


def reporter(store: KeyValueStore, local: LocalChain) -> EvidenceReporter:
    async def submit(_transaction: bytes) -> None:
        raise AssertionError("nothing is reported here")

    one = local.members[0]
    return EvidenceReporter(
        EvidenceLocker(store), Reporting(one.id, local.network_id, one.sign["tx"], submit)
    )
