"""The bytes of timestamped Ed25519 cosignatures, key type 0x04. C2SP tlog-cosignature, v1.

A cosignature says: "as of this time, this is the largest consistent head of this log that I have
seen". Ours says more, as the specification allows: its maker has executed and durably stored every
block up to the size. Who may cosign, and how many must, is in ``trust``.
"""

from __future__ import annotations

from typing import Final

TIME_MAX_S: Final = 2**63 - 1
"""Latest Unix time that a cosignature may carry."""

_TIME_SIZE: Final = 8


def signed_bytes(checkpoint_text: str, *, time_s: int) -> bytes:
    """Return what the key signs: two lines of header, then the text of the checkpoint."""
    return f"cosignature/v1\ntime {time_s}\n{checkpoint_text}".encode()


def join_payload(signature: bytes, *, time_s: int) -> bytes:
    """Return the payload of a signature line: u64 time, then the signature."""
    assert 0 <= time_s <= TIME_MAX_S
    return time_s.to_bytes(_TIME_SIZE, "big") + signature


def split_payload(payload: bytes) -> tuple[int, bytes]:
    """Return (Unix time in seconds, signature); a short payload gives a short signature."""
    return int.from_bytes(payload[:_TIME_SIZE], "big"), payload[_TIME_SIZE:]
