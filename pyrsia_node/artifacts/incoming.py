"""Files while they come from an upstream: temporary, and gone unless the store took them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pyrsia_node.model.errors import UnavailableError

PREFIX: Final = "upstream-"
"""How such files are called: what a stopped process left is deleted at the next start."""


@contextmanager
def temporary_file(folder: Path) -> Iterator[BinaryIO]:
    """Yield a file that is gone at the end, unless it was moved away.

    Raises:
        UnavailableError: It cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix=PREFIX)
    try:
        with open(name, "wb") as file:  # noqa: PTH123 - so that file.name is text
            os.close(handle)
            yield file
    except OSError as error:
        raise UnavailableError(f"cannot write {name}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
