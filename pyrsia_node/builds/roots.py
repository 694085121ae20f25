"""Roots of a member's own build at the three equality levels. Pure.

RFC 6962 over canon(["file", name, hex]) sorted by bytes, then canon(["metadata", hex]); the digest
of each file is of its bytes (L0), its container-normalised form (L1), its form after named metadata
rules (L2). Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256
from pyrsia_node.tlog.tree import leaf_hash, root


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A file that the build made, and its digests at the three levels."""

    name: str
    l0: Sha256
    l1: Sha256
    l2: Sha256


def own_roots(files: Sequence[BuiltFile], metadata: Sha256) -> tuple[Sha256, Sha256, Sha256]:
    """Return the roots at L0, L1 and L2 of what one member built."""
    return (
        _root([(file.name, file.l0) for file in files], metadata),
        _root([(file.name, file.l1) for file in files], metadata),
        _root([(file.name, file.l2) for file in files], metadata),
    )


def _root(digests: Sequence[tuple[str, Sha256]], metadata: Sha256) -> Sha256:
    leaves = sorted(canonical.dumps(["file", name, digest]) for name, digest in digests)
    leaves.append(canonical.dumps(["metadata", metadata]))
    return Sha256(root(leaf_hash(leaf) for leaf in leaves).hex())
