"""Mappings: where the source of a package is, as a quorum of the members says in the log. Pure.

``add_source`` maps a pattern of names to a repository, the tags of its versions, and what of a
recipe nothing else tells. The longest pattern that fits a name counts, of equal ones the newest.
Nothing is fetched here, and no tag is resolved: docs/design/maven.md, "Where a package comes from".
Specification: docs/spec/leaves.md, "Transactions"; validity: ``ledger.machine.sources``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.approvals import operation_subject
from pyrsia_node.model.builds import RecipeValue, parse_recipe, recipe_object
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.limits import REASON_LENGTH_MAX
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.purl import PURL_LENGTH_MAX, Purl
from pyrsia_node.model.sources import ARCHIVE_ENDINGS

GIT: Final = "git+"
"""What stands before the address of a git repository."""

REPOSITORY_LENGTH_MAX: Final = 200
TAG_LENGTH_MAX: Final = 100
RECIPE_BYTES_MAX: Final = 2_000
"""Canonical ``recipe`` of a mapping: what a request has room for beside its lock and source."""

_WORDS_MAX: Final = 32
_VERSION: Final = "{version}"
_ARTIFACT: Final = "{artifact}"
_GROUP_END: Final = "/*"
_ADDRESS: Final = re.compile(
    r"(?:git\+)?https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?"
    r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~+,=()-]+)+"
)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_WORD: Final = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_PATH: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*)?")

_TEXTS: Final = {
    "locale": _WORD,
    "module": _PATH,
    "newline": re.compile(r"lf|crlf"),
    "timezone": _WORD,
}
_NUMBERS: Final = {"epoch": 2**33, "jdk": 99, "umask": 0o777}
_LISTS: Final = ("goals", "profiles", "properties")
RECIPE_KEYS: Final = frozenset({*_TEXTS, *_NUMBERS, *_LISTS})
"""Fields of a Maven recipe that a mapping may say: docs/design/maven.md, "Recipe"."""


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """Where the sources of the packages that ``pattern`` fits are.

    Attributes:
        pattern: ``pkg:maven/GROUP/ARTIFACT``, or ``pkg:maven/GROUP/*`` for a whole group.
        repository: ``git+https://HOST/PATH``, or the ``https://`` address of an archive; ""
            takes the pattern back.
        tag: The tag of a version in a git repository; "" for an archive.
        recipe: What neither the published file nor a default tells.

    ``{version}`` and ``{artifact}`` in an address or a tag stand for those of the package.
    """

    pattern: str
    repository: str
    tag: str = ""
    recipe: Mapping[str, RecipeValue] = field(default_factory=dict)

    @property
    def is_git(self) -> bool:
        """Whether the source is a commit of a git repository."""
        return self.repository.startswith(GIT)

    @property
    def is_taken_back(self) -> bool:
        """Whether nothing is mapped any more."""
        return not self.repository

    def source_url(self, purl: Purl) -> str:
        """Return the address of a version's source, as a request's ``source_url`` names it."""
        return _filled(self.repository, purl)

    def tag_of(self, purl: Purl) -> str:
        """Return the tag of a version; "" for an archive."""
        return _filled(self.tag, purl)

    def members(self) -> JsonObject:
        """Return the members that stand in a transaction and in a motion's content."""
        return {
            "pattern": self.pattern,
            "recipe": recipe_object(self.recipe),
            "repository": self.repository,
            "tag": self.tag,
        }

    @classmethod
    def read(cls, got: Fields) -> SourceMapping:
        """Return the mapping among the members of an object.

        Raises:
            InvalidInputError: Not a legal mapping; the text names the member and the rule.
        """
        mapping = cls(
            pattern=got.text("pattern", length_max=PURL_LENGTH_MAX),
            repository=got.text("repository", length_max=REPOSITORY_LENGTH_MAX),
            tag=got.text("tag", length_max=TAG_LENGTH_MAX),
            recipe=parse_recipe(got),
        )
        check_mapping(mapping)
        return mapping


@dataclass(frozen=True, slots=True)
class AddSource:
    """A quorum says where the source of some packages is. ``nonce``: 16 bytes of hex."""

    kind: ClassVar[str] = "add_source"
    by: NodeId
    mapping: SourceMapping
    reason: str
    nonce: str

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def subject(self, network_id: bytes) -> Sha256:
        """Return what members approve."""
        content = {**self.mapping.members(), "op": self.kind, "reason": self.reason}
        return operation_subject(network_id, content)

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            **self.mapping.members(),
            "by": self.by,
            "nonce": self.nonce,
            "reason": self.reason,
            "t": "add_source",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> AddSource:
        """Return the statement that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal statement.
        """
        got = Fields(value, "add_source", _MEMBERS)
        got.schema("add_source")
        return cls(
            by=parse_member_id(got, "by"),
            mapping=SourceMapping.read(got),
            reason=got.text("reason", length_min=1, length_max=REASON_LENGTH_MAX),
            nonce=got.hex("nonce", size=16),
        )


def patterns_for(purl: Purl) -> tuple[str, ...]:
    """Return the patterns that fit a package, the longest first; none where there are none."""
    if purl.type != "maven":
        return ()
    whole = str(purl.without_version())
    return whole, whole.rpartition("/")[0] + _GROUP_END


def check_pattern(pattern: str) -> None:
    """Check that names can be mapped by ``pattern``.

    Raises:
        InvalidInputError: They cannot; the text says what a pattern is.
    """
    is_group = pattern.endswith(_GROUP_END)
    try:
        purl = Purl.parse(pattern.removesuffix("*") + "any" if is_group else pattern)
    except InvalidInputError as error:
        raise InvalidInputError(f"pattern {pattern!r:.200}: {error}") from None
    if purl.type != "maven" or purl.version is not None:
        raise InvalidInputError(
            f"pattern {pattern!r:.200} is not pkg:maven/GROUP/ARTIFACT or pkg:maven/GROUP/*"
        )


def check_mapping(mapping: SourceMapping) -> None:
    """Check what the members of a mapping must be, alone and together.

    Raises:
        InvalidInputError: One breaks a rule; the text names it.
    """
    check_pattern(mapping.pattern)
    if mapping.is_taken_back:
        if mapping.tag or mapping.recipe:
            raise _wrong(mapping, "without a repository there is no tag and no recipe")
        return
    if not _ADDRESS.fullmatch(_plain(mapping.repository)) or _is_host_open(mapping):
        raise _wrong(
            mapping,
            f"repository {mapping.repository!r:.200} is not git+https://HOST/PATH or"
            " https://HOST/PATH, without user, query and fragment",
        )
    if mapping.is_git:
        _check_tag(mapping)
    else:
        _check_archive(mapping)
    _check_recipe(mapping)


def _check_tag(mapping: SourceMapping) -> None:
    tag = mapping.tag
    if not tag:
        raise _wrong(mapping, "a mapping without a tag: a git repository needs one")
    plain = _plain(tag)
    if not _TAG.fullmatch(plain) or ".." in plain or plain.endswith((".", ".lock")):
        raise _wrong(mapping, f"{tag!r:.200} is no name of a git tag")
    # A pattern speaks of all versions: one tag would give each of them the same source.
    if _VERSION not in tag:
        raise _wrong(mapping, f"tag {tag!r:.200} has no {_VERSION} in it")


def _check_archive(mapping: SourceMapping) -> None:
    if mapping.tag:
        raise _wrong(mapping, f"an archive has no tag, and {mapping.tag!r:.200} is one")
    if not mapping.repository.endswith(ARCHIVE_ENDINGS):
        endings = ", ".join(ARCHIVE_ENDINGS)
        raise _wrong(
            mapping, f"{mapping.repository!r:.200} is no git+https address, nor ends in {endings}"
        )
    if _VERSION not in mapping.repository:
        raise _wrong(mapping, f"archive {mapping.repository!r:.200} has no {_VERSION} in it")


def _check_recipe(mapping: SourceMapping) -> None:
    for key, value in mapping.recipe.items():
        if key not in RECIPE_KEYS:
            known = ", ".join(sorted(RECIPE_KEYS))
            raise _wrong(mapping, f"recipe field {key!r:.80} is none of {known}")
        if not _is_legal(key, value):
            raise _wrong(mapping, f"recipe field {key} cannot be {value!r:.80}")
    if len(canonical.dumps(recipe_object(mapping.recipe))) > RECIPE_BYTES_MAX:
        raise _wrong(mapping, f"its recipe exceeds {RECIPE_BYTES_MAX} bytes")


def _is_legal(key: str, value: RecipeValue) -> bool:
    if key in _NUMBERS:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return 0 <= value <= _NUMBERS[key]
    if key in _LISTS:
        return (
            isinstance(value, tuple)
            and len(value) <= _WORDS_MAX
            and all(_WORD.fullmatch(each) for each in value)
        )
    return isinstance(value, str) and _TEXTS[key].fullmatch(value) is not None


def _wrong(mapping: SourceMapping, what: str) -> InvalidInputError:
    return InvalidInputError(f"mapping of {mapping.pattern}: {what}")


def _plain(text: str) -> str:
    """Return a text with a word for each placeholder; other braces stay, and are no word."""
    return text.replace(_VERSION, "1").replace(_ARTIFACT, "a")


def _is_host_open(mapping: SourceMapping) -> bool:
    """Tell whether a placeholder stands in the host: whom to ask hangs on no version."""
    return "{" in mapping.repository.partition("//")[2].partition("/")[0]


def _filled(text: str, purl: Purl) -> str:
    return text.replace(_VERSION, purl.version or "").replace(_ARTIFACT, purl.name)


_MEMBERS: Final = frozenset(
    {"by", "nonce", "pattern", "reason", "recipe", "repository", "t", "tag", "v"}
)
