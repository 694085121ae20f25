"""What a download asks others about: who has the artifact, its piece list, who has which piece.

Answers are hints, except the piece list, which is checked against the root in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from pyrsia_node.artifacts.values import Artifact, Surroundings, Tally
from pyrsia_node.model.errors import (
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import Holder
from pyrsia_node.store.pieces import Bitmap, PieceList, piece_count

ASK_AGAIN_SECONDS: Final = (0.25, 0.5, 1.0, 2.0)
"""When nobody is left, who-has-what is asked again after these waits; then the download fails."""

_log = logging.getLogger("pyrsia.artifacts")


class Inquiry:
    """Asks on behalf of one download, and remembers who did not answer well."""

    def __init__(self, artifact: Artifact, around: Surroundings, tally: Tally) -> None:
        """Ask about ``artifact``; failures are counted in ``tally``."""
        self._artifact = artifact
        self._around = around
        self._tally = tally
        self._count = piece_count(artifact.size)

    async def holders(self) -> list[Holder]:
        """Return who may have it; without a router, who served us lately."""
        try:
            return await self._around.router.holders(self._artifact.sha256)
        except UnavailableError as error:
            _log.info("who-has-what cannot be asked: %s", error)
            return self._around.memory.recent()

    async def announce(self, *, complete: bool) -> None:
        """Tell that we have it; nobody's download depends on it, so failures are silent."""
        with contextlib.suppress(UnavailableError):
            await self._around.router.announce(self._artifact.sha256, complete=complete)

    async def wait(self, seconds: float | None) -> None:
        """Wait before asking again; None means that we have asked often enough.

        Raises:
            UnavailableError: The last wait is over.
        """
        if seconds is None:
            raise UnavailableError(
                f"no peer that can be reached has artifact {self._artifact.sha256} now "
                f"({self._tally.wrong} wrong answers, {self._tally.refused} failed requests)"
            )
        await asyncio.sleep(seconds)

    async def piece_list(self, holders: list[Holder]) -> PieceList:
        """Return the checked piece list; ``holders`` is brought up to date on the way.

        Raises:
            UnavailableError: Nobody who can be reached gave the right one.
        """
        waits = iter(ASK_AGAIN_SECONDS)
        while True:
            for holder in self._around.memory.usable(holders, self._now()):
                pieces = await self._ask_piece_list(holder)
                if pieces is not None:
                    return pieces
            await self.wait(next(waits, None))
            holders[:] = await self.holders()

    async def pieces_at(self, holder: Holder) -> Bitmap | None:
        """Return which pieces a holder says it has; None means all.

        Raises:
            NotFoundError: It has none, or could not be asked.
        """
        try:
            bits = await self._around.source.have(holder, self._artifact.sha256)
        except (UnavailableError, NotFoundError, PeerMisbehaviorError) as error:
            _log.info("pieces of %s: %s", self._artifact.sha256, error)
            self._around.memory.failed(holder, self._now())
            raise NotFoundError(str(error)) from error
        return None if bits is None else Bitmap(self._count, bits)

    async def _ask_piece_list(self, holder: Holder) -> PieceList | None:
        artifact, memory = self._artifact, self._around.memory
        try:
            hashes = await self._around.source.piece_hashes(
                holder, artifact.sha256, count=self._count
            )
            return PieceList.check(hashes, size=artifact.size, root=artifact.pieces)
        except (PeerMisbehaviorError, VerificationError) as error:
            self._tally.wrong += 1
            _log.warning("leaving peer %s: %s", holder.peer, error)
            memory.lied(holder, self._now())
        except (UnavailableError, NotFoundError) as error:
            self._tally.refused += 1
            _log.info("piece list of %s: %s", artifact.sha256, error)
            memory.failed(holder, self._now())
        return None

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
