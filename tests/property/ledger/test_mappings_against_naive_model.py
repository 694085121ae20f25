"""Mappings of the state machine against a dictionary of patterns that is looked through plainly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.machine.sources import all_sources, source_for
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from tests.fakes.block_runner import BlockRunner
from tests.strategies import maven_bodies as maven

PARTS = ("a", "a.b", "b")
patterns = st.builds(
    "pkg:maven/{}/{}".format, st.sampled_from(PARTS), st.sampled_from([*PARTS, "*"])
)
wanted = st.builds(
    lambda pattern, repository: SourceMapping(
        pattern, repository, "v{version}" if repository else ""
    ),
    patterns,
    st.sampled_from(["", "git+https://git.example/one", "git+https://git.example/two"]),
)


def naive(known: dict[str, SourceMapping], group: str, artifact: str) -> SourceMapping | None:
    """Return the mapping of the longest pattern that fits, as the specification says it."""
    fitting = [
        pattern
        for pattern in known
        if pattern in {f"pkg:maven/{group}/{artifact}", f"pkg:maven/{group}/*"}
    ]
    # An artifact is longer than a star, whatever it is called.
    fitting.sort(key=lambda pattern: not pattern.endswith("/*"))
    return known[fitting[-1]] if fitting else None


@given(st.lists(wanted, max_size=8))
def test_the_mapping_that_counts_is_the_newest_of_the_longest_pattern(
    mappings: list[SourceMapping],
) -> None:
    runner, known = BlockRunner(1), dict[str, SourceMapping]()
    (member,) = runner.members
    for nonce, mapping in enumerate(mappings):
        bodies = runner.approved(maven.add_source(member, mapping, nonce=nonce))
        is_news = known.get(mapping.pattern) != mapping
        may_be = is_news and (bool(mapping.repository) or mapping.pattern in known)
        try:
            runner.run(*bodies)
        except InvalidInputError:
            assert not may_be
            continue
        assert may_be
        if mapping.repository:
            known[mapping.pattern] = mapping
        else:
            del known[mapping.pattern]
    assert {each.mapping.pattern: each.mapping for each in all_sources(runner.state)} == known
    for group in PARTS:
        for artifact in PARTS:
            found = source_for(runner.state, Purl.maven(group, artifact, "1"))
            assert (found and found.mapping) == naive(known, group, artifact)
