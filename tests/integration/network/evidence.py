"""What a network leaves to be seen from outside: processes in /proc, leaves in the log's files."""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.devnet.plan import PlannedNode
from pyrsia_node.ledger.publish import read_checkpoint
from pyrsia_node.ledger.tiles import TileFiles


def processes_of(folder: Path | str) -> dict[int, str]:
    """Return command lines, by process id, of all processes that name a data directory."""
    wanted = str(folder).encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # It ended between the two looks.
        if any(_is_within(word, wanted) for word in line.split(b"\0")):
            found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def _is_within(word: bytes, folder: bytes) -> bool:
    return word == folder or word.startswith(folder + b"/")


def process_of(node: PlannedNode, module: str) -> int | None:
    """Return the id of the node's process that runs a module, None while there is none."""
    for pid, line in processes_of(node.data).items():
        if f"-m {module} " in line and "bwrap" not in line:
            return pid
    return None


def leaves_on_disk(node: PlannedNode) -> list[bytes]:
    """Return every leaf that the node has published, as its tile files hold them."""
    signed = read_checkpoint(node.layout.log / "checkpoint")
    if signed is None:
        return []
    size = signed.checkpoint.size
    return list(TileFiles(node.layout.log).entries(0, size, size=size))


def assert_prefixes(logs: dict[str, list[bytes]]) -> None:
    """Assert that of any two logs one begins with the other, leaf by leaf."""
    longest_label = max(logs, key=lambda label: len(logs[label]))
    longest = logs[longest_label]
    for label, leaves in logs.items():
        for index, leaf in enumerate(leaves):
            assert leaf == longest[index], f"leaf {index} of {label} is not {longest_label}'s"
