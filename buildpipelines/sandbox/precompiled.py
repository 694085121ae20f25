"""The toolchain's pip, compiled once for all builds of a worker.

Run from its wheel, pip spends three quarters of a small build on compiling itself. So the
toolchain's own Python compiles it once into an archive of byte code, which
every sandbox gets as a read-only file. The archive is made of nothing but the wheel that the
toolchain's manifest names, by the Python that the manifest names.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Final

from buildpipelines.errors import BuildFailure
from buildpipelines.sandbox import bwrap

PIP_PATH: Final = "/run/pyrsia/pip.zip"
_SECONDS_MAX = 120

# Runs in the toolchain's Python. ".pyc" beside each other in a zip is what zipimport looks for;
# unchecked, because the archive carries no source to check against.
_COMPILER: Final = """
import importlib._bootstrap_external as external, importlib.util, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, zipfile.ZipFile(sys.stdout.buffer, "w") as out:
    for name in wheel.namelist():
        data = wheel.read(name)
        if name.endswith(".py"):
            code = compile(data, name, "exec", dont_inherit=True)
            digest = importlib.util.source_hash(data)
            data, name = external._code_to_hash_pyc(code, digest, False), name + "c"
        out.writestr(zipfile.ZipInfo(name), data)
"""


class CompiledPip:
    """The compiled archive, made when the first build asks for it: starting a worker is quick."""

    def __init__(self, wheel: str) -> None:
        """Compile ``wheel`` when asked."""
        self._wheel = wheel
        self._lock = asyncio.Lock()
        self._descriptor: int | None = None

    async def descriptor(self) -> int:
        """Return a descriptor of the archive in memory; it stays this object's.

        The first call takes about a second of CPU time.

        Raises:
            BuildFailure: REFUSED: the toolchain's Python cannot compile the toolchain's pip.
        """
        async with self._lock:
            if self._descriptor is None:
                self._descriptor = await asyncio.to_thread(_compile, self._wheel)
            return self._descriptor

    def close(self) -> None:
        """Give the memory back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _compile(wheel: str) -> int:
    descriptor = os.memfd_create("pyrsia-pip")
    try:
        subprocess.run(
            [bwrap.PYTHON, "-I", "-S", "-W", "ignore", "-c", _COMPILER, wheel],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            env={},
            cwd="/",
            check=True,
            timeout=_SECONDS_MAX,
        )
    except (subprocess.SubprocessError, OSError) as error:
        os.close(descriptor)
        raise BuildFailure("REFUSED", "no toolchain", f"pip does not compile: {error}") from error
    return descriptor
