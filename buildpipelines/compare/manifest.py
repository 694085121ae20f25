"""What differs between two manifests, attribute by attribute. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from buildpipelines.extract.jar import Jar
from buildpipelines.spec.explanation import Difference, make_difference
from buildpipelines.stabilize.jar import jar_manifest, stable_manifest
from buildpipelines.stabilize.manifest import (
    Attributes,
    attribute_rule,
    split_clauses,
    stable_attributes,
)
from buildpipelines.stabilize.signature import is_true_digest

_CLAUSES_SHOWN = 8


def manifest_differences(path: str, built: Jar, published: Jar) -> list[Difference] | None:
    """Return what differs, or None where one of both manifests has not one reading.

    Args:
        path: What the manifest is called in the explanation.
        built: The jar that came out of the sandbox.
        published: The upstream's.
    """
    ours, theirs = jar_manifest(built), jar_manifest(published)
    if ours is None or theirs is None:
        return None
    found = list(_attributes(path, "", ours.main, theirs.main))
    stable_ours, stable_theirs = stable_manifest(built, ours), stable_manifest(published, theirs)
    for name in sorted(ours.sections.keys() | theirs.sections.keys()):
        one, other = ours.sections.get(name), theirs.sections.get(name)
        is_stable = stable_ours.sections.get(name) == stable_theirs.sections.get(name)
        if one == other and is_stable:
            continue
        if one == other and one is not None:
            found.append(_digests(path, name, one, built, published))
        elif is_stable:
            found.append(_section(path, name, one, other, level=2))
        elif one is None or other is None:
            found.append(_section(path, name, one, other, level=3))
        else:
            kept_one, kept_other = (
                {k: v for k, v in attributes.items() if not is_true_digest(jar, name, k, v)}
                for jar, attributes in ((built, one), (published, other))
            )
            found.extend(_attributes(path, f"{name}: ", kept_one, kept_other))
    if not found:
        found.append(
            make_difference(
                path,
                "format",
                built="the same attributes",
                published="folded or ordered in another way",
                level=2,
                rule="jar-manifest-format",
            )
        )
    return sorted(found, key=lambda d: -d.level)


def _attributes(
    path: str, prefix: str, ours: Attributes, theirs: Attributes
) -> Iterator[Difference]:
    stable_ours, stable_theirs = stable_attributes(ours), stable_attributes(theirs)
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one == other:
            continue
        is_stable = stable_ours.get(name) == stable_theirs.get(name)
        shown_one, shown_other = _shown(one, other), _shown(other, one)
        yield make_difference(
            path,
            f"{prefix}{name}",
            built=shown_one,
            published=shown_other,
            level=2 if is_stable else 3,
            rule=attribute_rule(name) if is_stable else "",
        )


def _digests(
    path: str, name: str, attributes: Attributes, built: Jar, published: Jar
) -> Difference:
    """Return that equal digests are those of one entry and not of the other."""
    one, other = (
        "true" if all(is_true_digest(jar, name, k, v) for k, v in attributes.items()) else "false"
        for jar in (built, published)
    )
    return make_difference(path, f"digests of {name}", built=one, published=other, level=3)


def _section(
    path: str, name: str, one: Attributes | None, other: Attributes | None, *, level: int
) -> Difference:
    return make_difference(
        path,
        f"section {name}",
        built=_section_text(one),
        published=_section_text(other),
        level=level,
        rule="jar-signature" if level == 2 else "",
    )


def _section_text(attributes: Attributes | None) -> str:
    if attributes is None:
        return "absent"
    return "; ".join(f"{name}: {value}" for name, value in attributes.items())[:400] or "empty"


def _shown(value: str | None, other: str | None) -> str:
    """Return a value; of a long list of clauses only those that the other has not."""
    if value is None:
        return "absent"
    mine, others = split_clauses(value), split_clauses(other or "")
    if other is None or mine is None or others is None or len(mine) <= _CLAUSES_SHOWN:
        return value
    only = [clause for clause in mine if clause not in set(others)]
    if not only:
        return f"{len(mine)} clauses in its own order"
    more = len(only) - _CLAUSES_SHOWN
    text = ", ".join(only[:_CLAUSES_SHOWN])
    return f"{text}, {more} more" if more > 0 else text
