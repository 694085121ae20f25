"""``pyrsia-node run``: check that the node is whole, then become its supervisor.

Nothing is created here that `init` or `join` should have made: what is missing is named together
with the command that makes it.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import NoReturn

from pyrsia_node.core.founding import read_genesis
from pyrsia_node.gateway.pip_config import pip_index_url
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.schema.config import Config, check_network
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.config_file import read_config


def run_node(layout: Layout) -> NoReturn:
    """Check the node and become its supervisor (cli/supervise.py): same process, same id.

    Args:
        layout: the data directory, as an absolute path.

    Raises:
        NotFoundError: something is missing; the text names the command that makes it.
        InvalidInputError: the configuration, or a file's mode, is wrong.
        VerificationError: the genesis carries a signature that does not hold.
    """
    config = check_whole(layout)
    environment = {
        **os.environ,
        # Asked here once, as the user whose configuration it is: the worker may be another.
        "PIP_INDEX_URL": config.pypi.upstream or pip_index_url(os.environ, Path.home()),
    }
    command = [sys.executable, "-P", "-m", "pyrsia_node.cli.supervise"]
    sys.stdout.flush()
    os.execve(sys.executable, [*command, "--data", str(layout.root)], environment)  # noqa: S606


def check_whole(layout: Layout) -> Config:
    """Check that nothing is missing to run; return the configuration.

    Raises:
        NotFoundError: something is missing; the text names the command that makes it.
        InvalidInputError: the configuration, or the key file's mode, is wrong.
        VerificationError: the genesis carries a signature that does not hold.
    """
    _, config = read_config(layout)
    for folder, _ in layout.folders():
        if not folder.is_dir():
            raise NotFoundError(
                f"{folder} is missing, and a running node makes no folder of its own: restore it "
                "from a backup, or make a new node with `pyrsia-node init`"
            )
    if not layout.node_key.exists():
        raise NotFoundError(
            f"{layout.node_key} is missing: it is the node's identity; restore it from a backup, "
            "or make a new node with `pyrsia-node init`"
        )
    if stat.S_IMODE(layout.node_key.stat().st_mode) & 0o077:
        raise InvalidInputError(
            f"{layout.node_key} can be read by others; `chmod 600 {layout.node_key}`, and think "
            "about who may have read it"
        )
    if not layout.genesis.exists():
        raise NotFoundError(
            f"{layout.genesis} is missing: the node is in no network yet; `pyrsia-node join "
            f"GENESIS --data {layout.root}` brings it into one, `pyrsia-node network init` founds "
            "one"
        )
    check_network(config, read_genesis(layout.genesis).name)
    return config
