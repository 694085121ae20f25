r"""The hash by which a member promises an item of a sealed request before it shows it.

``commit = SHA-256(b"pyrsia/commit/1\0" | network id | salt | canon({"item": ITEM, "voter": ID}))``,
where ITEM is the item without its ``salt``. The salt hides the item, which has few likely values;
the voter inside keeps others from promising what somebody else promised.
Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.items import SALT_BYTES, Item

COMMIT_TAG: Final = b"pyrsia/commit/1\0"
"""Domain of commits."""


def commitment(item: Item, *, voter: NodeId, network_id: bytes) -> Sha256:
    """Return the commit that an item with its salt opens.

    Args:
        item: The item; its salt is 16 bytes of hex.
        voter: The member that says it.
        network_id: The 32-byte id of the network.
    """
    salt = bytes.fromhex(item.salt)
    assert len(salt) == SALT_BYTES, "an item opens a commit by its salt"
    bare = canonical.dumps({"item": replace(item, salt="").to_json(), "voter": voter})
    return sha256_of(COMMIT_TAG + network_id + salt + bare)
