"""The node's configuration: ``node.toml`` as text to a checked, frozen value, and back.

Every key is declared once (schema/sections.py); parsing, error texts, the commented default
file and docs/reference/config.md all come from that declaration. Nothing here reads a file,
looks up a user or resolves a host name.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.maven_repositories import UPSTREAM, GroupPolicy, MavenUpstream
from pyrsia_node.schema.rules import Rule
from pyrsia_node.schema.sections import (
    BuildSection,
    CacheSection,
    DataSection,
    DockerSection,
    FaultSection,
    HttpSection,
    LogSection,
    MavenSection,
    NodeSection,
    P2pSection,
    PypiSection,
    RegistrySection,
    Section,
)
from pyrsia_node.schema.upstreams import RegistryUpstream

CONFIG_BYTES_MAX: Final = 256 * 1024
"""Largest configuration file, in bytes."""

DEVNET_PREFIX: Final = "devnet"
"""Networks whose genesis name starts so are for development; only they may switch faults on."""

_VALUE_CHARACTERS_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class Config:
    """Everything ``node.toml`` says, checked. Sections and keys are named as in the file."""

    node: NodeSection
    http: HttpSection = field(default_factory=HttpSection)
    data: DataSection = field(default_factory=DataSection)
    p2p: P2pSection = field(default_factory=P2pSection)
    cache: CacheSection = field(default_factory=CacheSection)
    pypi: PypiSection = field(default_factory=PypiSection)
    docker: DockerSection = field(default_factory=DockerSection)
    maven: MavenSection = field(default_factory=MavenSection)
    registry: RegistrySection = field(default_factory=RegistrySection)
    build: BuildSection = field(default_factory=BuildSection)
    fault: FaultSection = field(default_factory=FaultSection)
    log: LogSection = field(default_factory=LogSection)


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "node": NodeSection,
    "http": HttpSection,
    "data": DataSection,
    "p2p": P2pSection,
    "cache": CacheSection,
    "pypi": PypiSection,
    "docker": DockerSection,
    "maven": MavenSection,
    "registry": RegistrySection,
    "build": BuildSection,
    "fault": FaultSection,
    "log": LogSection,
}


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """One key as documentation shows it. ``default`` is TOML text, "" if a value must be given."""

    section: str
    name: str
    default: str
    allowed: str
    about: str


def parse_config(text: str, *, source: str = "node.toml") -> Config:
    """Parse the text of a configuration file.

    Args:
        text: TOML 1.0, at most :data:`CONFIG_BYTES_MAX` bytes.
        source: the file's name for error texts.

    Raises:
        InvalidInputError: every problem at once, each with its key, its value and what is allowed.
    """
    if len(text.encode(errors="replace")) > CONFIG_BYTES_MAX:
        raise InvalidInputError(f"{source} is longer than {CONFIG_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidInputError(f"{source} is not TOML: {error}") from error
    problems = [*_unknown_sections(document)]
    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        values = document.get(name, {})
        if not isinstance(values, dict):
            problems.append(f"{name} = {_show(values)}; allowed: a section [{name}]")
            continue
        found = list(_section_problems(name, kind, values))
        problems += found
        if not found:
            sections[name] = kind(**_read(kind, values))
    if not problems:
        config = Config(**sections)
        problems += _contradictions(config)
        if not problems:
            return config
    raise InvalidInputError("\n  ".join([f"{source}: {_count(len(problems))}", *problems]))


def check_network(config: Config, network_name: str) -> None:
    """Check what only the network's genesis can tell.

    Raises:
        InvalidInputError: faults are switched on in a network that is not for development.
    """
    if config.fault.enabled and not network_name.startswith(DEVNET_PREFIX):
        raise InvalidInputError(
            f"fault.enabled = true; allowed: false, because the network {network_name!r} is no "
            f"development network (its name does not start with {DEVNET_PREFIX!r})"
        )


def render_config(config: Config) -> str:
    """Return the text of a complete file: each key with its sentence and what is allowed.

    ``parse_config(render_config(config)) == config``.
    """
    lines = ["# Configuration of a Pyrsia node. Keys that are left out have the default shown."]
    for section, kind in SECTIONS.items():
        values = getattr(config, section)
        lines += ["", f"[{section}]"]
        for declared in fields(kind):
            rule: Rule = declared.metadata["rule"]
            lines.append(f"# {declared.metadata['about']} Allowed: {rule.allowed}.")
            lines.append(f"{declared.name} = {_toml(getattr(values, declared.name))}")
    return "\n".join(lines) + "\n"


def describe_keys() -> Iterator[KeyDescription]:
    """Yield every key in the order of the file, for documentation."""
    for section, kind in SECTIONS.items():
        for declared in fields(kind):
            rule: Rule = declared.metadata["rule"]
            default = "" if _is_required(declared) else _toml(declared.default)
            yield KeyDescription(
                section, declared.name, default, rule.allowed, declared.metadata["about"]
            )


def _unknown_sections(document: Mapping[str, object]) -> Iterator[str]:
    for name, value in document.items():
        if name in SECTIONS:
            continue
        what = f"[{name}]" if isinstance(value, dict) else f"{name} = {_show(value)}"
        yield f"{what}: unknown{_suggest(name, SECTIONS)}; allowed: {', '.join(SECTIONS)}"


def _section_problems(
    section: str, kind: type[Section], values: Mapping[str, object]
) -> Iterator[str]:
    known = {declared.name: declared for declared in fields(kind)}
    for name, value in values.items():
        if name not in known:
            yield (
                f"{section}.{name} = {_show(value)}: unknown key{_suggest(name, known)}; "
                f"allowed: {', '.join(known)}"
            )
            continue
        rule: Rule = known[name].metadata["rule"]
        if not rule.fits(value):
            yield f"{section}.{name} = {_show(value)}; allowed: {rule.allowed}"
    for name, declared in known.items():
        if name not in values and _is_required(declared):
            yield f"{section}.{name} is missing; allowed: {declared.metadata['rule'].allowed}"


def _contradictions(config: Config) -> Iterator[str]:
    if config.build.enabled and config.node.role == "regular":
        yield 'build.enabled = true; allowed: false, because node.role = "regular"'
    scheme = "https" if config.data.tls else "http"
    if config.data.url and not config.data.url.startswith(f"{scheme}://"):
        yield (
            f"data.url = {_show(config.data.url)}; allowed: {scheme}://…, because "
            f"data.tls = {_toml(config.data.tls)}"
        )
    asks = UPSTREAM in {config.maven.policy, *(each.policy for each in config.maven.policies)}
    if asks and not config.maven.upstreams:
        yield 'maven.policy or maven.policies say "upstream"; allowed: with maven.upstreams alone'
    if bool(config.http.tls_certificate) != bool(config.http.tls_key):
        yield "http.tls_certificate and http.tls_key: give both, or none"
    if config.http.port and (config.http.port, config.http.host) == (
        config.data.port,
        config.data.host,
    ):
        yield f"data.port = {config.data.port}; allowed: another port than http.port"


def _is_required(declared: Field[Any]) -> bool:
    return declared.default is MISSING


def _read(kind: type[Section], values: Mapping[str, object]) -> dict[str, Any]:
    rules = {declared.name: declared.metadata["rule"] for declared in fields(kind)}
    return {key: rules[key].read(value) for key, value in values.items()}


def _suggest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[:_VALUE_CHARACTERS_MAX] + "…"


def _count(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


def _toml(value: object) -> str:
    """Write a value that a rule let pass: its texts are printable, so JSON's escapes are TOML's."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case RegistryUpstream() | MavenUpstream() | GroupPolicy():
            return _table(value)
        case _:
            raise AssertionError(f"no configuration value: {value!r}")


def _table(value: RegistryUpstream | MavenUpstream | GroupPolicy) -> str:
    """Write an inline table; what has its default is left out."""
    said = [
        f"{declared.name} = {_toml(getattr(value, declared.name))}"
        for declared in fields(value)
        if getattr(value, declared.name) not in ("", False)
    ]
    return f"{{ {', '.join(said)} }}"
