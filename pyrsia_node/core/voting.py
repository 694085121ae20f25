"""Brings one core's replica back from its log of votes, silent until its gate lets it vote."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.effects import Effect
from consensus.recovery import recover
from consensus.replica import Replica
from consensus.signer import Signer
from consensus.timing import Timing
from pyrsia_node.core.opened import Opened
from pyrsia_node.core.rotation import missing_keys
from pyrsia_node.model.errors import CorruptStateError, UnavailableError
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.amnesia import Asking, VotingGate
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.replica.continuity import read_log
from pyrsia_node.replica.recall import Recall
from pyrsia_node.replica.silence import SilenceFile
from pyrsia_node.replica.transcripts import Transcripts
from pyrsia_node.replica.wal import WriteAheadLog
from pyrsia_node.store.keys import KeyUse


@dataclass(frozen=True, slots=True)
class Voter:
    """A recovered replica, what it says first, and who lets it vote."""

    replica: Replica
    first_effects: list[Effect]
    gate: VotingGate
    _recall: Recall
    _opened: Opened

    @property
    def words(self) -> str:
        """Why this member does not vote, and what ends that; "" where there is nothing to say."""
        return missing_keys(self._opened) or self.gate.words

    def recall(self, peer: PeerId, question: bytes) -> bytes:
        """Answer another member's start question.

        Raises:
            UnavailableError: this node has forgotten votes itself.
            InvalidInputError: the question is malformed.
        """
        if not self.gate.may_answer:
            raise UnavailableError("this node may have forgotten votes itself; ask the others")
        return self._recall.answer(self._opened.member_peers().get(peer), question)


def recover_voter(opened: Opened, wal: WriteAheadLog, transcripts: Transcripts) -> Voter:
    """Read the log and rebuild the replica.

    Raises:
        CorruptStateError: the log is of another version or another chain.
    """
    mark = BootMark(opened.layout.root, opened.keys.public(KeyUse.VOTE))
    records, damage, continuity = read_log(wal, mark, opened.chain)
    signer = Signer(
        opened.chain_id,
        opened.me,
        opened.keys.public(KeyUse.VOTE),
        opened.keys.signer(KeyUse.VOTE),
        first_height=None,
    )
    try:
        replica, effects = recover(
            records,
            me=opened.me,
            chain_id=opened.chain_id,
            start=opened.chain.start(),
            signer=signer,
            timing=Timing(),
            verify=opened.verify,
        )
    except ValueError as error:
        raise CorruptStateError(f"{opened.layout.wal}: {error}") from error
    gate = VotingGate(
        me=opened.me,
        vote_key=opened.keys.public(KeyUse.VOTE),
        signer=signer,
        file=SilenceFile(opened.layout.wal),
        asking=Asking(
            chain=opened.chain,
            requests=opened.network,
            peer_of=opened.peer_of,
            labels=opened.labels,
            set_aside=wal.set_aside,
            is_vouched_for=continuity.is_vouched_for,
            settled=continuity.begin,
        ),
        damage=damage,
    )
    recall = Recall(chain=opened.chain, replica=replica, transcripts=transcripts)
    return Voter(replica, effects, gate, recall, opened)
