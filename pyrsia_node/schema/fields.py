"""Field types that several messages share, and the two ways in which messages are read.

What comes from a caller is read strictly: a field that nobody knows is a mistake of the caller.
What comes as an answer may carry more than this version knows, and passes it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from pyrsia_node.model.errors import InvalidInputError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256, lowercase hex."""

PeerIdText = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{40,64}$")]
"""A libp2p peer id, base58."""

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]{1,64}$")]
Text = Annotated[str, StringConstraints(max_length=4096)]
LongText = Annotated[str, StringConstraints(max_length=64 * 1024)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A size in bytes, a position, a time in milliseconds: any integer from 0 that JSON keeps exact."""


class Params(BaseModel):
    """What a caller sends. Unknown fields and wrong types are refused; nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, params: Mapping[str, object]) -> Self:
        """Check and read parameters.

        Raises:
            InvalidInputError: every problem at once, each with its field and value.
        """
        return _parse(cls, params)

    def dump(self) -> dict[str, object]:
        """Return the JSON form; fields that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


class Answer(BaseModel):
    """What a link or the HTTP API answers. Fields of a later version are kept and passed on."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @classmethod
    def parse(cls, result: Mapping[str, object]) -> Self:
        """Check and read an answer.

        Raises:
            InvalidInputError: every problem at once, each with its field and value.
        """
        return _parse(cls, result)

    def dump(self) -> dict[str, object]:
        """Return the JSON form; fields that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


_Model = TypeVar("_Model", bound=BaseModel)


def _parse(kind: type[_Model], values: Mapping[str, object]) -> _Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise InvalidInputError("; ".join(_explain(problem) for problem in problems[:8])) from None


def _explain(problem: ErrorDetails) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "params"
    if problem["type"] == "missing":
        return f"{where} is missing"
    value = repr(problem["input"])
    shown = value if len(value) <= 80 else value[:80] + "…"
    return f"{where} = {shown}: {problem['msg']}"
