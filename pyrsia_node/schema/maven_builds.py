"""What a wish for a Maven artifact may say beside its name and version: ``options``. Pure.

``source`` is where it comes from, ``git+https://HOST/PATH`` or the ``https://`` address of an
archive; without it the mapping in the log says so. The rest is recipe that no published artifact
tells (docs/design/maven.md, "Recipe"), in the form that a build takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from buildpipelines.errors import FormatError
from buildpipelines.spec.maven_fields import check_field
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.fields import Params

PIPELINE_EXTERNAL: Final = "external"
"""Value of ``pipeline``: an outside pipeline builds, and nobody counts it as rebuilt."""

GIT: Final = "git+"
_SOURCE: Final = r"^(git\+)?https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%+,=()-]+)+/?$"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

SourceText = Annotated[str, StringConstraints(max_length=256, pattern=_SOURCE)]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
_Words = Annotated[list[_Word], Field(max_length=32)]
_Property = Annotated[str, StringConstraints(max_length=256, pattern=r"^[!-~]([ -~]*[!-~])?$")]
_Properties = Annotated[list[_Property], Field(max_length=32)]
_Path = Annotated[str, StringConstraints(max_length=256, pattern=r"^[A-Za-z0-9._+/-]*$")]


class MavenOptions(Params):
    """Options of a wish; what is absent is left to the mapping, the published file, or a default.

    ``tag`` or ``commit`` say which state of a git repository is meant. ``module`` is the folder of
    the module, ``jdk`` a major version, ``epoch`` Unix seconds, ``umask`` a mode from 0 to 0o777.
    """

    source: SourceText | None = None
    tag: _Word | None = None
    commit: Annotated[str, StringConstraints(pattern=rf"^(?:{_COMMIT.pattern})$")] | None = None
    module: _Path | None = None
    jdk: Annotated[int, Field(ge=1, le=99)] | None = None
    goals: _Words | None = None
    profiles: _Words | None = None
    properties: _Properties | None = None
    newline: Literal["lf", "crlf"] | None = None
    umask: Annotated[int, Field(ge=0, le=0o777)] | None = None
    timezone: _Word | None = None
    locale: _Word | None = None
    epoch: Annotated[int, Field(ge=0, le=2**33)] | None = None
    pipeline: Literal["external"] | None = None


_PLACES: Final = frozenset({"source", "tag", "commit", "pipeline"})


def check_recipe_of(options: Mapping[str, object]) -> None:
    """Check that the recipe among options is one that a build takes.

    Raises:
        InvalidInputError: A field of it is not; the text names the field.
    """
    for name, value in options.items():
        if name in _PLACES:
            continue
        try:
            check_field(name, value)
        except FormatError as error:
            raise InvalidInputError(f"options: {error}") from None


def is_commit(text: str) -> bool:
    """Tell whether ``text`` names a git commit and not a tag: 40 or 64 lower-case hex digits."""
    return _COMMIT.fullmatch(text) is not None
