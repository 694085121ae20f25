"""Which mounts hide a data directory from a process, and still show it what it needs. Pure.

The build worker runs other people's build scripts at one remove. It gets a mount namespace in
which of the whole data directory only its own folder exists: no keys, no token, no sockets, no
chain. The same mounts let another user reach programs below folders that only their owner may
enter (a virtual environment in a home, say).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Need:
    """A path that must stay reachable. ``is_writable`` decides between the two kinds of bind."""

    path: Path
    is_writable: bool = False


def mount_arguments(
    hidden: Path, needs: Sequence[Need], may_enter: Callable[[Path], bool]
) -> list[str]:
    """Return the bubblewrap arguments that hide ``hidden`` and show ``needs``.

    Everything else stays as it is. A folder above a need that the process may not enter is emptied
    like ``hidden``, and the needs below it are bound into the empty one. Sources of binds are
    looked up in the old tree, so what was emptied can still be bound from.

    Args:
        hidden: an absolute path, replaced by an empty folder.
        needs: absolute paths.
        may_enter: whether the process may pass through a folder as it is.
    """
    emptied = {hidden, *_closed_above(needs, may_enter)}
    bound = {need.path: need for need in needs}
    arguments: list[str] = []
    # Parents before children: a bind may show again what an emptied parent hid, and an emptied
    # child must hide what a bound parent showed.
    for path in sorted({*emptied, *bound}):
        if path in emptied:
            arguments += ["--perms", "0755", "--tmpfs", str(path)]
        elif any(path.is_relative_to(folder) for folder in emptied):
            arguments += _folders_between(emptied, path)
            kind = "--bind" if bound[path].is_writable else "--ro-bind"
            arguments += [kind, str(path), str(path)]
    return arguments


def _folders_between(emptied: set[Path], path: Path) -> Iterator[str]:
    """Make what leads from the emptied folder to a bind; bubblewrap's own are for one user only."""
    top = max(folder for folder in emptied if path.is_relative_to(folder))
    for folder in reversed(path.parents):
        if folder.is_relative_to(top) and folder != top:
            yield from ("--perms", "0755", "--dir", str(folder))


def _closed_above(needs: Sequence[Need], may_enter: Callable[[Path], bool]) -> Iterator[Path]:
    for need in needs:
        yield from (folder for folder in need.path.parents if not may_enter(folder))
