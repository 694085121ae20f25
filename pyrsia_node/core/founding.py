"""What has to exist before a node can run: its data directory, a genesis, peers to meet.

``initialize`` makes a node, ``found_network`` makes a network out of nodes, ``join_network`` brings
the two together. Each refuses to overwrite what it finds. Nothing here talks to a network.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from consensus.ed25519 import verify
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis, Params, make_genesis
from pyrsia_node.model.members import SignedMember, sign_member
from pyrsia_node.ports import Clock
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.schema.config import Config, check_network, parse_config, render_config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.rules import is_multiaddr
from pyrsia_node.store.config_file import read_config
from pyrsia_node.store.files import create_atomic, sync_directory, write_atomic
from pyrsia_node.store.keys import KeyUse, create_keys
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.tlog.trust import TrustFile

GENESIS_BYTES_MAX: Final = 1024 * 1024
_RECORD_BYTES_MAX: Final = 64 * 1024


def initialize(layout: Layout, config: Config) -> SignedMember:
    """Make the data directory of a new node and return its member record.

    The order is what a crash leaves: ``node.toml`` comes last, so a directory without it was never
    finished, and one with it is whole.

    Args:
        layout: a directory that does not exist yet, or is empty (a mounted volume is).
        config: what ``node.toml`` will say.

    Raises:
        InvalidInputError: the directory is in use; nothing in it was touched.
    """
    # What is written must also be readable: the same rules as for a file from an operator.
    text = render_config(parse_config(render_config(config), source="the given options"))
    _require_unused(layout)
    layout.root.mkdir(parents=True, exist_ok=True)
    for folder, mode in layout.folders():
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)  # mkdir's own mode would pass through the umask
    keys = create_keys(layout.node_key)
    BootMark(layout.root, keys.public(KeyUse.VOTE)).renew()
    member = sign_member(config.node.label, keys.member_keys(), keys.member_signers())
    create_atomic(layout.member_record, member.encode())
    token = layout.root / config.http.admin_token_file
    create_atomic(token, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)
    LevelDbStore(layout.chain, create=True).close()
    create_atomic(layout.config, text.encode())
    sync_directory(layout.root.parent)
    return member


def found_network(
    name: str,
    records: Sequence[Path],
    *,
    clock: Clock,
    params: Params = DEFAULT_PARAMS,
) -> Genesis:
    """Return the genesis of a new network of the members whose records are given.

    Args:
        name: 1 to 64 characters of a-z, 0-9, dot and hyphen; "devnet…" allows faults on purpose.
        records: ``member.record`` files as ``initialize`` made them.
        clock: tells the time of founding.
        params: the network's parameters.

    Raises:
        NotFoundError: a file cannot be read.
        InvalidInputError: a record is malformed, doubled, or the name or the number is not legal.
        VerificationError: a signature does not hold.
    """
    members = [_read_member(path) for path in records]
    return make_genesis(name, time_ms=clock.now_ms(), members=members, verify=verify, params=params)


def write_genesis(genesis: Genesis, path: Path) -> Path:
    """Write the genesis and, beside it, the trust file that users give to the pyrsia command.

    Returns:
        The trust file's path: ``<network name>.trust``.

    Raises:
        InvalidInputError: one of them exists.
    """
    trust = path.with_name(f"{genesis.name}.trust")
    for target, data in ((path, genesis.encode()), (trust, TrustFile(genesis.encode()).encode())):
        try:
            create_atomic(target, data)
        except FileExistsError:
            message = f"{target} exists; a network's genesis is never overwritten"
            raise InvalidInputError(message) from None
    return trust


def read_genesis(path: Path) -> Genesis:
    """Read and check a genesis.

    Raises:
        NotFoundError: the file cannot be read.
        InvalidInputError: it is malformed.
        VerificationError: a member's signature does not hold.
    """
    genesis = Genesis.decode(_read(path, GENESIS_BYTES_MAX))
    genesis.verify(verify)
    return genesis


def join_network(layout: Layout, genesis: Genesis, peers: Sequence[str]) -> Config:
    """Bring a node into a network; joining the same network again only adds peers.

    Returns:
        The configuration as it now stands.

    Raises:
        NotFoundError: the node was not initialised.
        InvalidInputError: it is in another network, or a peer's address is malformed, or its
            configuration does not fit the network.
    """
    for peer in peers:
        if not is_multiaddr(peer, with_peer=True):
            raise InvalidInputError(
                f"--peer {peer}; allowed: a multiaddr like /ip4/192.0.2.1/tcp/44000/p2p/PEER"
            )
    text, config = read_config(layout)
    check_network(config, genesis.name)
    bootstrap = tuple(dict.fromkeys((*config.p2p.bootstrap, *peers)))
    joined = replace(config, p2p=replace(config.p2p, bootstrap=bootstrap))
    try:
        create_atomic(layout.genesis, genesis.encode())
    except FileExistsError:
        _require_same_network(layout, genesis)
    if joined != config:
        write_atomic(layout.config, _with_bootstrap(text, joined).encode())
    return joined


def _require_unused(layout: Layout) -> None:
    if not layout.root.exists():
        return
    if not layout.root.is_dir():
        raise InvalidInputError(f"{layout.root} is no directory")
    if layout.config.exists():
        raise InvalidInputError(
            f"{layout.root} holds a node already; a node's keys are never overwritten"
        )
    if layout.node_key.exists():
        raise InvalidInputError(
            f"{layout.root} holds a node whose making was cut short; remove it and start again"
        )
    # A volume of its own may hold lost+found.
    if any(entry.name != "lost+found" for entry in layout.root.iterdir()):
        raise InvalidInputError(f"{layout.root} is not empty")


def _read_member(path: Path) -> SignedMember:
    try:
        return SignedMember.decode(_read(path, _RECORD_BYTES_MAX))
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > bytes_max:
        raise InvalidInputError(f"{path} is longer than {bytes_max} bytes")
    return data


def _require_same_network(layout: Layout, genesis: Genesis) -> None:
    mine = Genesis.decode(_read(layout.genesis, GENESIS_BYTES_MAX))
    if mine.network_id != genesis.network_id:
        raise InvalidInputError(
            f"{layout.root} is in the network {mine.name} {mine.network_id.hex()}, not in "
            f"{genesis.name} {genesis.network_id.hex()}; make another node for that"
        )


def _with_bootstrap(text: str, config: Config) -> str:
    """Change the one line of ``p2p.bootstrap``, so that an operator's comments survive."""
    lines = text.splitlines(keepends=True)
    wanted = next(
        line
        for line in render_config(config).splitlines(keepends=True)
        if line.startswith("bootstrap = ")
    )
    for number, line in enumerate(lines):
        if line.startswith("bootstrap = "):
            edited = "".join([*lines[:number], wanted, *lines[number + 1 :]])
            try:
                if parse_config(edited) == config:
                    return edited
            except InvalidInputError:
                break
    return render_config(config)
