"""How a child process notices that its supervisor is gone: a pipe that the supervisor holds.

The kernel closes the supervisor's end whatever ends it, SIGKILL included; then the child asks
itself to stop in order, and ends the hard way if that takes too long. So no child outlives the
supervisor holding a lock or a port. Closing the pipe is also how the supervisor stops a child.
One thread, so that it works under trio, asyncio and while the main thread is busy.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import MutableMapping
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.exit_codes import ORPHANED

PARENT_FD_VARIABLE: Final = "PYRSIA_PARENT_FD"
"""Names the descriptor of the pipe's reading end."""

GRACE_S: Final = 8.0
"""How long the orderly stop may take once the supervisor is gone or has closed the pipe."""


def watch_parent(
    environment: MutableMapping[str, str] = os.environ, *, grace_s: float = GRACE_S
) -> bool:
    """Send this process SIGTERM when its supervisor's pipe closes; end it ``grace_s`` s later.

    Call it early in ``main``, before anything is opened that must not be orphaned.

    Args:
        environment: where :data:`PARENT_FD_VARIABLE` stands; it is taken out, and the descriptor
            is kept from grandchildren.
        grace_s: seconds between SIGTERM and the hard end.

    Returns:
        Whether there is a supervisor; False when the process was started by hand.

    Raises:
        InvalidInputError: the variable names no open descriptor.
    """
    text = environment.pop(PARENT_FD_VARIABLE, None)
    if text is None:
        return False
    try:
        descriptor = int(text)
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's signature
    except (ValueError, OverflowError, OSError) as error:
        message = f"{PARENT_FD_VARIABLE} = {text[:40]!r} is no open descriptor"
        raise InvalidInputError(message) from error
    threading.Thread(
        target=_wait_and_stop, args=(descriptor, grace_s), name="parent-watch", daemon=True
    ).start()
    return True


def _wait_and_stop(descriptor: int, grace_s: float) -> None:
    # Nobody writes to the pipe: the read returns when the last writing end is closed.
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(ORPHANED)
