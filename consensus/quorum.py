"""Arithmetic of the protocol: thresholds, leaders, bitmaps (docs/design/consensus.md 2).

Pure functions of a member set; they know no votes and no blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.errors import DecodeError
from consensus.types import Height, MemberSet, NodeId, View

History = tuple[tuple[NodeId, ...], ...]
"""Signer ids of the parent certificates inside the newest blocks, oldest block first."""


def faults(n: int) -> int:
    """Return f, the number of traitors among ``n`` members that cost neither safety nor life."""
    assert n >= 1
    return (n - 1) // 3


def quorum(n: int) -> int:
    """Return q = n - f: two quorums share at least f + 1 members, so one honest one."""
    return n - faults(n)


def history_blocks(n: int) -> int:
    """Return how many newest blocks to keep for ``leader`` with ``n`` members now.

    Twice what the rule reads (2n), so that the window can widen when members join; at least 64.
    """
    return max(4 * n, 64)


def leader(height: Height, view: View, members: MemberSet, history: History) -> NodeId:
    """Return the leader of a view.

    View 0 goes round those members whose FINALIZE vote is in the parent certificate of at least
    one of the last 2n blocks, so that a dead member costs no timeout at every n-th height; all
    members take part when those are fewer than a quorum. Later views go round all members.
    """
    ids = [member.id for member in members.members]
    n = len(ids)
    if view > 0:
        return ids[(height + view) % n]
    # A slice of -2n also takes the whole of a shorter history, as at the first heights.
    seen = {signer for signers in history[-2 * n :] for signer in signers}
    heard = [node for node in ids if node in seen]
    candidates = heard if len(heard) >= quorum(n) else ids
    return candidates[height % len(candidates)]


def bitmap_bytes(n: int) -> int:
    """Return the length of a bitmap over ``n`` members."""
    return (n + 7) // 8


def pack_bitmap(indexes: Sequence[int], *, n: int) -> bytes:
    """Return the bitmap of ``indexes``: bit i of byte i / 8, least significant first."""
    bits = bytearray(bitmap_bytes(n))
    for index in indexes:
        assert 0 <= index < n, "a bitmap index is a member's position"
        bits[index // 8] |= 1 << (index % 8)
    return bytes(bits)


def unpack_bitmap(bits: bytes, *, n: int) -> tuple[int, ...]:
    """Return the indexes of the set bits, ascending.

    Raises:
        DecodeError: wrong length, or a bit set beyond the last member.
    """
    if len(bits) != bitmap_bytes(n):
        raise DecodeError(f"bitmap of {len(bits)} bytes, {bitmap_bytes(n)} expected for {n}")
    value = int.from_bytes(bits, "little")
    if value >> n:
        raise DecodeError(f"bitmap has a bit beyond member {n - 1}")
    return tuple(index for index in range(n) if value >> index & 1)
