"""The sections of ``node.toml``: each key declared once, with default, rule and sentence.

Values only; schema/config.py parses, explains and renders them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pyrsia_node.schema import rules
from pyrsia_node.schema.maven_repositories import (
    GroupPolicy,
    MavenUpstream,
    group_policies,
    group_prefixes,
    maven_upstreams,
)
from pyrsia_node.schema.rules import Rule
from pyrsia_node.schema.upstreams import DEFAULT_UPSTREAMS, RegistryUpstream, upstream_tables

WORKER_UID_DEFAULT: Final = 64000
"""The build worker's user id when the node runs as root and build.user is empty: above what
distributions give to people and services, so normally nobody's."""

_GIB: Final = 1024**3
_T = TypeVar("_T")


def _key(default: _T, rule: Rule, about: str) -> _T:
    """Declare a key. The type checker sees the default; dataclasses see the field."""
    declared: Any = field(default=default, metadata={"rule": rule, "about": about})
    result: _T = declared
    return result


def _required(rule: Rule, about: str) -> Any:
    return field(metadata={"rule": rule, "about": about})


@dataclass(frozen=True, slots=True)
class NodeSection:
    """[node] Who this node is."""

    label: str = _required(rules.label(), "The node's name in tables and on its cosignatures.")
    role: str = _required(
        rules.one_of("authorized", "regular"),
        "An authorized node votes and rebuilds; a regular node serves.",
    )


@dataclass(frozen=True, slots=True)
class HttpSection:
    """[http] The listener for clients."""

    host: str = _key("127.0.0.1", rules.host(), "Where pip and the pyrsia command reach the node.")
    port: int = _key(7888, rules.integer(0, 65535), "0 lets the system choose.")
    admin_token_file: str = _key(
        "admin.token", rules.file_path(), "Holds the token that calls which change something need."
    )
    tls_certificate: str = _key(
        "",
        rules.optional_path(),
        'PEM file with the certificate chain for clients; "" speaks plain HTTP.',
    )
    tls_key: str = _key("", rules.optional_path(), "PEM file with the certificate's key.")
    public_url: str = _key(
        "",
        rules.origin(),
        'How clients call the node where a proxy stands before it; "" is as they call it.',
    )
    cors_origins: tuple[str, ...] = _key(
        (),
        rules.origins(),
        'Web pages of these origins may use the node as clients do; "*" lets every page read.',
    )


@dataclass(frozen=True, slots=True)
class DataSection:
    """[data] The listener for other nodes, which carries bytes."""

    host: str = _key("0.0.0.0", rules.host(), "Where other nodes fetch artifacts.")  # noqa: S104 - to serve peers is the listener's purpose; it offers public, logged artifacts alone
    port: int = _key(44001, rules.integer(0, 65535), "0 lets the system choose.")
    url: str = _key(
        "",
        rules.url("https", "http"),
        'The URL that peers are told; "" derives it from host and port.',
    )
    tls: bool = _key(
        default=True,
        rule=rules.boolean(),
        about="TLS 1.3 with a pinned certificate; integrity holds without.",
    )
    upload: bool = _key(
        default=True, rule=rules.boolean(), about="Whether peers may fetch from this node."
    )
    bandwidth_bytes_per_s: int = _key(
        0, rules.integer(0, rules.INTEGER_MAX, "bytes per second"), "Upload limit; 0 is none."
    )


@dataclass(frozen=True, slots=True)
class P2pSection:
    """[p2p] The listener for other nodes, which carries messages."""

    listen: tuple[str, ...] = _key(
        ("/ip4/0.0.0.0/tcp/44000",),
        rules.multiaddrs(with_peer=False),
        "Where other nodes' cores reach this one.",
    )
    announce: tuple[str, ...] = _key(
        (), rules.multiaddrs(with_peer=False), "Told to peers instead of the listen addresses."
    )
    bootstrap: tuple[str, ...] = _key(
        (), rules.multiaddrs(with_peer=True), "Peers to meet first; retried for ever."
    )
    gossip: bool = _key(
        default=True,
        rule=rules.boolean(),
        about="Hints by gossip; without them nodes pull every few seconds.",
    )


@dataclass(frozen=True, slots=True)
class CacheSection:
    """[cache] Space for what others built."""

    bytes_max: int = _key(
        10 * _GIB,
        rules.integer(16 * 1024**2, rules.INTEGER_MAX, "bytes"),
        "Space for artifacts that this node did not build; least recently used goes first.",
    )
    low_percent: int = _key(
        90,
        rules.integer(10, 100, "percent"),
        "Once the space is exceeded, the cache shrinks to this share of it.",
    )


@dataclass(frozen=True, slots=True)
class PypiSection:
    """[pypi] What pip gets."""

    upstream: str = _key(
        "",
        rules.url("https", "http"),
        'A simple index; "" takes the one that pip is configured for.',
    )
    policy: str = _key(
        "deny",
        rules.one_of("deny", "upstream"),
        "What happens to names that the log does not know.",
    )
    strict: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="One logged version shuts the whole name off from the upstream.",
    )
    reserved: tuple[str, ...] = _key(
        (), rules.reserved_names(), "Names that are never asked of the upstream."
    )
    serve_contradicting: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Serve builds that differ from the file that the upstream publishes.",
    )
    serve_revoked: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Serve what the network withdrew or revoked, marked as yanked.",
    )
    allow_private: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="The upstream may live at a loopback, link-local or private address.",
    )


@dataclass(frozen=True, slots=True)
class DockerSection:
    """[docker] Images of the network and of other registries."""

    default_registry: str = _key(
        "docker.io", rules.registry_host(), "The registry of images that are named without one."
    )
    upstreams: tuple[RegistryUpstream, ...] = _key(
        DEFAULT_UPSTREAMS,
        upstream_tables(),
        "Registries that this node may ask: for imports, and for clients where policy allows.",
    )
    policy: str = _key(
        "deny",
        rules.one_of("deny", "upstream"),
        "What happens to images that the log does not know.",
    )
    strict: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="One logged tag shuts the whole repository off from the upstream.",
    )
    fresh_seconds: int = _key(
        60,
        rules.integer(0, 30 * 86_400, "seconds"),
        "How long an upstream's tag is believed without asking again.",
    )
    offline: bool = _key(
        default=False, rule=rules.boolean(), about="Serve what is here, ask no upstream."
    )
    auth_file: str = _key(
        "",
        rules.optional_path(),
        "Credentials for upstreams, in the format of containers-auth.json(5).",
    )
    request_on_miss: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="A pull of an unknown image asks the authorized nodes to import it.",
    )
    requests_per_hour: int = _key(
        20, rules.integer(1, 1000), "Imports that pulls may ask for, in all."
    )
    import_bytes_max: int = _key(
        16 * _GIB,
        rules.integer(1024**2, rules.INTEGER_MAX, "bytes"),
        "Images with more bytes in all are not imported; an authorized node keeps what it attests.",
    )
    serve_revoked: bool = _key(
        default=False, rule=rules.boolean(), about="Serve what the network withdrew or revoked."
    )


@dataclass(frozen=True, slots=True)
class MavenSection:
    """[maven] What Maven and Gradle get."""

    upstreams: tuple[MavenUpstream, ...] = _key(
        (),
        maven_upstreams(),
        "Repositories that this node may ask, in this order: for builds, and for clients where "
        "policy allows.",
    )
    policy: str = _key(
        "deny",
        rules.one_of("deny", "upstream"),
        "What happens to artifacts that the log does not know.",
    )
    policies: tuple[GroupPolicy, ...] = _key(
        (), group_policies(), "The same for some groups; the longest prefix counts."
    )
    reserved: tuple[str, ...] = _key(
        (), group_prefixes(), "Groups that are never asked of an upstream, whatever a policy says."
    )
    strict: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="One logged version shuts the whole artifact off from the upstreams.",
    )
    offline: bool = _key(
        default=False, rule=rules.boolean(), about="Serve what is here, ask no upstream."
    )
    fresh_seconds: int = _key(
        60,
        rules.integer(0, 30 * 86_400, "seconds"),
        "How long an upstream's maven-metadata.xml is believed without asking again.",
    )
    negative_seconds: int = _key(
        60,
        rules.integer(0, 86_400, "seconds"),
        "How long it is believed that an upstream lacks a file.",
    )
    fetch_ahead: bool = _key(
        default=True,
        rule=rules.boolean(),
        about="After a pom, fetch its jar and its dependencies' poms before they are asked for.",
    )
    serve_contradicting: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Serve builds that differ from the file that the upstream publishes.",
    )
    serve_revoked: bool = _key(
        default=False, rule=rules.boolean(), about="Serve what the network withdrew or revoked."
    )


@dataclass(frozen=True, slots=True)
class RegistrySection:
    """[registry] Repositories of this node alone: what is pushed to it."""

    enabled: bool = _key(
        default=True, rule=rules.boolean(), about="Whether clients may push to this node."
    )
    anonymous: str = _key(
        "auto",
        rules.one_of("auto", "push", "pull", "none"),
        "What clients without an account may do; auto is push on a loopback address, else pull.",
    )
    local_prefixes: tuple[str, ...] = _key(
        (),
        rules.repository_prefixes(),
        "Repositories that are always this node's own: no upstream is asked about them.",
    )
    upload_days: int = _key(
        1, rules.integer(1, 365, "days"), "An upload not touched for so long is dropped."
    )
    grace_minutes: int = _key(
        60,
        rules.integer(0, 365 * 1440, "minutes"),
        "How long content stays that nothing needs any more.",
    )
    collect_minutes: int = _key(
        10,
        rules.integer(0, 1440, "minutes"),
        "Pause between garbage collections; 0 leaves them to `pyrsia gc run`.",
    )
    validation_file: str = _key(
        "",
        rules.optional_path(),
        'Rules for `pyrsia validate` and the admission webhook; "" allows everything.',
    )


@dataclass(frozen=True, slots=True)
class BuildSection:
    """[build] Rebuilding packages."""

    enabled: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Whether this node rebuilds packages; for authorized nodes alone.",
    )
    parallel: int = _key(1, rules.integer(1, 64), "Builds at the same time.")
    sponsors: tuple[str, ...] = _key(
        (), rules.peer_ids(), "Members that a regular node sends build wishes to; [] is any."
    )
    allow: tuple[str, ...] = _key(
        (), rules.peer_ids(may_be_star=True), "Peers whose build wishes this member sponsors."
    )
    user: str = _key(
        "",
        rules.user(),
        'The build worker\'s account when the node runs as root; "" is the user id 64000.',
    )
    memory_bytes_max: int = _key(
        2 * _GIB, rules.integer(128 * 1024**2, 2**40, "bytes"), "Memory of one build."
    )
    seconds_max: int = _key(
        3600,
        rules.integer(10, 24 * 3600, "seconds"),
        "Time of one build, after which it is killed.",
    )
    private_sources: tuple[str, ...] = _key(
        (),
        rules.hosts(),
        "Machines at loopback, link-local or private addresses that sources may come from.",
    )
    unmapped_sources: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Build from sources that no mapping in the log names, where the result is published.",
    )
    external: str = _key(
        "",
        rules.pipeline_url(),
        'Another\'s build pipeline, asked for entries of claim external alone; "" is none.',
    )
    external_private: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="That pipeline may live at a loopback, link-local or private address.",
    )
    contract_listen: str = _key(
        "",
        rules.near_address(),
        'Where this node\'s pipeline answers others, beside its socket; "" is nowhere.',
    )


@dataclass(frozen=True, slots=True)
class FaultSection:
    """[fault] Faults on purpose."""

    enabled: bool = _key(
        default=False,
        rule=rules.boolean(),
        about="Lets tests make this node lie; development networks only.",
    )


@dataclass(frozen=True, slots=True)
class LogSection:
    """[log] What the processes print."""

    level: str = _key(
        "info", rules.one_of("debug", "info", "warning", "error"), "Least weight that is printed."
    )


Section = (
    NodeSection
    | HttpSection
    | DataSection
    | P2pSection
    | CacheSection
    | PypiSection
    | DockerSection
    | MavenSection
    | RegistrySection
    | BuildSection
    | FaultSection
    | LogSection
)
