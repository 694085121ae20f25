"""Brings missed blocks from other nodes: on boot, on every hint, and every few seconds.

What to ask, and whom, is the planner's (``replica.plan``); what an answer proves is
``replica.proving``'s. Here the questions are put, up to four ranges at a time, and what was proved
is applied in order of height. Every block is executed again, so a header that a quorum signed and
that contradicts this chain is noticed: the follower then halts and keeps the proof, and the node
serves on what it has. A block whose transactions do not give what its certain header says was
changed on its way, unless nobody can show another: its senders are left alone, and from the third
on it is an alarm.
Design: docs/design/catchup.md; wire form: docs/spec/peer-protocols.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from consensus import wire
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica import catchup_wire, gentle
from pyrsia_node.replica.catchup_wire import ANSWER_BYTES_MAX, DECISIONS_MAX
from pyrsia_node.replica.contradictions import Contradiction, reason_against
from pyrsia_node.replica.plan import Ask, AskKind, CatchupPlan
from pyrsia_node.replica.proving import ProvedBlock, UnknownSetError, prove_head, prove_range
from pyrsia_node.tlog.trust import Trust, TrustFile

_LOG = logging.getLogger("pyrsia.replica.follow")

ASK_TIMEOUT_S: Final = 10.0
SENDERS_ALARM: Final = 3
"""Different peers whose bytes for one height do not execute, before that is an alarm."""


class Apply(Protocol):
    """Applies one encoded Decision; True if it was the next height and is now committed."""

    async def __call__(self, decision: bytes, *, is_proved: bool) -> bool:
        """Apply it; ``is_proved`` says that its header and certificates hold already."""
        ...


@dataclass(frozen=True, slots=True)
class _Range:
    """Proved blocks that wait for their turn, and who sent them."""

    first: int
    peer: PeerId
    blocks: list[ProvedBlock]

    def holds(self, height: int) -> bool:
        return self.first <= height < self.first + len(self.blocks)


class Follower:
    """Pulls decisions until no peer has more, for ever.

    ``on_alarm`` gets what an operator must know, and "" when it is over; ``on_contradiction`` gets
    the proof before the follower stops. With a ``contradiction`` of an earlier life that still
    stands it does not start.
    """

    def __init__(
        self,
        *,
        requests: PeerRequests,
        chain: Chain,
        apply: Apply,
        on_alarm: Callable[[str], None] = lambda _text: None,
        on_contradiction: Callable[[Contradiction], None] = lambda _found: None,
        contradiction: Contradiction | None = None,
    ) -> None:
        """Follow ``chain`` through ``apply``, which commits to it."""
        self._requests = requests
        self._chain = chain
        self._apply = apply
        self._on_alarm = on_alarm
        self._on_contradiction = on_contradiction
        changes = tuple(set_changes(chain))
        self._trust = Trust.establish(TrustFile(chain.genesis.encode(), changes))
        self._plan = CatchupPlan(chain.tip.height)
        self._ranges: dict[int, _Range] = {}
        self._refused_from: dict[PeerId, str] = {}
        self._refused_height = 0
        self._wake = trio.Event()
        self.is_halted = False
        if contradiction is not None:
            self._halt(contradiction)

    @property
    def target(self) -> int:
        """The greatest height that is proved to be final, committed here or not."""
        return max(self._plan.target, self._chain.tip.height)

    def hint(self, source: PeerId, height: int) -> None:
        """Note that ``source`` speaks of ``height``; it is asked next if that is news."""
        self._plan.advanced(self._chain.tip.height)
        self._plan.hinted(source, height, trio.current_time())
        self._wake.set()

    async def run(self) -> None:
        """Pull for ever. Cancel to stop.

        Raises:
            CorruptStateError: our own chain contradicts itself; nothing a peer sends raises it.
        """
        async with trio.open_nursery() as nursery:
            while not self.is_halted:
                self._look_round()
                for ask in self._plan.next_asks(trio.current_time()):
                    nursery.start_soon(self._perform, ask)
                if not await self._apply_next():
                    await self._pause()
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    def _look_round(self) -> None:
        """Tell the planner what changed without it: links, and what consensus committed."""
        self._plan.connected(self._requests.connected(), trio.current_time())
        tip = self._chain.tip
        self._plan.advanced(tip.height)
        if tip.epoch > self._trust.current.epoch:
            first = self._trust.current.epoch + 1
            self._trust = self._trust.extended(*set_changes(self._chain, first_epoch=first))
        for first, held in list(self._ranges.items()):
            if first + len(held.blocks) <= tip.height + 1:
                del self._ranges[first]

    async def _pause(self) -> None:
        with trio.move_on_after(self._plan.wait_s(trio.current_time())):
            await self._wake.wait()
        self._wake = trio.Event()

    # ------------------------------------------------------------ asking

    async def _perform(self, ask: Ask) -> None:
        """Put one question and tell the planner how it went; no peer makes this raise."""
        try:
            match ask.kind:
                case AskKind.PROBE | AskKind.RANGE:
                    await self._ask_blocks(ask)
                case AskKind.HEAD:
                    await self._ask_head(ask)
                case AskKind.CHANGES:
                    await self._ask_changes(ask)
        except CorruptStateError:
            raise
        except (UnavailableError, NotFoundError) as error:
            _LOG.debug("%s from %s: %s", ask.kind.value, ask.peer, error)
            self._plan.failed(ask, trio.current_time(), lied=False)
        except (PeerMisbehaviorError, InvalidInputError, VerificationError) as error:
            _LOG.warning(
                "peer %s sent a %s that does not hold: %s", ask.peer, ask.kind.value, error
            )
            self._plan.failed(ask, trio.current_time(), lied=True)
        except PyrsiaError as error:
            _LOG.debug("%s from %s: %s", ask.kind.value, ask.peer, error)
            self._plan.failed(ask, trio.current_time(), lied=False)
        self._wake.set()

    async def _ask_blocks(self, ask: Ask) -> None:
        request = catchup_wire.encode_range(
            first=ask.first, count=ask.count, bytes_max=ask.bytes_max
        )
        answer = await self._ask(ask.peer, "decisions", request)
        decisions = catchup_wire.split_prefixed(answer, items_max=DECISIONS_MAX)
        if not decisions:
            self._plan.nothing_there(ask, trio.current_time())
            return
        if len(decisions) > ask.count:
            raise InvalidInputError(f"{len(decisions)} decisions, {ask.count} were asked for")
        trust = self._trust
        try:
            blocks = prove_range(trust, decisions, first=ask.first)
        except UnknownSetError:
            if ask.kind is AskKind.RANGE:
                raise
            self._plan.set_unknown(ask, trust.current.epoch + 1)
            return
        held = self._ranges.get(ask.first)
        if held is None or len(held.blocks) < len(blocks):
            self._ranges[ask.first] = _Range(ask.first, ask.peer, blocks)
        last = ask.first + len(blocks) - 1
        self._plan.blocks_proved(ask, last=last, size=len(answer), now=trio.current_time())

    async def _ask_head(self, ask: Ask) -> None:
        head = catchup_wire.decode_head(await self._ask(ask.peer, "head", b""))
        if head is None:
            self._plan.nothing_there(ask, trio.current_time())
            return
        try:
            header = prove_head(self._trust, *head)
        except UnknownSetError:
            self._plan.set_unknown(ask, self._trust.current.epoch + 1)
            return
        self._plan.head_proved(ask, header.height)

    async def _ask_changes(self, ask: Ask) -> None:
        answer = await self._ask(ask.peer, "changes", catchup_wire.encode_first_epoch(ask.first))
        changes = catchup_wire.decode_changes(answer)
        if not changes:
            raise VerificationError("a set was named whose changes cannot be shown")
        # Another answer, or our own commits, may have brought some of them meanwhile.
        known = self._trust.current.epoch + 1 - ask.first
        trust = await gentle.extended(self._trust, changes[max(0, known) :])
        if trust.current.epoch > self._trust.current.epoch:
            self._trust = trust
        self._plan.changes_proved(ask)

    async def _ask(self, peer: PeerId, method: str, request: bytes) -> bytes:
        # Twice the limit: a first decision goes out whatever its size, and lengths come on top.
        return await self._requests.ask(
            peer,
            method,
            request,
            timeout_s=ASK_TIMEOUT_S,
            answer_bytes_max=2 * ANSWER_BYTES_MAX,
        )

    # ------------------------------------------------------------ applying

    async def _apply_next(self) -> bool:
        """Apply blocks that follow the tip as long as they are here; True if there was one."""
        height = self._chain.tip.height + 1
        held = next((one for one in self._ranges.values() if one.holds(height)), None)
        if held is None:
            return False
        for block in held.blocks[height - held.first :]:
            if block.header.height != self._chain.tip.height + 1:
                break  # consensus was faster
            if not self._may_follow(block) or not await self._apply_one(held, block):
                break
            await trio.lowlevel.checkpoint()
        return True

    def _may_follow(self, block: ProvedBlock) -> bool:
        """Tell whether a header that a quorum finalized can follow our tip; halt if it cannot."""
        height = block.header.height
        reason = reason_against(self._chain, block.block, height)
        if reason:
            found = Contradiction(height, block.block, block.certificate, reason)
            self._on_contradiction(found)
            self._halt(found)
        return not reason

    def _halt(self, found: Contradiction) -> None:
        self._on_alarm(found.words)
        _LOG.critical("%s", found.words)
        self.is_halted = True

    async def _apply_one(self, held: _Range, block: ProvedBlock) -> bool:
        decision = wire.join_decision(block.block, block.certificate)
        height = block.header.height
        try:
            await self._apply(decision, is_proved=True)
        except CorruptStateError:
            raise
        except UnavailableError as error:
            # A fork, or rules that this node does not know: nothing more can be applied, and what
            # is here is served on.
            _LOG.critical("no block from %d on is taken: %s", height, error)
            self._on_alarm(str(error))
            self.is_halted = True
            return False
        except (InvalidInputError, VerificationError) as error:
            _LOG.warning("block %d as %s sent it does not execute: %s", height, held.peer, error)
            self._ranges.pop(held.first, None)
            self._plan.dropped(held.first, held.peer, trio.current_time())
            self._note_refused(height, held.peer, str(error))
            return False
        if height == self._refused_height:
            self._refused_from.clear()
            self._on_alarm("")
        return True

    def _note_refused(self, height: int, peer: PeerId, why: str) -> None:
        if height != self._refused_height:
            self._refused_height = height
            self._refused_from.clear()
        if len(self._refused_from) < SENDERS_ALARM:
            self._refused_from[peer] = why
        if len(self._refused_from) == SENDERS_ALARM:
            self._on_alarm(
                f"block {height} is final, but what {SENDERS_ALARM} nodes sent of it does not "
                f"execute ({why}): this node goes on asking; a quorum may have finalized an "
                "invalid block"
            )
