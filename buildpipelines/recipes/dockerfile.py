"""What a Dockerfile takes from outside its context, and that all of it is pinned. Pure.

Whether a build *can* reach anything else is the sandbox's business: it has no network, and the
image store inside holds what was fetched by digest and nothing more. This reader is there to find
those digests, and to say which line is wrong instead of letting a build fail in the middle.
Grammar: Dockerfile reference of Docker; ``FROM``, ``COPY --from``, ``RUN --mount=…,from=`` and
``ADD`` are looked into, everything else is left to buildah.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import BuildFailure

SCRATCH: Final = "scratch"
DEFAULT_HOST: Final = "docker.io"
STAGES_MAX: Final = 32
INDEX_ARGUMENT: Final = "PIP_INDEX_URL"
INDEX_HISTORY: Final = f"/bin/sh -c #(nop) ARG {INDEX_ARGUMENT}"
"""What buildah writes into the history for the argument that tells steps of the index."""

REFERENCE_CHARACTERS_MAX: Final = 256

_PINNED: Final = re.compile(
    r"(?P<name>[a-z0-9][a-zA-Z0-9._:/-]*?)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"@sha256:(?P<hex>[0-9a-f]{64})\Z"
)
_HOST: Final = re.compile(r"[a-z0-9.-]+(?::[0-9]{1,5})?\Z")
_REPOSITORY: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
_INSTRUCTION: Final = re.compile(r"\s*([A-Za-z]+)\s+(.*)\Z", re.DOTALL)
_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z]+)\s*=\s*(\S+)\s*\Z")
_FROM_OPTION: Final = re.compile(r"--from=(\S+)")
_MOUNT_FROM: Final = re.compile(r"--mount=\S*\bfrom=([^,\s]+)")
_ADDRESS: Final = re.compile(r"(?:https?|ftp|git)://|git@", re.IGNORECASE)
_LAYER_MAKERS: Final = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """An image by digest: ``HOST/REPOSITORY@sha256:HEX``."""

    host: str
    repository: str
    sha256: str

    def __str__(self) -> str:
        """Return the reference that :func:`parse_pin` reads back."""
        return f"{self.host}/{self.repository}@sha256:{self.sha256}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One ``FROM`` with what follows: the base (None is scratch), or the index of a stage."""

    name: str
    base: Pin | int | None
    layer_steps: int
    steps: int


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The stages in order, and every image that some line names."""

    stages: tuple[Stage, ...]
    pins: tuple[Pin, ...]

    def final(self, target: str) -> Stage:
        """Return the stage that the build ends with.

        Raises:
            BuildFailure: REFUSED, no stage is called ``target``.
        """
        if not target:
            return self.stages[-1]
        for index, stage in enumerate(self.stages):
            if target in (stage.name, str(index)):
                return stage
        raise BuildFailure("REFUSED", "Dockerfile target", f"no stage is called {target!r:.80}")

    def base_of(self, stage: Stage) -> Pin | None:
        """Return the image at the bottom of a stage; None is scratch."""
        base = stage.base
        while isinstance(base, int):
            base = self.stages[base].base
        return base


def parse_pin(text: str, *, default_host: str = DEFAULT_HOST) -> Pin | None:
    """Return the image that ``[HOST/]REPOSITORY[:TAG]@sha256:HEX`` names, or None if it is none.

    The tag says nothing where a digest stands; a bare name is one of ``library/``.
    """
    match = _PINNED.match(text)
    if match is None or len(text) > REFERENCE_CHARACTERS_MAX:
        return None
    host, slash, rest = match["name"].partition("/")
    if not (slash and (host == "localhost" or "." in host or ":" in host)):
        name = match["name"]
        host, rest = default_host, name if "/" in name else f"library/{name}"
    if not _HOST.match(host) or not _REPOSITORY.match(rest):
        return None
    return Pin(host, rest, match["hex"])


def read_dockerfile(text: str) -> Dockerfile:
    """Find the stages and pinned images of a Dockerfile.

    Raises:
        BuildFailure: REFUSED, the detail names the line: an image that is not pinned, something
            from an address, a parser that would have to be fetched, no ``FROM`` at all.
    """
    stages: list[Stage] = []
    pins: set[Pin] = set()
    for number, _, keyword, rest in _instructions(text):
        if keyword == "FROM":
            stages.append(_stage(number, rest, stages))
            pins |= {stages[-1].base} if isinstance(stages[-1].base, Pin) else set()
        elif keyword == "ARG" and not stages:
            continue
        elif not stages:
            raise _refused(number, f"{keyword} before the first FROM")
        else:
            pins |= set(_step_pins(number, keyword, rest, stages))
            last = stages[-1]
            stages[-1] = Stage(
                last.name, last.base, last.layer_steps + (keyword in _LAYER_MAKERS), last.steps + 1
            )
        if len(stages) > STAGES_MAX:
            raise _refused(number, f"more than {STAGES_MAX} stages")
    if not stages:
        raise BuildFailure("REFUSED", "Dockerfile", "no FROM line")
    return Dockerfile(tuple(stages), tuple(sorted(pins)))


def with_index_argument(text: str) -> str:
    """Return a Dockerfile whose steps know the one index that they can reach.

    A build argument is the one way to tell steps something that the image does not keep. It is
    declared after each ``FROM``, and only where a step speaks of pip. The history then has a line
    :data:`INDEX_HISTORY` more for each, which is ours to take out again.
    """
    instructions = list(_instructions(text))
    if not any(keyword == "RUN" and "pip" in rest for _, _, keyword, rest in instructions):
        return text
    ends = {end for _, end, keyword, _ in instructions if keyword == "FROM"}
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        lines.append(line)
        if number in ends:
            lines.append(f"ARG {INDEX_ARGUMENT}")
    return "\n".join(lines) + "\n"


def _instructions(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Yield (first line, last line, keyword, rest): continued lines joined, no comments."""
    pending, start, may_direct = "", 0, True
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if may_direct and (directive := _DIRECTIVE.match(stripped)):
            _check_directive(number, directive[1].lower(), directive[2])
            continue
        may_direct = False
        if stripped.startswith("#") or (not stripped and not pending):
            continue
        start = start or number
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        match = _INSTRUCTION.match(pending + stripped)
        if match is None:
            raise _refused(start, f"{(pending + stripped)[:120]!r} is no instruction")
        yield start, number, match[1].upper(), match[2].strip()
        pending, start = "", 0
    if pending:
        raise _refused(start, "the last instruction goes on after the end of the file")


def _check_directive(number: int, name: str, value: str) -> None:
    if name == "escape" and value != "\\":
        raise _refused(number, "only a backslash continues lines here")
    if name == "syntax" and not re.match(r"docker/dockerfile(:[0-9.]+)?\Z", value):
        raise _refused(number, f"the parser {value!r:.100} would have to be fetched")


def _stage(number: int, rest: str, stages: list[Stage]) -> Stage:
    words = [word for word in rest.split() if not word.startswith("--")]
    options = [word for word in rest.split() if word.startswith("--")]
    if any(not option.startswith("--platform=") for option in options):
        raise _refused(number, f"FROM {rest!r:.150} has an unknown option")
    named = len(words) == 3 and words[1].upper() == "AS"
    if not (len(words) == 1 or named):
        raise _refused(number, f"FROM {rest!r:.150} is neither FROM IMAGE nor FROM IMAGE AS NAME")
    name = words[2].lower() if named else ""
    return Stage(name, _source(number, words[0], stages, with_scratch=True), 0, 0)


def _source(number: int, text: str, stages: list[Stage], *, with_scratch: bool) -> Pin | int | None:
    for index, stage in enumerate(stages):
        if text.lower() == stage.name != "" or (not with_scratch and text == str(index)):
            return index
    if with_scratch and text == SCRATCH:
        return None
    pin = parse_pin(text)
    if pin is None:
        raise BuildFailure(
            "REFUSED",
            "image not pinned",
            f"Dockerfile line {number}: {text!r:.150} is not NAME@sha256:DIGEST"
            f"{', a stage or scratch' if with_scratch else ' or a stage'}",
        )
    return pin


def _step_pins(number: int, keyword: str, rest: str, stages: list[Stage]) -> Iterator[Pin]:
    if keyword in ("ADD", "COPY") and "<<" in rest.split("#", 1)[0]:
        raise _refused(number, "here-documents are not known to this builder")
    if keyword == "ADD" and _ADDRESS.search(rest):
        raise _refused(number, "ADD of an address: put the file into the context")
    if keyword == "ONBUILD" and (match := _INSTRUCTION.match(rest)):
        yield from _step_pins(number, match[1].upper(), match[2], stages)
        return
    pattern = {"COPY": _FROM_OPTION, "RUN": _MOUNT_FROM}.get(keyword)
    for text in pattern.findall(rest) if pattern else ():
        found = _source(number, text, stages[:-1], with_scratch=False)
        if isinstance(found, Pin):
            yield found


def _refused(number: int, text: str) -> BuildFailure:
    return BuildFailure("REFUSED", "Dockerfile", f"Dockerfile line {number}: {text}")
