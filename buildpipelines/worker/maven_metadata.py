"""Metadata of a built artifact: its pom, with the parents that every member can see.

A parent lies in the source beside the module, or among the locked files. Both are the same for
every member, so what is read here is too.
"""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.maven_proxy import ReplayRepository
from buildpipelines.recipes import pom
from buildpipelines.recipes.pom import Pom
from buildpipelines.recipes.xml import BYTES_MAX
from buildpipelines.spec.coordinates import Coordinates
from buildpipelines.spec.metadata import Metadata

POMS_MAX: Final = 2000
POMS_BYTES_MAX: Final = 32 * 1024 * 1024
"""How many poms of a source are looked at, and how large they may be together."""


async def read_metadata(
    data: bytes, coordinates: Coordinates, *, inputs: ReplayRepository, source: Path, module: str
) -> Metadata:
    """Return what a built pom and its parents say.

    Args:
        data: The built pom.
        coordinates: The version that was built.
        inputs: The locked files.
        source: The canonical tar of the source.
        module: Path of the module in it, as the recipe has it.

    Raises:
        BuildFailure: a pom that cannot be read, or one of another version.
    """
    try:
        line = await asyncio.to_thread(_line_in_tree, data, source, module)
        while (parent := line[-1].parent) is not None and len(line) <= pom.PARENTS_MAX:
            path = await inputs.file(f"{parent.coordinates.folder}/{parent.file}")
            if path is None:
                break
            line.append(pom.read_pom(path.read_bytes()))
        return await asyncio.to_thread(pom.extract_metadata, line, coordinates)
    except FormatError as error:
        raise BuildFailure("BUILD_FAILED", "pom", str(error)) from error


def _line_in_tree(data: bytes, source: Path, module: str) -> list[Pom]:
    """Return the pom and those of its parents that lie in the source, the nearest first."""
    line = [pom.read_pom(data)]
    if line[0].parent is None:
        return line
    with tarfile.open(source) as tar:
        poms = dict(_poms(tar))
        folder = next(
            (name.rpartition("/")[0] for name, text in poms.items() if text == data), module
        )
        while len(line) <= pom.PARENTS_MAX:
            path = pom.parent_path(line[-1], folder)
            text = None if path is None else poms.get(path)
            if path is None or text is None:
                break
            parent = pom.read_pom(text)
            if not pom.is_parent(parent, line[-1]):
                break  # Maven then looks for it in a repository, and so do we.
            line.append(parent)
            folder = path.rpartition("/")[0]
    return line


def _poms(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Yield the poms of a source by path, up to a bound; what is no small file is no pom."""
    count, size = 0, 0
    for member in tar:
        is_pom = member.isreg() and member.name.rpartition("/")[2] == "pom.xml"
        if not is_pom or member.size > BYTES_MAX:
            continue
        count, size = count + 1, size + member.size
        if count > POMS_MAX or size > POMS_BYTES_MAX:
            return
        file = tar.extractfile(member)
        assert file is not None, "a regular file has bytes"
        yield member.name, file.read()
