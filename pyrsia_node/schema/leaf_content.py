"""What an entry of an answer says of its leaf, read from the leaf itself.

Gateways fill their answers by these functions, and the command holds what a gateway sent against
the same functions over the bytes that it has proved. docs/spec/http-api.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from pyrsia_node.model.errors import VerificationError
from pyrsia_node.schema.http import EntryFile


def type_of(content: Mapping[str, object]) -> str:
    """Return the kind of a leaf; "" where it names none."""
    return str(content.get("t", ""))


def purl_of(content: Mapping[str, object]) -> str | None:
    """Return the package that a leaf is about; None where the leaf names none."""
    # A mapping is about the packages that its pattern fits, and is found by the pattern.
    about = content.get("purl", content.get("pattern"))
    purl = _document(content).get("purl") if about is None else about
    return purl if isinstance(purl, str) else None


def files_of(content: Mapping[str, object]) -> list[EntryFile]:
    """Return the files that a leaf accepts.

    Raises:
        VerificationError: One is described in a way that no leaf of this program does.
    """
    if type_of(content) != "accepted":
        return []
    files = _document(content).get("files")
    try:
        return [EntryFile.model_validate(each) for each in files] if isinstance(files, list) else []
    except ValidationError as error:
        raise VerificationError(f"a file of an accepted leaf is malformed: {error}") from error


def _document(content: Mapping[str, object]) -> Mapping[str, object]:
    document = content.get("doc")
    return document if isinstance(document, dict) else {}
