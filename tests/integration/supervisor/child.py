"""A child that does as told: `child.py ACTION...`, for the tests of the supervisor."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from pyrsia_node.model.errors import DiskError
from pyrsia_node.schema.exit_codes import exit_code_of
from pyrsia_node.store.leveldb import LevelDbStore
from pyrsia_node.store.parent import watch_parent


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def store(folder: Path, *, has_room: bool) -> int:
    """Write to a database as the core does, and end as it does when there is no room for more."""
    watch_parent()
    if not has_room:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))
    try:
        with LevelDbStore(folder, create=True) as database:
            say(f"found {sum(1 for _ in database.scan(b''))}")
            for number in range(20):
                database.write([(b"%d" % number, bytes(1000))], sync=True)
                say(f"kept {number + 1}")
    except DiskError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code_of(error)
    say("all is kept")
    signal.sigwait({signal.SIGTERM})
    return 0


def main(action: str, *words: str) -> int:
    match action:
        case "serve":
            is_watched = watch_parent(grace_s=2.0)
            say(f"serving, watched={is_watched}")
            signal.sigwait({signal.SIGTERM})
            with Path(words[0]).open("a") as order:
                order.write(f"{words[1]}\n")
            return 0
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            watch_parent(grace_s=0.2)
            signal.pause()
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            say("deaf")
            time.sleep(600)
        case "breed":
            grandchild = subprocess.Popen(["sleep", "600"])
            say(f"grandchild {grandchild.pid}")
            signal.pause()
        case "refuse":
            sys.stderr.write(f"node.toml: {words[1]}\n")
            return int(words[0])
        case "store":
            return store(Path(words[0]), has_room=not Path(words[1]).exists())
        case "print":
            os.write(1, bytes.fromhex(words[0]))
            signal.sigwait({signal.SIGTERM} if watch_parent() else set())
        case _:
            raise AssertionError(action)
    return 1


if __name__ == "__main__":
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM} if sys.argv[1] in {"serve", "print", "store"} else set()
    )
    sys.exit(main(*sys.argv[1:]))
