"""Maven artifacts and their sources as people type them: ``g:a:v``, ``git+https://…@TAG``. Pure."""

from __future__ import annotations

from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.maven_builds import GIT, is_commit

GAV_METAVAR: Final = "GROUP:ARTIFACT:VERSION"


def parse_gav(text: str, *, needs_version: bool = True) -> Purl:
    """Return the artifact that ``GROUP:ARTIFACT[:VERSION]`` names; a purl is taken as well.

    Raises:
        InvalidInputError: It names none, or no version where one is needed.
    """
    if text.startswith("pkg:"):
        purl = Purl.from_user(text)
        if purl.type != "maven":
            raise InvalidInputError(f"{text!r:.200} is no Maven artifact")
    else:
        purl = _from_parts(text)
    if needs_version and purl.version is None:
        raise InvalidInputError(f"{text!r:.200} names no version; write {GAV_METAVAR}")
    return purl


def name_of(purl: Purl) -> str:
    """Return ``GROUP:ARTIFACT``, as the node takes it."""
    return f"{purl.namespace}:{purl.name}"


def parse_source(text: str) -> dict[str, str]:
    """Return the options that ``--source`` stands for: of git, with ``tag`` or ``commit``.

    Raises:
        InvalidInputError: It is no such address, or does not say which state is meant.
    """
    if "@" in text.partition("//")[2].partition("/")[0]:
        raise InvalidInputError(f"{text!r:.200}: no user or password in an address")
    if text.startswith("https://") and not text.endswith(".git"):
        if "@" in text:
            raise InvalidInputError(f"{text!r:.200}: of a git repository write {GIT}{text:.200}")
        return {"source": text}
    if not text.startswith(f"{GIT}https://"):
        raise InvalidInputError(
            f"{text!r:.200} is no source: write git+https://HOST/PATH@TAG or …@COMMIT, or the"
            " https:// address of an archive; other ways of fetching are not taken"
        )
    address, _, ref = text.partition("@")
    if not ref:
        raise InvalidInputError(
            f"{text!r:.200} pins neither a tag nor a commit: write {text:.200}@TAG"
        )
    return {"source": address, "commit" if is_commit(ref) else "tag": ref}


def _from_parts(text: str) -> Purl:
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts):
        more = " (packaging and classifier are not named)" if len(parts) > 3 else ""
        raise InvalidInputError(f"{text!r:.200} is not {GAV_METAVAR}{more}")
    if "/" in text:
        raise InvalidInputError(f"{text!r:.200}: a group is written with dots, not with slashes")
    return Purl.maven(parts[0], parts[1], parts[2] if len(parts) == 3 else None)
