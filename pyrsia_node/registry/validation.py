"""Which images a cluster may run: rules of the operator, a decision, and its reason. Pure.

The file ``registry.validation_file`` is TOML::

    default = "deny"                        # what no prefix fits; "allow" if left out
    allow = ["docker.io/library", "ghcr.io/acme"]
    deny = ["docker.io/library/wordpress"]
    must_be_logged = true                   # the log has an entry that is not withdrawn
    minimum_claim = "rebuilt"               # or "mirrored"; says must_be_logged, too
    unlogged = ["localhost:7888/team"]      # prefixes that need no entry
    refuse_tags = true                      # only images by digest

A prefix is ``HOST`` or ``HOST/PATH`` and ends at a path boundary; of those that fit, the longest
decides. Names are compared as registries are really called: ``alpine`` and ``docker.io/alpine`` are
``docker.io/library/alpine``, and a default port is none. A host may have further names that nobody
here knows, so a list of what is denied is weaker than ``default = "deny"``.

What the log says of an image comes from the caller (:class:`LogWord`); nothing here looks it up.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.artifacts.images.found import LogWord
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import (
    LIBRARY,
    ImageName,
    ImageReference,
    check_host,
    check_repository,
    parse_reference,
)

RULES_BYTES_MAX: Final = 256 * 1024
PREFIXES_MAX: Final = 4096

_RANKED: Final = ("mirrored", "rebuilt")
"""Claims that can be wanted, the weaker first. An external build is neither: nobody else has its
bytes, and no member looked into what made them."""

_DEFAULT_PORT: Final = re.compile(r":(?:443|80)\Z")
_KNOWN: Final = (
    "default",
    "allow",
    "deny",
    "must_be_logged",
    "minimum_claim",
    "unlogged",
    "refuse_tags",
)


@dataclass(frozen=True, slots=True)
class ValidationRules:
    """The operator's rules; as they stand here, everything is allowed.

    ``listed`` says for each prefix whether it is allowed. ``minimum_claim`` is "" for any claim.
    """

    default_host: str
    allows_by_default: bool = True
    listed: Mapping[str, bool] = field(default_factory=dict)
    must_be_logged: bool = False
    minimum_claim: str = ""
    unlogged: frozenset[str] = frozenset()
    refuse_tags: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image may run, and why; ``image`` is its whole name."""

    image: str
    is_allowed: bool
    reason: str


def parse_rules(text: str, *, source: str, default_host: str) -> ValidationRules:
    """Return the rules in the text of a file.

    Args:
        text: TOML, at most :data:`RULES_BYTES_MAX` bytes.
        source: The file's name for error texts.
        default_host: The registry of images that are named without one.

    Raises:
        InvalidInputError: It is no TOML, or a key or value is not allowed; all are named.
    """
    if len(text.encode(errors="replace")) > RULES_BYTES_MAX:
        raise InvalidInputError(f"{source} is longer than {RULES_BYTES_MAX} bytes")
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidInputError(f"{source} is not TOML: {error}") from error
    reader = _Reader(values, default_host)
    rules = ValidationRules(
        default_host=default_host,
        allows_by_default=reader.choice("default", ("allow", "deny"), "allow") == "allow",
        listed=reader.lists(),
        must_be_logged=reader.switch("must_be_logged"),
        minimum_claim=reader.choice("minimum_claim", _RANKED, ""),
        unlogged=frozenset(reader.prefixes("unlogged")),
        refuse_tags=reader.switch("refuse_tags"),
    )
    if reader.problems:
        raise InvalidInputError(f"{source}: " + "; ".join(reader.problems))
    return rules


def read_image(text: str, *, default_host: str) -> ImageReference:
    """Return what a person or a cluster means by ``text``, under the name that rules go by.

    Raises:
        InvalidInputError: It is no reference; one that is not understood is never allowed.
    """
    reference = parse_reference(text, default_host=default_host)
    name = canonical(reference.name, default_host=default_host)
    return ImageReference(name, reference.tag, reference.digest)


def canonical(name: ImageName, *, default_host: str) -> ImageName:
    """Return the one name that stands for all that clients take for the same image.

    Clients read ``index.HOST`` as the default registry HOST, and put its single-part names under
    ``library/``.
    """
    host = _DEFAULT_PORT.sub("", name.host)
    if host == f"index.{default_host}":
        host = default_host
    is_bare = host == default_host and "/" not in name.repository
    return ImageName(host, f"{LIBRARY}/{name.repository}" if is_bare else name.repository)


def needs_log(rules: ValidationRules, name: ImageName) -> bool:
    """Tell whether the log has a say about images of this name."""
    if not rules.must_be_logged and not rules.minimum_claim:
        return False
    return not any(prefix in rules.unlogged for prefix in _prefixes(name))


def judge(rules: ValidationRules, image: ImageReference, word: LogWord | None) -> Verdict:
    """Return whether an image may run.

    Args:
        rules: The operator's.
        image: As :func:`read_image` gives it.
        word: What the log says of it; None if nothing.
    """
    refusal = _by_lists(rules, image.name) or _by_form(rules, image)
    if not refusal and needs_log(rules, image.name):
        refusal = _by_log(rules, word)
    if refusal:
        return Verdict(str(image), is_allowed=False, reason=refusal)
    return Verdict(str(image), is_allowed=True, reason=_why_allowed(rules, image.name, word))


def _by_lists(rules: ValidationRules, name: ImageName) -> str:
    prefix = _listed(rules, name)
    if prefix is None:
        return "" if rules.allows_by_default else "no allowed prefix fits, and the default is deny"
    return "" if rules.listed[prefix] else f"{prefix} is denied"


def _by_form(rules: ValidationRules, image: ImageReference) -> str:
    if rules.refuse_tags and image.digest is None:
        return "only images by digest may run: a tag may mean another image tomorrow"
    return ""


def _by_log(rules: ValidationRules, word: LogWord | None) -> str:
    if word is None:
        return "the log has no entry for it"
    if word.closed:
        return f"the network closed entry {word.index}: {word.closed}"
    if rules.minimum_claim and word.claim not in _RANKED[_RANKED.index(rules.minimum_claim) :]:
        return f"entry {word.index} says {word.claim}, and at least {rules.minimum_claim} is wanted"
    return ""


def _why_allowed(rules: ValidationRules, name: ImageName, word: LogWord | None) -> str:
    prefix = _listed(rules, name)
    reason = "the default is allow" if prefix is None else f"{prefix} is allowed"
    if word is None or word.closed:
        return reason
    return f"{reason}; entry {word.index} of the log says {word.claim}: {word.digest}"


def _listed(rules: ValidationRules, name: ImageName) -> str | None:
    return next((prefix for prefix in _prefixes(name) if prefix in rules.listed), None)


def _prefixes(name: ImageName) -> list[str]:
    """Return the prefixes that fit a name, longest first; the last is the host."""
    parts = str(name).split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


class _Reader:
    """Reads the file's keys and gathers what is wrong with them."""

    def __init__(self, values: Mapping[str, object], default_host: str) -> None:
        self._values = values
        self._default_host = default_host
        self.problems = [
            f"{key} is unknown; known are {', '.join(_KNOWN)}"
            for key in values
            if key not in _KNOWN
        ]

    def switch(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            self.problems.append(f"{key} = {value!r:.80}; allowed: true or false")
        return value is True

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self._values.get(key, default)
        if value in choices or (value == default and isinstance(value, str)):
            return str(value)
        self.problems.append(f"{key} = {value!r:.80}; allowed: {' or '.join(choices)}")
        return default

    def lists(self) -> Mapping[str, bool]:
        allowed, denied = self.prefixes("allow"), self.prefixes("deny")
        both = sorted(set(allowed) & set(denied))
        self.problems += [f"{prefix} is both allowed and denied" for prefix in both]
        return dict.fromkeys(allowed, True) | dict.fromkeys(denied, False)

    def prefixes(self, key: str) -> list[str]:
        values = self._values.get(key, [])
        if not isinstance(values, list) or len(values) > PREFIXES_MAX:
            self.problems.append(f"{key}: allowed: a list of at most {PREFIXES_MAX} prefixes")
            return []
        return [prefix for value in values if (prefix := self._prefix(key, value))]

    def _prefix(self, key: str, value: object) -> str:
        try:
            return _check_prefix(value, self._default_host)
        except InvalidInputError as error:
            self.problems.append(f"{key}: {error}")
            return ""


def _check_prefix(value: object, default_host: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{value!r:.80} is no text")
    # People write "ghcr.io/acme/" to say that the boundary counts, which it always does.
    host, slash, path = value.removesuffix("/").partition("/")
    if host != "localhost" and "." not in host and ":" not in host:
        raise InvalidInputError(f"{value!r:.100} does not begin with a registry, HOST[:PORT]")
    host = _DEFAULT_PORT.sub("", check_host(host))
    if host == f"index.{default_host}":
        host = default_host
    return f"{host}/{check_repository(path)}" if slash else host
