"""What the build service asks of the gateway about upstream registries, typed.

The gateway fetches: bytes of an upstream, no code of others runs, and what comes lands in the blob
store without another copy. Methods: docs/spec/links.md (``look``, ``mirror``, ``mirror_job``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from pyrsia_node.builds.links import Caller
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.schema.mirroring import (
    Look,
    LookParams,
    Mirrored,
    MirrorFailure,
    MirrorParams,
    MirrorStatus,
)

LOOK_TIMEOUT_S: Final = 30.0
POLL_INTERVAL_S: Final = 0.2
GATEWAY_PATIENCE_S: Final = 30.0
"""How long a gateway may be away (a restart) before a running job counts as lost."""

OnProgress = Callable[[MirrorStatus], None]


class Mirror:
    """The gateway's door to upstream registries, seen from the core."""

    def __init__(self, link: Caller) -> None:
        """Call the gateway over ``link``."""
        self._link = link

    async def look(self, image: str, tag: str) -> Look:
        """Return what a tag is at its upstream now.

        Raises:
            NotFoundError: There is no such tag, or no upstream that this node may ask.
            UnavailableError: The upstream or the gateway does not answer.
        """
        params = LookParams(image=image, tag=tag)
        return Look.parse(await self._link.call("look", params.dump(), timeout_s=LOOK_TIMEOUT_S))

    async def mirror(
        self, params: MirrorParams, on_progress: OnProgress
    ) -> Mirrored | MirrorFailure:
        """Fetch an image whole, to the end; the same job is begun once.

        A cancelled call leaves the job running: ``forget`` ends it.

        Raises:
            InvalidInputError: The gateway refuses the parameters.
            UnavailableError: The gateway is away, or lost the job by a restart: begin again,
                what was fetched is there.
            VerificationError: Its answer holds neither a result nor a failure.
        """
        await self._link.call("mirror", params.dump())
        deadline = trio.current_time() + GATEWAY_PATIENCE_S
        while True:
            try:
                answer = await self._link.call("mirror_job", {"job": params.job})
            except NotFoundError:
                raise UnavailableError(f"the gateway lost job {params.job}") from None
            except UnavailableError:
                if trio.current_time() > deadline:
                    raise
                await trio.sleep(POLL_INTERVAL_S)
                continue
            deadline = trio.current_time() + GATEWAY_PATIENCE_S
            status = MirrorStatus.parse(answer)
            on_progress(status)
            if status.state != "running":
                return _ended(status)
            await trio.sleep(POLL_INTERVAL_S)

    async def forget(self, job: str) -> None:
        """End a job if it runs, and forget it; one that is gone is no error."""
        try:
            await self._link.call("mirror_forget", {"job": job})
        except (NotFoundError, UnavailableError):
            # Gone already, or with its gateway; either way there is nothing left to do here.
            return


def _ended(status: MirrorStatus) -> Mirrored | MirrorFailure:
    found = status.result if status.state == "done" else status.failure
    if found is None:
        raise VerificationError(f"the gateway says that job {status.job} is {status.state}, alone")
    return found


def progress_words(status: MirrorStatus) -> str:
    """Return how far a job is, for people."""
    if not status.total_bytes:
        return status.detail
    done, total = (each / 1e6 for each in (status.done_bytes, status.total_bytes))
    return f"{done:.1f} of {total:.1f} MB {status.detail}".strip()
