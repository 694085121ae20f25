"""One simulated node: lives between power losses, and what outlives them.

The power may fail between any two effects and inside a write. What is left then is ``durable``,
and ``boot`` starts from that alone, through the product's own recovery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from consensus.effects import Record
from consensus.events import Event
from consensus.ingress import Ingress
from consensus.recovery import recover
from consensus.replica import Start
from consensus.signer import GENESIS, Signer
from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.disk import DiskError
from consensus.sim.journal import DamageError, Journal
from consensus.sim.life import Life
from consensus.sim.machine import recent_signers
from consensus.sim.memory import Memory
from consensus.sim.oracle import Violation
from consensus.sim.world import Durable, Mark, Watcher, World
from consensus.types import NodeId

REKEYING_US: Final = 10 * MILLISECOND
"""How long a node is away that starts again to change its key."""

RESTART_US: Final = SECOND
"""How long a supervisor waits before it starts a node again that died of its disk."""


class PowerLossError(Exception):
    """The power of a node fails here."""


class Node:
    """A member, honest unless its frames are taken from it by somebody."""

    def __init__(
        self, durable: Durable, world: World, watcher: Watcher, *, recalls: bool = True
    ) -> None:
        """Make a node that has yet to boot.

        Args:
            durable: what it has on disk.
            world: what it shares with all others.
            watcher: who looks on.
            recalls: it asks the others for votes of its own before it votes, as the product does
                on every start; twins do not, or they would notice each other and fall silent.
        """
        self.durable = durable
        self._recalls = recalls
        self.life: Life | None = None
        self._world = world
        self._watcher = watcher
        self._steps_left: int | None = None
        self._waits_for_write = False
        self._down_us = 0
        self._lives = 0
        self._is_rekeying = False

    @property
    def me(self) -> NodeId:
        """Return the node's id."""
        return self.durable.me

    def boot(self) -> None:
        """Start from what is durable; does nothing if the node runs."""
        if self.life is None:
            self._guarded(self._boot)

    def receive(self, source: NodeId, frame: bytes) -> None:
        """Take one frame from the network; a node without power hears nothing."""
        if self.life is not None:
            self._guarded(partial(self.life.receive, source, frame))

    def submit(self, transaction: bytes) -> None:
        """Take a transaction from a client."""
        if self.life is not None:
            self._guarded(partial(self.life.submit, transaction))

    def fuse(self, *, steps: int, down_us: int, in_write: bool) -> None:
        """Let the power fail at the ``steps``-th point from now at which it can.

        With ``in_write`` it fails at the first unsynced write from there on.
        """
        self._steps_left = steps
        self._down_us = down_us
        self._waits_for_write = in_write

    def cut_power(self, down_us: int) -> None:
        """Let the power fail now."""
        if self.life is not None:
            self._die("loses power", down_us)

    def damage_log(self, down_us: int) -> None:
        """Let the power fail and the newest file of the log come back cut short."""
        self.cut_power(down_us)
        disk, names = self.durable.disk, self.durable.disk.names()
        if self.life is None and names:
            size = disk.size(names[-1])
            disk.cut_short(names[-1], self._world.chance.randrange(size))
            self.durable.is_damaged = True

    def settle(self) -> None:
        """Let power and disk stay well from now on, and the node run if it did not."""
        self._steps_left = None
        self.durable.disk.has_room = self.durable.disk.can_sync = True
        if self._is_rekeying:
            self._rekey(self._lives)
        self.boot()

    def _boot(self) -> None:
        durable, world = self.durable, self._world
        state = world.machine.state(durable.tip)
        durable.key.follow(state.members)
        self._is_rekeying = False
        journal = Journal(durable.disk, self._step, partial(self._step, in_write=True))
        forgot = durable.is_damaged
        records = self._load(journal)
        names = [stored.name for stored in durable.chain]
        self._watcher.booted(durable.me, names, records, forgot=forgot)
        start = Start(
            height=durable.height,
            tip=durable.tip,
            members=state.members,
            parent_certificate=durable.chain[-1].certificate if durable.chain else None,
            history=recent_signers(state),
            parent_members=state.block_members,
        )
        # The product starts every member in silence; see ``memory``.
        first_height = None if self._recalls else GENESIS
        signer = Signer(
            world.chain_id,
            durable.me,
            durable.key.public,
            durable.key.sign,
            first_height=first_height,
        )
        replica, effects = recover(
            records,
            me=durable.me,
            chain_id=world.chain_id,
            start=start,
            signer=signer,
            timing=world.timing,
            verify=world.verify,
        )
        self._lives += 1
        self.life = life = Life(
            durable,
            world,
            self._watcher,
            replica=replica,
            ingress=Ingress(world.chain_id, world.verify),
            journal=journal,
            step=self._step,
            later=partial(self._later, self._lives),
        )
        if self._recalls:
            life.memory = Memory(life, signer)
        life.start(records, effects)

    def _load(self, journal: Journal) -> tuple[Record, ...]:
        """Read the log; where it is damaged, mark that on disk first and begin a new one."""
        durable = self.durable
        records: tuple[Record, ...] = ()
        try:
            records = journal.load(durable.height)
        except DamageError as error:
            if not durable.is_damaged:
                raise Violation("power cut taken for amnesia", f"{self.me}: {error}") from error
            self._watcher.note(self.me, f"has a damaged log: {error}")
            durable.mark = Mark(str(error), None)
            journal.set_aside()
        durable.is_damaged = False
        return records

    def _later(self, number: int, delay_us: int, make: Callable[[], list[Event]]) -> None:
        """Hand the core what ``make`` returns after a delay, unless life ``number`` is over."""

        def act() -> None:
            life = self.life
            if life is not None and self._lives == number:
                self._guarded(lambda: life.work(deque(make())))

        self._world.clock.after(delay_us, act)

    def _look_at_key(self) -> None:
        """Plan a start with the new key once a block has replaced the one that this life holds."""
        life = self.life
        if life is None or self._is_rekeying or not self.durable.key.is_replaced(life.members()):
            return
        self._is_rekeying = True
        self._watcher.note(self.me, "holds a key that was replaced")
        self._world.clock.after(self._world.rekeying_us(), partial(self._rekey, self._lives))

    def _rekey(self, number: int) -> None:
        """Start again with the key that the set names, unless life ``number`` is over."""
        if self.life is None or self._lives != number:
            return
        waiting = self.life.waiting()
        self._die("starts again with its new key", REKEYING_US)
        self._world.clock.after(REKEYING_US, partial(self._take_up, waiting))

    def _take_up(self, transactions: tuple[bytes, ...]) -> None:
        """Go on with what clients had asked for: this was no crash, and the product stores it."""
        for transaction in transactions:
            self.submit(transaction)

    def _step(self, *, in_write: bool = False) -> None:
        """Pass one point at which the power may fail."""
        if self._steps_left is None:
            return
        self._steps_left -= 1
        if self._steps_left <= 0 and (in_write or not self._waits_for_write):
            raise PowerLossError

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
            self._look_at_key()
        except PowerLossError:
            self._die("loses power", self._down_us)
        except DiskError as error:
            # What a failed sync wrote is as unknown as after a power loss, so it is treated so.
            self._die(f"stops ({error})", RESTART_US)

    def _die(self, how: str, down_us: int) -> None:
        self._watcher.note(self.me, f"{how} for {down_us / SECOND:.3f} s")
        self.life = None
        self._steps_left = None
        self.durable.disk.lose_power(self._world.chance)
        self._world.clock.after(down_us, self.boot)
