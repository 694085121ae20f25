"""What node.toml may say; a mistake is named with its key, its value and what is allowed."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import (
    SECTIONS,
    Config,
    check_network,
    describe_keys,
    parse_config,
    render_config,
)
from pyrsia_node.schema.sections import FaultSection, NodeSection

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
MINIMAL = '[node]\nlabel = "north"\nrole = "authorized"\n'


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        parse_config(text)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_label_and_role_are_enough_and_everything_else_has_its_default() -> None:
    assert parse_config(MINIMAL) == Config(node=NodeSection("north", "authorized"))


def test_rendered_defaults_name_every_key_and_parse_to_themselves() -> None:
    config = Config(node=NodeSection("north", "regular"))
    text = render_config(config)
    assert parse_config(text) == config
    for key in describe_keys():
        assert f"\n{key.name} = " in text


def test_all_problems_are_reported_together() -> None:
    found = problems(
        '[node]\nrole = "boss"\n[http]\nport = 70000\nprot = 1\n[cash]\nx = 1\n[p2p]\ngossip = 1\n'
    )
    assert found == [
        f"[cash]: unknown (did you mean cache?); allowed: {', '.join(SECTIONS)}",
        'node.role = "boss"; allowed: "authorized" or "regular"',
        "node.label is missing; allowed: 1 to 64 characters of a-z, 0-9, dot and hyphen",
        "http.port = 70000; allowed: an integer from 0 to 65535",
        (
            "http.prot = 1: unknown key (did you mean port?); allowed: host, port,"
            " admin_token_file, tls_certificate, tls_key, public_url, cors_origins"
        ),
        "p2p.gossip = 1; allowed: true or false",
    ]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('[node]\nlabel = "North"\nrole = "regular"', 'node.label = "North"'),
        ('[node]\nlabel = "a\\n"\nrole = "regular"', "node.label"),
        ("http = 1", "http = 1; allowed: a section"),
        ("port = 1", "port = 1: unknown"),
        ('[http]\nhost = "256.0.0.1"', 'http.host = "256.0.0.1"'),
        ('[http]\nhost = "::1%eth0"', "http.host"),
        ('[http]\nport = "7888"', 'http.port = "7888"'),
        ("[http]\nport = true", "http.port = true"),
        ("[http]\nport = 7888.0", "http.port = 7888.0"),
        ("[http]\nport = 2024-01-01", 'http.port = "2024-01-01"'),
        ('[http]\nadmin_token_file = ""', 'http.admin_token_file = ""'),
        ('[http]\nadmin_token_file = "a\\u0000b"', "http.admin_token_file"),
        ('[data]\nurl = "ftp://x/"', 'data.url = "ftp://x/"'),
        ('[data]\nurl = "https://x/?q"', "data.url"),
        ('[data]\nurl = "https://x:99999/"', "data.url"),
        ('[data]\nurl = "http://x/"', "because data.tls = true"),
        ("[data]\nbandwidth_bytes_per_s = -1", "data.bandwidth_bytes_per_s = -1"),
        ('[data]\nhost = "127.0.0.1"\nport = 7888', "another port than http.port"),
        ('[p2p]\nlisten = "/ip4/0.0.0.0/tcp/1"', "p2p.listen"),
        ('[p2p]\nlisten = ["/ip4/0.0.0.0/udp/1"]', "p2p.listen"),
        ('[p2p]\nlisten = ["/ip4/::1/tcp/1"]', "p2p.listen"),
        ('[p2p]\nlisten = ["/ip4/127.0.0.1/tcp/65536"]', "p2p.listen"),
        ('[p2p]\nlisten = ["/ip4/127.0.0.1/tcp/\u0661"]', "p2p.listen"),
        ('[p2p]\nbootstrap = ["/ip4/127.0.0.1/tcp/1"]', "/p2p/PEER"),
        ("[cache]\nbytes_max = 1", "cache.bytes_max = 1"),
        ('[pypi]\npolicy = "allow"', 'pypi.policy = "allow"'),
        ('[pypi]\nreserved = ["Acme_Tools"]', "pypi.reserved"),
        ("[build]\nparallel = 0", "build.parallel = 0"),
        ('[build]\nsponsors = ["*"]', "build.sponsors"),
        ('[build]\nuser = "a b"', 'build.user = "a b"'),
        ('[log]\nlevel = "loud"', 'log.level = "loud"'),
    ],
)
def test_problem_names_key_and_value(line: str, named: str) -> None:
    text = line if line.startswith("[node]") else line + "\n" + MINIMAL
    (found,) = problems(text)
    assert named in found
    assert "allowed: " in found


def test_regular_node_builds_nothing() -> None:
    text = '[node]\nlabel = "a"\nrole = "regular"\n[build]\nenabled = true\n'
    assert problems(text) == ['build.enabled = true; allowed: false, because node.role = "regular"']


def test_addresses_of_every_kind_are_taken() -> None:
    circuit = f"/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit"
    config = parse_config(
        MINIMAL
        + f"""
[p2p]
listen = ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/44000"]
announce = ["/dns4/a.example/tcp/1/p2p/{PEER}", "{circuit}"]
bootstrap = ["/dns/a.example/tcp/1/p2p/{PEER}", "{circuit}/p2p/{PEER}"]
[data]
url = "https://[2001:db8::1]:44001"
[pypi]
upstream = "http://mirror.example:8080/root/pypi/+simple/"
reserved = ["acme", "acme-*"]
[build]
allow = ["*"]
sponsors = ["{PEER}"]
"""
    )
    assert len(config.p2p.announce) == len(config.p2p.bootstrap) == 2
    assert config.build.allow == ("*",)


@pytest.mark.parametrize("text", ["[node", "a = 1e", "[[node]]\n", "\x00", "a" * 300_000])
def test_text_that_is_no_configuration_is_refused_with_the_file_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"conf/x\.toml"):
        parse_config(text, source="conf/x.toml")


def test_faults_are_for_development_networks_alone() -> None:
    faulty = Config(node=NodeSection("a", "regular"), fault=FaultSection(enabled=True))
    check_network(faulty, "devnet-1")
    check_network(Config(node=NodeSection("a", "regular")), "public")
    with pytest.raises(InvalidInputError, match=r"fault\.enabled = true.*'public'"):
        check_network(faulty, "public")


@pytest.mark.parametrize(
    "line",
    [
        'external = "ftp://pipeline.example"',
        'external = "https://user:word@pipeline.example"',
        'external = "https://pipeline.example?x=1"',
        'external = "unix:///"',
        'external = "unix://run/pipeline.sock"',
        'contract_listen = "0.0.0.0:8080"',
        'contract_listen = "[::]:8080"',
        'contract_listen = "8.8.8.8:8080"',
        'contract_listen = "localhost:8080"',
        'contract_listen = "127.0.0.1"',
        'contract_listen = "127.0.0.1:0"',
        'contract_listen = "127.0.0.1:65536"',
        'contract_listen = "::1:8080"',
    ],
)
def test_pipeline_of_another_has_no_credentials_and_ours_answers_near_machines_alone(
    line: str,
) -> None:
    (problem,) = problems(f"{MINIMAL}[build]\n{line}\n")
    assert problem.startswith(f"build.{line}; allowed: ")


@pytest.mark.parametrize(
    "line",
    [
        'external = "https://pipeline.example/java"',
        'external = "http://127.0.0.1:8080"',
        'external = "unix:///srv/pipeline.sock"',
        'contract_listen = "127.0.0.1:8080"',
        'contract_listen = "10.0.0.1:80"',
        'contract_listen = "[fd00::1]:80"',
    ],
)
def test_pipelines_may_be_named_by_address_or_socket(line: str) -> None:
    build = parse_config(f"{MINIMAL}[build]\n{line}\n").build
    key, _, value = line.partition(" = ")
    assert getattr(build, key) == value.strip('"')
