"""The error tree: every error says who is at fault, and so what to do about it.

::

    PyrsiaError
    ├─ InvalidInputError      the caller is wrong          -> 4xx, exit 2, never retried
    ├─ NotFoundError          honest absence               -> 404 in each protocol's body, exit 4
    ├─ VerificationError      digest, proof or signature does not hold; names both values -> exit 3
    ├─ PeerMisbehaviorError   a remote broke the protocol  -> score, maybe ban, try another peer
    ├─ UnavailableError       retryable: timeout, full queue, no quorum -> 503, exit 5
    └─ CorruptStateError      our own data is wrong        -> stop the process; operator runs fsck
       └─ DiskError           the disk refused a write     -> stop the process, start again, exit 5
    AssertionError            our code is wrong            -> crash with the event trace

Decoders raise only ``InvalidInputError``; ``p2p`` turns it into ``PeerMisbehaviorError`` with the
peer's id. ``consensus`` and ``buildpipelines`` import nothing of ours and have errors of their own.
"""

from __future__ import annotations


class PyrsiaError(Exception):
    """Any error that this product raises on purpose. Its text is fit for a user."""


class InvalidInputError(PyrsiaError):
    """The caller, a file or a frame is malformed; the text names what was wrong."""


class NotFoundError(PyrsiaError):
    """What was asked for does not exist, as far as this node can know."""


class VerificationError(PyrsiaError):
    """A digest, proof or signature does not hold; the text names both values."""


class PeerMisbehaviorError(PyrsiaError):
    """A remote node broke the protocol."""

    def __init__(self, peer: str, what: str) -> None:
        """Remember ``peer`` (its peer id) so that the caller can score it."""
        super().__init__(f"peer {peer}: {what}")
        self.peer = peer


class UnavailableError(PyrsiaError):
    """Something needed is not there now; the same call may succeed later."""


class CorruptStateError(PyrsiaError):
    """Our own durable data contradicts itself; the process must stop."""


class DiskError(CorruptStateError):
    """The disk refused a write, for instance because it is full; what is durable is whole.

    This process can not know what is on the disk now and must stop. One that starts anew reads it,
    and goes on once the disk takes writes again.
    """
