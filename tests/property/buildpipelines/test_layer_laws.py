"""Layers and configs of images: levels keep what matters, hide what is named, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from buildpipelines.compare.layer import compare_layers
from buildpipelines.compare.verdict import Comparison
from buildpipelines.errors import ArchiveError
from buildpipelines.extract.image import (
    parse_image_config,
    parse_image_manifest,
    parse_json_object,
)
from buildpipelines.extract.layer import LayerReader
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.stabilize.image import config_level1, config_level2
from buildpipelines.stabilize.layer import Layer, level1, level2, listing_digest
from tests.hostile.layers import Item, layer, packed

LIMITS = ArchiveLimits(entries_max=200, file_bytes_max=1 << 20, total_bytes_max=4 << 20)
names = st.text("abcXYZ019._-", min_size=1, max_size=5).filter(lambda s: s not in (".", ".."))
modes = st.integers(0, 0o7777)
ids = st.integers(0, 70_000)


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Entries of one layer: distinct names in two folders, of every kind."""
    found = [Item("d", "dir", mode=0o755), Item("e", "dir", mode=0o1777)]
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        kind = draw(st.sampled_from(["file", "file", "symlink", "char", "fifo"]))
        found.append(
            Item(
                path=f"{draw(st.sampled_from('de'))}/{name}",
                kind=kind,
                content=draw(st.binary(max_size=40)) if kind == "file" else b"",
                mode=draw(modes),
                owner=(draw(ids), draw(ids)),
                mtime=draw(st.integers(0, 2**33)),
                link="../target" if kind == "symlink" else "",
                device=(1, 3) if kind == "char" else (0, 0),
                pax={"SCHILY.xattr.user.a": "b"} if draw(st.booleans()) else {},
            )
        )
    return found


def read(data: bytes) -> Layer:
    reader = LayerReader(io.BytesIO(data).read, LIMITS)
    listing = level1(reader.entries())
    return Layer(listing, reader.diff_id)


def compare(one: bytes, other: bytes) -> Comparison:
    return compare_layers(read(one), read(other), is_identical=one == other)


def digests(data: bytes) -> tuple[str, str]:
    found = read(data).listing
    return listing_digest(found, "l1"), listing_digest(level2(found), "l2")


@given(items(), st.randoms(use_true_random=False), st.sampled_from([0, 1, 9]))
def test_container_changes_of_a_layer_never_change_level_1(
    entries: list[Item], random: object, level: int
) -> None:
    shuffled = entries[2:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    other = packed(layer([*shuffled, *entries[:2]], style=tarfile.PAX_FORMAT), level=level)
    gnu = [replace(item, pax={}) for item in entries]
    assert digests(layer(entries)) == digests(other)
    assert digests(layer(gnu, style=tarfile.GNU_FORMAT)) == digests(layer(gnu))


@given(items(), st.integers(0, 2**33), st.integers(0, 0o7777))
def test_named_metadata_of_a_layer_never_changes_level_2(
    entries: list[Item], mtime: int, bits: int
) -> None:
    changed = [
        replace(
            item,
            mtime=mtime,
            names=("who", "ever"),
            mode=item.mode if item.kind == "symlink" else item.mode ^ (bits & 0o022),
            pax={**item.pax, "atime": "5.5"},
        )
        for item in entries
    ]
    assert digests(layer(entries))[1] == digests(layer(changed))[1]
    assert compare(layer(entries), layer(changed)).level <= 2


@given(items(), st.data())
def test_any_change_that_matters_is_level_3_and_named(
    entries: list[Item], data: st.DataObject
) -> None:
    at = data.draw(st.integers(2, len(entries) - 1))
    old = entries[at]
    bit = data.draw(st.sampled_from([0o4000, 0o2000, 0o1000, 0o100, 0o010, 0o001, 0o400, 0o200]))
    changes = {
        "mode": replace(old, mode=old.mode ^ bit),
        "uid": replace(old, owner=(old.owner[0] + 1, old.owner[1])),
        "gid": replace(old, owner=(old.owner[0], old.owner[1] + 1)),
        "records": replace(old, pax={"SCHILY.xattr.security.capability": "x"}),
        "kind": replace(old, kind="block" if old.kind != "block" else "fifo", content=b""),
        "only in": replace(old, path=f"{old.path}x-new"),
        ".wh.": replace(old, path=f"d/.wh.{old.path[2:]}x"),
        "content": replace(old, content=old.content + b"x"),
        "link": replace(old, link="../other"),
        "device": replace(old, device=(1, 4)),
    }
    label = data.draw(st.sampled_from(sorted(changes)))
    assume(label != "content" or old.kind == "file")
    assume(label != "link" or old.kind == "symlink")
    assume(label != "device" or old.kind == "char")
    new = [*entries[:at], changes[label], *entries[at + 1 :]]
    found = compare(layer(new), layer(entries))
    assert found.level == 3
    assert any(label in line for line in found.differences), found.differences


@given(items())
def test_normal_forms_of_layers_are_idempotent(entries: list[Item]) -> None:
    once = read(layer(entries)).listing
    assert level1(once.values()) == once
    assert level2(level2(once)) == level2(once)
    assert compare(layer(entries), layer(entries)) == Comparison(0, ())


@given(st.permutations(["d/a", "d/b", "d/c"]), st.binary(max_size=9))
def test_which_hard_link_stands_first_never_changes_level_1(
    order: list[str], content: bytes
) -> None:
    first, *rest = order
    links = [Item(path, "hardlink", link=first, mode=0o4755) for path in rest]
    mixed = layer([Item(first, content=content, mode=0o4755), *links])
    usual = layer(
        [
            Item("d/a", content=content, mode=0o4755),
            Item("d/b", "hardlink", link="d/a", mode=0o4755),
            Item("d/c", "hardlink", link="d/b", mode=0o4755),
        ]
    )
    assert digests(mixed) == digests(usual)


@given(st.binary(max_size=2000), st.integers(0, 4000), st.binary(min_size=1, max_size=8))
def test_hostile_layer_raises_only_archive_errors(junk: bytes, at: int, patch: bytes) -> None:
    good = layer([Item("d", "dir"), Item("d/f", content=b"x" * 600, pax={"atime": "1.5"})])
    spoiled = good[:at] + patch + good[at + len(patch) :]
    for data in (junk, spoiled, packed(good)[:at] + patch, good[:at]):
        with contextlib.suppress(ArchiveError):
            read(data)


@given(st.binary(max_size=300))
def test_hostile_image_documents_raise_only_archive_errors(junk: bytes) -> None:
    for reader in (parse_image_config, parse_image_manifest):
        with contextlib.suppress(ArchiveError):
            reader(junk)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["config", "rootfs", "layers", "os", "x"]), json_values))
def test_image_documents_of_any_shape_raise_only_archive_errors(value: dict[str, object]) -> None:
    data = json.dumps({"schemaVersion": 2, **value}).encode()
    for reader in (parse_image_config, parse_image_manifest):
        with contextlib.suppress(ArchiveError):
            reader(data)


def config(**members: object) -> bytes:
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}} | members
    document["rootfs"] = {"type": "layers", "diff_ids": []}
    return json.dumps(document).encode()


KEPT_MEMBERS = [
    "Entrypoint",
    "Cmd",
    "User",
    "Env",
    "WorkingDir",
    "Volumes",
    "ExposedPorts",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "OnBuild",
    "ArgsEscaped",
]


@given(
    st.sampled_from(KEPT_MEMBERS),
    st.sampled_from(["x", ["x"], {"x": {}}]),
)
def test_what_a_container_does_is_kept_at_every_level(member: str, value: object) -> None:
    ours = parse_image_config(config(config={member: value}))
    theirs = parse_image_config(config(config={}))
    assert config_level1(ours) != config_level1(theirs)
    assert config_level2(ours) != config_level2(theirs)


@given(st.sampled_from(["created", "docker_version", "container", "moby.buildkit.buildinfo.v1"]))
def test_named_members_of_a_config_are_gone_at_level_2_alone(member: str) -> None:
    history = [{"created": "2020", "created_by": "RUN x", "comment": "y", "empty_layer": True}]
    ours = parse_image_config(config(**{member: "2020"}, history=history))
    theirs = parse_image_config(config(history=[{"created_by": "RUN z", "empty_layer": True}]))
    assert config_level1(ours) != config_level1(theirs)
    assert config_level2(ours) == config_level2(theirs)
    full = parse_image_config(config(history=[{"created_by": "RUN z"}]))
    assert config_level2(full) != config_level2(theirs), "a layer less or more is never hidden"


def test_document_with_one_key_twice_is_refused() -> None:
    with pytest.raises(ArchiveError, match="twice"):
        parse_json_object(b'{"config":{"User":"nobody","User":"root"}}', "config")
