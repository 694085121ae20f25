"""New keys for a member that stays: made beside the old ones, used once the log says so.

``pyrsia-node rotate-key`` writes ``keys/node.key.next``. The member's admin brings the motion, the
others approve, a block orders the rotation; then the core stops, and its next start finds that the
set names the next keys: it renames the files and goes on as the same member.

Order of the durable steps, and what a crash leaves: (1) the next keys are durable before anybody
approves them; (2) the block commits; (3) the old key is linked to ``node.key.before-epoch-<n>``,
never deleted; (4) the next key is renamed over ``node.key``. A crash between (2) and (4) leaves
both: the next start asks the committed set again, and (3) and (4) are done again without harm.

A member whose next keys are not on this machine keeps its old ones. It is that member still, but
votes for nothing (``consensus.signer``), and says what its operator has to do.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from consensus.types import NodeId
from pyrsia_node.core.opened import Opened
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.members import KEY_NAMES, MemberRecord, SignedMember
from pyrsia_node.model.peer_id import peer_id_of
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.files import sync_directory
from pyrsia_node.store.keys import KeyUse, NodeKeys, create_keys, load_keys

_LOG: Final = logging.getLogger("pyrsia.core.rotation")

_GUIDE: Final = "docs/guides/recover.md"


def make_next_keys(layout: Layout) -> NodeKeys:
    """Make the keys that a rotation will put in force; durable on return.

    Raises:
        NotFoundError: The node was not initialised.
        InvalidInputError: It has next keys already.
    """
    load_keys(layout.node_key)
    if layout.next_key.exists():
        raise InvalidInputError(
            f"{layout.next_key} waits to be put in force already: `pyrsia rotate-key` asks the"
            " others to approve it; remove the file if nobody has approved it and you want another"
        )
    keys = create_keys(layout.next_key)
    BootMark(layout.root, keys.public(KeyUse.VOTE)).renew()  # made now, so nothing is forgotten
    return keys


def next_keys(layout: Layout) -> NodeKeys | None:
    """Return the keys that wait to be used, or None if there are none."""
    return load_keys(layout.next_key) if layout.next_key.exists() else None


def keys_in_force(layout: Layout, chain: Chain) -> NodeKeys:
    """Return the keys that the committed set names for this node, after renaming if need be.

    Raises:
        NotFoundError, InvalidInputError: As ``load_keys``.
    """
    keys, later = load_keys(layout.node_key), next_keys(layout)
    if later is None or _record_of(chain, later) is None:
        return keys
    if _record_of(chain, keys) is not None:
        return keys  # Two members, one data directory: somebody copied files. Change nothing.
    kept = layout.kept_key(chain.tip.set_leaf.epoch)
    if not kept.exists():
        os.link(layout.node_key, kept)
        sync_directory(layout.keys)
    layout.next_key.replace(layout.node_key)
    sync_directory(layout.keys)
    _LOG.warning("the rotated keys are in force; the old ones are kept in %s", kept)
    return later


def is_rotated(opened: Opened) -> bool:
    """Tell whether the newest block put the next keys in force, so that a restart is due."""
    record = opened.chain.tip.set_leaf.record_of(opened.me)
    if record is None or record.keys == opened.keys.member_keys():
        return False
    later = next_keys(opened.layout)
    return later is not None and record.keys == later.member_keys()


def missing_keys(opened: Opened) -> str:
    """Return why this member cannot vote for want of keys, and what ends that; "" otherwise."""
    record = opened.chain.tip.set_leaf.record_of(opened.me)
    if record is None or record.keys == opened.keys.member_keys() or is_rotated(opened):
        return ""
    return (
        "the log names other keys for this node than those in"
        f" {opened.layout.node_key}: a rotation replaced them. Put the file that"
        f" `pyrsia-node rotate-key` made back as {opened.layout.next_key} and start the node again;"
        f" if it is lost, have the others `pyrsia remove --peer {opened.me}` and make a new node"
        f" ({_GUIDE}, 'Keys that are not here')"
    )


def rotated_record(opened: Opened) -> SignedMember:
    """Return this member's record with the next keys, signed by all of them.

    Raises:
        InvalidInputError: There are no next keys, or this node is no member.
    """
    record = opened.chain.tip.set_leaf.record_of(opened.me)
    if record is None:
        raise InvalidInputError("this node is no member: it has no keys to rotate in the log")
    later = next_keys(opened.layout)
    if later is None:
        raise InvalidInputError(
            f"there are no new keys: `pyrsia-node rotate-key --data {opened.layout.root}` makes"
            " them; then bring the motion again"
        )
    after = MemberRecord(id=record.id, label=record.label, keys=later.member_keys())
    message, signers = after.signed_bytes(), later.member_signers()
    return SignedMember(after, tuple(signers[name](message) for name in KEY_NAMES))


def member_id(chain: Chain, keys: NodeKeys) -> NodeId:
    """Return the id of the member whose ``p2p`` key this is; of a node that is none, its peer id.

    An id is the peer id of the key at admission, and outlives it. Also whoever holds a key that a
    rotation has replaced is that member still; sets of the past are read for such a key alone.
    """
    p2p, tip = keys.public(KeyUse.P2P), chain.tip
    oldest = 0 if chain.is_retired(p2p) else tip.epoch
    for epoch in range(tip.epoch, oldest - 1, -1):
        for record in chain.set_leaf_of(epoch).members:
            if record.keys.p2p == p2p and tip.set_leaf.record_of(record.id) is not None:
                return record.id
    return NodeId(peer_id_of(p2p))


def _record_of(chain: Chain, keys: NodeKeys) -> MemberRecord | None:
    wanted = keys.member_keys()
    for record in chain.tip.set_leaf.members:
        if record.keys == wanted:
            return record
    return None
