"""Images of devnet.images that only tests need, and their names for tests."""

from __future__ import annotations

import random

from pyrsia_node.devnet.images import (
    Document,
    Image,
    Recipe,
    busybox_image,
    digest_of,
    two_platforms,
    write_layout,
)

__all__ = [
    "Document",
    "Image",
    "Recipe",
    "busybox_image",
    "digest_of",
    "large_image",
    "two_platforms",
    "write_layout",
]

_PIECE = 64 * 1024 * 1024


def large_image(size: int, seed: int = 1) -> Image:
    """Return an image with a layer of ``size`` random bytes that no client compresses smaller."""
    chance = random.Random(seed)
    pieces = (chance.randbytes(min(_PIECE, size - begin)) for begin in range(0, size, _PIECE))
    return busybox_image(Recipe(payload=b"".join(pieces), compressed=False))
