"""What ``sources`` answers: the mappings that count, as the chain has them. Pure.

docs/spec/links.md; which mapping counts: ``ledger.machine.sources``.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyrsia_node.ledger.machine.sources import SourceRecord
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.model.builds import recipe_object
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.sources import (
    SOURCES_MAX,
    ApproverLine,
    SourceLine,
    Sources,
    SourcesParams,
)


def sources_of(chain: CommittedChain, labels: Mapping[str, str], params: SourcesParams) -> Sources:
    """Return the mapping that counts for a package, or a page of all of them.

    Args:
        chain: As of its tip.
        labels: Of the members that are in the set, by id.
        params: A package, or the pattern behind which the page begins.

    Raises:
        InvalidInputError: The package is none.
    """
    if params.purl:
        found = chain.source_record(Purl.from_user(params.purl))
        return Sources(sources=[] if found is None else [_line(found, labels)], is_last=True)
    more = [each for each in chain.sources() if each.mapping.pattern > params.after]
    return Sources(
        sources=[_line(each, labels) for each in more[:SOURCES_MAX]],
        is_last=len(more) <= SOURCES_MAX,
    )


def _line(record: SourceRecord, labels: Mapping[str, str]) -> SourceLine:
    mapping = record.mapping
    return SourceLine(
        pattern=mapping.pattern,
        repository=mapping.repository,
        tag=mapping.tag,
        recipe=dict[str, object](recipe_object(mapping.recipe)),
        reason=record.reason,
        leaf=record.leaf,
        approved_by=[
            ApproverLine(id=each, label=labels.get(each, "")) for each in record.approved_by
        ],
    )
