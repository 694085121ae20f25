"""Package URLs: the names of packages in requests, leaves and queries.

``Purl.parse`` takes the canonical spelling only, by ASCII rules of our own: whether a transaction
is valid depends on it, and a library's next release must not change that. ``from_user`` takes
what people type and gives the canonical form, with packageurl-python and packaging.

The canonical form is that of the purl specification, with two additions for ``pypi``: the name is
normalised as PEP 503 says and the version as PEP 440 says. For ``docker`` the namespace begins
with the registry and the version is a tag or a digest: no default of anybody's configuration is
part of a name. Qualifiers and subpaths are refused; no claim of the log is about a part of a
package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from packageurl import PackageURL
from packaging.utils import canonicalize_name, canonicalize_version

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci_terms import (
    NAME_LENGTH_MAX,
    OciDigest,
    check_host,
    check_repository,
    check_tag,
    is_digest,
    is_host,
)

PURL_LENGTH_MAX: Final = 512
"""Longest canonical text, in characters (all ASCII)."""

_SHAPE: Final = re.compile(
    r"pkg:(?P<type>[a-z][a-z0-9.-]*)"
    r"/(?:(?P<namespace>[A-Za-z0-9._~%:-]+(?:/[A-Za-z0-9._~%:-]+)*)/)?"
    r"(?P<name>[A-Za-z0-9._~%:-]+)"
    r"(?:@(?P<version>[A-Za-z0-9._~%:-]+))?"
)
_PYPI_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_MAVEN_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAVEN_VERSION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
# PEP 440, appendix B, the normalised form.
_PYPI_VERSION: Final = re.compile(
    rf"(?:[1-9][0-9]*!)?{_NUMBER}(?:\.{_NUMBER})*(?:(?:a|b|rc){_NUMBER})?"
    rf"(?:\.post{_NUMBER})?(?:\.dev{_NUMBER})?"
    rf"(?:\+(?:[a-z0-9]*[a-z][a-z0-9]*|{_NUMBER})(?:\.(?:[a-z0-9]*[a-z][a-z0-9]*|{_NUMBER}))*)?"
)


@dataclass(frozen=True, slots=True)
class Purl:
    """One package, or one version of it. Fields are decoded text.

    ``namespace`` is empty where the ecosystem has none; its segments are separated by ``/``.
    ``version`` is None for the package as a whole.
    """

    type: str
    namespace: str
    name: str
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Purl:
        """Return the package that the canonical ``text`` names.

        Raises:
            InvalidInputError: Not a purl, not canonical, or not a legal name in its ecosystem.
        """
        if len(text) > PURL_LENGTH_MAX:
            raise InvalidInputError(f"purl of {len(text)} characters exceeds {PURL_LENGTH_MAX}")
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise InvalidInputError(
                f"purl {text!r:.100} is not of the form pkg:TYPE/[NAMESPACE/]NAME[@VERSION]"
            )
        version = match["version"]
        purl = cls(
            type=match["type"],
            namespace="/".join(_decoded(part, text) for part in _segments(match["namespace"])),
            name=_decoded(match["name"], text),
            version=None if version is None else _decoded(version, text),
        )
        if str(purl) != text:
            raise InvalidInputError(f"purl {text!r:.100} is not canonical: write {purl}")
        purl._check_type_rules()
        return purl

    @classmethod
    def from_user(cls, text: str) -> Purl:
        """Return the package that a person means by ``text``, in canonical form.

        Raises:
            InvalidInputError: No reading of the text is a legal purl.
        """
        try:
            loose = PackageURL.from_string(text.strip())
            canonical = loose.to_string()
        except ValueError as error:
            raise InvalidInputError(f"{text!r:.100} is not a purl: {error}") from None
        if loose.qualifiers or loose.subpath:
            raise InvalidInputError(f"purl {text!r:.100} has qualifiers or a subpath")
        if loose.type == "pypi" and not loose.namespace:
            return cls.pypi(loose.name, loose.version)
        return cls.parse(canonical)

    @classmethod
    def pypi(cls, name: str, version: str | None = None) -> Purl:
        """Return the Python package ``name``, normalised as PEP 503 and PEP 440 say.

        Raises:
            InvalidInputError: Not a legal project name or version.
        """
        if not name.isascii() or (version is not None and not version.isascii()):
            raise InvalidInputError(f"{name!r:.80} {version!r:.80} is not ASCII")
        if version is not None:
            version = canonicalize_version(version, strip_trailing_zero=False)
        purl = cls(type="pypi", namespace="", name=canonicalize_name(name), version=version)
        return cls.parse(str(purl))

    @classmethod
    def maven(cls, group: str, artifact: str, version: str | None = None) -> Purl:
        """Return the artifact that Maven calls ``group:artifact[:version]``.

        Raises:
            InvalidInputError: Not legal coordinates, or a snapshot.
        """
        purl = cls(type="maven", namespace=group, name=artifact, version=version)
        purl._check_type_rules()
        return cls.parse(str(purl))

    def __str__(self) -> str:
        """Return the canonical text."""
        parts = [*_segments(self.namespace), self.name]
        text = f"pkg:{self.type}/" + "/".join(_encoded(part) for part in parts)
        return text if self.version is None else f"{text}@{_encoded(self.version)}"

    def without_version(self) -> Purl:
        """Return the package as a whole."""
        return Purl(type=self.type, namespace=self.namespace, name=self.name, version=None)

    def _check_type_rules(self) -> None:
        if self.type == "pypi":
            self._check_pypi()
        elif self.type == "maven":
            self._check_maven()
        elif self.type == "docker":
            try:
                self._check_docker()
            except InvalidInputError as error:
                raise InvalidInputError(f"purl {self}: {error}") from None

    def _check_docker(self) -> None:
        host, _, rest = self.namespace.partition("/")
        if not is_host(host):
            raise InvalidInputError("names no registry: write pkg:docker/HOST/REPOSITORY[@TAG]")
        repository = f"{rest}/{self.name}" if rest else self.name
        check_host(host)
        check_repository(repository)
        if len(host) + 1 + len(repository) > NAME_LENGTH_MAX:
            raise InvalidInputError(f"the image's name exceeds {NAME_LENGTH_MAX} characters")
        if self.version is not None and is_digest(self.version):
            OciDigest.parse(self.version)
        elif self.version is not None:
            check_tag(self.version)

    def _check_maven(self) -> None:
        for what, text in (("group", self.namespace), ("artifact", self.name)):
            if not _MAVEN_NAME.fullmatch(text) or ".." in text or text.endswith("."):
                raise InvalidInputError(f"purl {self}: {text!r:.80} is no {what} id of Maven")
        version = self.version
        if version is None:
            return
        if not _MAVEN_VERSION.fullmatch(version) or ".." in version:
            raise InvalidInputError(f"purl {self}: {version!r:.80} is no version of Maven")
        if version.upper().endswith("-SNAPSHOT"):
            raise InvalidInputError(f"purl {self}: a snapshot changes, and the log has none")

    def _check_pypi(self) -> None:
        if self.namespace:
            raise InvalidInputError(f"purl {self}: type pypi has no namespace")
        if not _PYPI_NAME.fullmatch(self.name):
            raise InvalidInputError(
                f"purl {self}: name {self.name!r} is not in PEP 503 normal form (lower case "
                "letters and digits, single hyphens between)"
            )
        if self.version is not None and not _PYPI_VERSION.fullmatch(self.version):
            raise InvalidInputError(
                f"purl {self}: version {self.version!r} is not in PEP 440 normal form"
            )


def _segments(namespace: str | None) -> list[str]:
    return namespace.split("/") if namespace else []


def _encoded(part: str) -> str:
    # The purl specification leaves the colon bare; everything else that is not unreserved in
    # RFC 3986 is percent-encoded, with upper-case digits.
    return quote(part, safe=":", encoding="utf-8", errors="strict")


def _decoded(part: str, whole: str) -> str:
    try:
        text = unquote(part, encoding="utf-8", errors="strict")
    except UnicodeDecodeError:
        raise InvalidInputError(f"purl {whole!r:.100} holds bytes that are not UTF-8") from None
    if text in {".", ".."} or "/" in text or any(ch < " " or ch == "\x7f" for ch in text):
        raise InvalidInputError(f"purl {whole!r:.100} holds the forbidden segment {text!r}")
    return text
