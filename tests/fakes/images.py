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


def large_image(size: int, seed: int = 1) -> Image:
    """Return an image with a layer of ``size`` random bytes that no client compresses smaller."""
    return busybox_image(Recipe(payload=random.Random(seed).randbytes(size), compressed=False))
