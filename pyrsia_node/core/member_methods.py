"""The control link's methods about members and motions (docs/spec/links.md)."""

from __future__ import annotations

from consensus.quorum import faults, quorum
from pyrsia_node.core.assembly import Assembly, Backing
from pyrsia_node.core.mapped_sources import sources_of
from pyrsia_node.core.motions import Motion
from pyrsia_node.core.opened import Opened
from pyrsia_node.model.digest import Sha256, parse_sha256
from pyrsia_node.schema.links import Handler, NoParams, typed
from pyrsia_node.schema.motions import (
    AdviceBody,
    AdviceTaken,
    ApprovalLine,
    ApproveParams,
    MemberLine,
    Members,
    MotionBody,
    MotionLine,
    MotionTaken,
)
from pyrsia_node.schema.sources import Sources, SourcesParams

UNKNOWN_TITLE = "not known here: its bringer does not answer"


class MemberMethods:
    """Handlers of ``run/core.sock`` that admins reach through the gateway."""

    def __init__(self, opened: Opened, assembly: Assembly) -> None:
        """Answer from the chain and from ``assembly``."""
        self._opened = opened
        self._assembly = assembly

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "members": typed(NoParams, self._members),
            "propose": typed(MotionBody, self._propose),
            "approve": typed(ApproveParams, self._approve),
            "advise": typed(AdviceBody, self._advise),
            "sources": typed(SourcesParams, self._sources),
        }

    async def _members(self, _params: NoParams) -> Members:
        opened, tip = self._opened, self._opened.chain.tip
        n = len(tip.set_leaf.members)
        return Members(
            height=tip.height,
            epoch=tip.set_leaf.epoch,
            members=self._member_lines(),
            n=n,
            f=faults(n),
            q=quorum(n),
            note=note_on(n, away=self._away()),
            params=dict[str, object](opened.chain.params.listed()),
            motions=[self._motion_line(*each) for each in self._assembly.motions().items()],
        )

    def _away(self) -> int:
        """Count the members that this member does not reach."""
        opened = self._opened
        connected = {*opened.network.connected(), opened.network.peer_id}
        return len(opened.member_peers().keys() - connected) if opened.is_member else 0

    def _member_lines(self) -> list[MemberLine]:
        network = self._opened.network
        connected = {*network.connected(), network.peer_id}
        heights = {known.peer: known.height for known in network.directory() if known.height >= 0}
        heights[network.peer_id] = self._opened.chain.tip.height
        lines = []
        for record in self._opened.chain.tip.set_leaf.members:
            peer = self._opened.peer_of(record.id)
            lines.append(
                MemberLine(
                    id=record.id,
                    label=record.label,
                    connected=peer in connected,
                    height=heights.get(peer) if peer in connected else None,
                )
            )
        return lines

    def _motion_line(self, subject: Sha256, backing: Backing) -> MotionLine:
        labels = self._opened.labels()
        motion = self._assembly.known(subject)
        candidate = motion.member().record.id if motion and backing.op == "add_node" else None
        return MotionLine(
            subject=subject,
            op=backing.op,
            title=motion.title(labels) if motion else UNKNOWN_TITLE,
            content=dict(motion.content) if motion else None,
            candidate=candidate,
            approvals=[
                ApprovalLine(id=member, label=labels[member], expiry=expiry)
                for member, expiry in backing.given.items()
            ],
            missing=[labels[member] for member in backing.missing],
            needed=backing.needed,
            is_own=self._assembly.is_own(subject),
            detail=self._assembly.obstacle(subject, backing),
        )

    async def _propose(self, params: MotionBody) -> MotionTaken:
        return self._taken(
            *await self._assembly.propose(params.op, params.content, heights=params.heights)
        )

    async def _approve(self, params: ApproveParams) -> MotionTaken:
        subject = parse_sha256(params.subject)
        return self._taken(*await self._assembly.support(subject, heights=params.heights))

    async def _advise(self, params: AdviceBody) -> AdviceTaken:
        return AdviceTaken(transaction=await self._assembly.advise(params.op, params.content))

    async def _sources(self, params: SourcesParams) -> Sources:
        return sources_of(self._opened.chain, self._opened.labels(), params)

    def _taken(self, subject: Sha256, motion: Motion, transaction: str) -> MotionTaken:
        labels = self._opened.labels()
        return MotionTaken(
            subject=subject,
            op=motion.op,
            title=motion.title(labels),
            transaction=transaction,
            needed=quorum(len(labels)),
        )


def note_on(n: int, *, away: int = 0) -> str:
    """Return what the loss of a node would cost a network of ``n`` authorized nodes.

    ``away`` are those that a member does not reach; others cannot tell who is merely far.
    """
    f, q = faults(n), quorum(n)
    if f == 0:
        text = (
            f"f=0: one node down halts the log ({q} of {n} must be up); four authorized nodes or"
            " more survive a loss"
        )
    else:
        text = f"the log goes on while {q} of {n} authorized nodes are up ({n - q} may be lost)"
    if not away:
        return text
    left = n - away - q
    if left < 0:
        return f"{text}; NOW {away} are away: the log stands still until {-left} of them are back"
    more = "one more lost halts it" if left == 0 else f"{left} more may be lost"
    return f"{text}; now {away} away: {more}"
