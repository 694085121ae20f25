"""The core's part in finding traitors: evidence, transcripts, forks, and what is told of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from consensus.contradiction import Contradiction, Statement
from consensus.quorum import faults
from pyrsia_node.core.opened import Opened
from pyrsia_node.ledger.convictions import convictions
from pyrsia_node.ledger.split_views import SplitViews, file_name
from pyrsia_node.model.errors import InvalidInputError, UnavailableError, VerificationError
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica.budget import CheckCounter
from pyrsia_node.replica.evidence import EvidenceLocker, EvidenceReporter, Reporting
from pyrsia_node.replica.forks import ForkWatch, Watched
from pyrsia_node.replica.transcripts import Transcripts
from pyrsia_node.schema.evidence import (
    EvidenceLine,
    EvidenceList,
    ForkLine,
    SplitViewLine,
    StatementLine,
)
from pyrsia_node.schema.links import Handler, NoParams, typed
from pyrsia_node.store.keys import KeyUse
from pyrsia_node.tlog.split_view import SplitViewProof
from pyrsia_node.tlog.trust import Trust


class Justice:
    """Evidence and forks of one core, member or not.

    ``checks`` verifies and counts: a member pays for all that its frames make this node look at.
    """

    def __init__(
        self,
        opened: Opened,
        submit: Callable[[bytes], Awaitable[None]],
        *,
        split_views: SplitViews,
        trust: Callable[[], Trust],
    ) -> None:
        """Read what earlier lives kept. ``submit`` puts a transaction on its way into the log."""
        self._opened = opened
        self._split_views = split_views
        self._trust = trust
        self._locker = EvidenceLocker(opened.store)
        self.evidence = EvidenceReporter(
            self._locker,
            Reporting(
                me=opened.me,
                network_id=opened.chain.genesis.network_id,
                sign=opened.keys.signer(KeyUse.TX),
                submit=submit,
            ),
        )
        self.checks = CheckCounter(opened.verify)
        self.transcripts = Transcripts(opened.store, opened.chain)
        self.halted: Callable[[], None] = lambda: None
        self.forks = ForkWatch(
            Watched(
                store=opened.store,
                chain=opened.chain,
                transcripts=self.transcripts,
                evidence=self.evidence,
                requests=opened.network,
                chain_id=opened.chain_id,
                checks=self.checks,
                halted=self._halt,
            )
        )

    def _halt(self) -> None:
        self.halted()

    async def run(self) -> None:
        """Report evidence, and ask about forks, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.evidence.run)
            nursery.start_soon(self.forks.run)

    def check_not_halted(self) -> None:
        """Refuse to go on with a chain that has forked.

        Raises:
            UnavailableError: a height of this chain was decided twice.
        """
        if self.forks.forks:
            raise UnavailableError(f"height {self.forks.forks[0]} is forked; see 'pyrsia evidence'")

    # ------------------------------------------------------------ what is told

    def serve_on(self, requests: PeerRequests) -> None:
        """Answer other nodes' questions for transcripts."""
        requests.serve("transcript", self._transcript, request_bytes_max=8)

    async def _transcript(self, _peer: PeerId, question: bytes) -> bytes:
        return self.transcripts.answer(question)

    def table(self) -> dict[str, Handler]:
        """Return the methods of the control link by name."""
        return {"evidence": typed(NoParams, self._evidence)}

    def alarms(self) -> list[str]:
        """Return what an operator must know of traitors, most serious first."""
        found = [self.forks.words] if self.forks.words else []
        lines = self._lines()
        if lines:
            who = ", ".join(sorted({line.label or line.culprit for line in lines}))
            found.append(
                f"EVIDENCE: {who} signed statements that contradict each other: 'pyrsia evidence'"
            )
        return found

    async def _evidence(self, _params: NoParams) -> EvidenceList:
        return EvidenceList(
            evidence=self._lines(),
            forks=[self._fork_line(each) for each in self.forks.forks],
            split_views=[split_view_line(each, self._trust()) for each in self._split_views.proofs],
        )

    def _lines(self) -> list[EvidenceLine]:
        logged = convictions(self._opened.store, self._opened.chain)
        known = {(one.proof.culprit, one.proof.crime, one.proof.set_hash) for one in logged}
        lines = [
            self._line(one.proof).model_copy(
                update={"by": one.by, "leaf": one.leaf, "block": one.block}
            )
            for one in logged
        ]
        return lines + [
            self._line(proof)
            for proof in self._locker.all()
            if (proof.culprit, proof.crime, proof.set_hash) not in known
        ]

    def _line(self, proof: Contradiction) -> EvidenceLine:
        return EvidenceLine(
            culprit=proof.culprit,
            label=self._opened.labels().get(proof.culprit, ""),
            crime=proof.crime.value,
            height=proof.height,
            view=proof.view,
            set=proof.set_hash.hex(),
            first=_statement_line(proof.first),
            second=_statement_line(proof.second),
        )

    def _fork_line(self, height: int) -> ForkLine:
        culprits = self.forks.verdict(height).culprits
        labels = self._opened.labels()
        n = len(self.transcripts.members_of(height).members)
        return ForkLine(
            height=height,
            culprits=list(culprits),
            culprit_labels=[labels.get(each, "") for each in culprits],
            needed=faults(n) + 1,
        )


def split_view_line(proof: SplitViewProof, trust: Trust) -> SplitViewLine:
    """Return what is told of a split view; this node verified every member's line in it."""
    ours, theirs = proof.heads
    signers = [sorted({line.name for line in each.signatures}) for each in (ours, theirs)]
    try:
        proof.judge(trust)
    except (InvalidInputError, VerificationError):
        is_proved = False  # the headers that heads of two sizes need are still to come
    else:
        is_proved = True
    return SplitViewLine(
        size=theirs.checkpoint.size,
        root=theirs.checkpoint.root.hex(),
        cosigned_by=signers[1],
        our_size=ours.checkpoint.size,
        our_root=ours.checkpoint.root.hex(),
        signed_both=[label for label in signers[1] if label in signers[0]],
        is_proved=is_proved,
        file=file_name(theirs.checkpoint),
    )


def _statement_line(statement: Statement) -> StatementLine:
    return StatementLine(
        kind=statement.kind.name.lower(),
        block=statement.block_hash.hex(),
        sig=statement.signature.hex(),
    )
