"""``add_source``: when a mapping is valid, what it changes, and which one counts for a package.

Whoever may say where a name comes from may say what is published under it: a mapping needs a
quorum, as a withdrawal does. The state holds, for each pattern, the newest mapping alone; an empty
repository takes a pattern back, and then the next longest pattern that fits counts again.
Specification: docs/spec/leaves.md, "Validity"; reasons: docs/adr/0013.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from consensus.types import NodeId
from pyrsia_node.ledger.machine import approvals, records
from pyrsia_node.ledger.machine.context import BlockContext, BlockState
from pyrsia_node.ledger.machine.records import Record
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.model.builds import RecipeValue
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import AddSource, SourceMapping, patterns_for
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import KeyValueReader


@dataclass(frozen=True, slots=True)
class SourceRecord(Record):
    """A mapping that counts, the leaf that says so, and whose approvals carried it, sorted."""

    mapping: SourceMapping
    leaf: int
    reason: str
    approved_by: tuple[NodeId, ...]

    def to_json(self) -> JsonObject:
        """Return the stored form."""
        return {
            **self.mapping.members(),
            "approved_by": list(self.approved_by),
            "leaf": self.leaf,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> SourceRecord:
        """Return the record that ``to_json`` wrote."""
        got = cast("dict[str, str]", value)
        recipe = cast("dict[str, dict[str, JsonValue]]", value)["recipe"]
        return cls(
            mapping=SourceMapping(
                pattern=got["pattern"],
                repository=got["repository"],
                tag=got["tag"],
                recipe={key: _recipe_value(each) for key, each in recipe.items()},
            ),
            leaf=cast("dict[str, int]", value)["leaf"],
            reason=got["reason"],
            approved_by=tuple(cast("dict[str, list[NodeId]]", value)["approved_by"]),
        )


def apply_source(
    state: BlockState,
    context: BlockContext,
    statement: AddSource,
    *,
    transaction_id: Sha256,
    leaf: int,
) -> None:
    """Let a mapping count, or refuse it and change nothing.

    Raises:
        NotYetValidError: Approvals are missing.
        InvalidInputError: It breaks a rule; the text names it.
    """
    if statement.by not in context.members:
        raise InvalidInputError(f"{statement.by} is no authorized node, so it maps no source")
    if state.view.has(records.statement_key(transaction_id)):
        raise InvalidInputError(f"mapping {transaction_id} is in the log already")
    mapping = statement.mapping
    key = records.source_key(mapping.pattern)
    _check_news(state, mapping, key)
    op, subject = statement.kind, statement.subject(context.network_id)
    given = approvals.check_approved(state, context, op=op, subject=subject)
    approvals.spend(state, context, op=op, subject=subject)
    if mapping.is_taken_back:
        state.view.delete(key)
    else:
        state.view.put_record(key, SourceRecord(mapping, leaf, statement.reason, tuple(given)))
    state.view.put(records.statement_key(transaction_id), leaf)


def source_for(state: KeyValueReader, purl: Purl) -> SourceRecord | None:
    """Return the mapping that counts for a package, or None: a look or two at the state."""
    view = StateView(state)
    for pattern in patterns_for(purl):
        value = view.get(records.source_key(pattern))
        if value is not None:
            return SourceRecord.from_json(value)
    return None


def all_sources(state: KeyValueReader) -> Iterator[SourceRecord]:
    """Yield every mapping that counts for some package, in no order that people know."""
    view = StateView(state)
    for raw_key, _ in state.scan(records.SOURCE_PREFIX.encode("ascii")):
        value = view.get(raw_key.decode("ascii"))
        assert value is not None
        yield SourceRecord.from_json(value)


def _check_news(state: BlockState, mapping: SourceMapping, key: str) -> None:
    value = state.view.get(key)
    if value is None:
        if mapping.is_taken_back:
            raise InvalidInputError(f"no source is mapped for {mapping.pattern}")
        return
    before = SourceRecord.from_json(value)
    if before.mapping == mapping:
        raise InvalidInputError(f"leaf {before.leaf} maps {mapping.pattern} so already")


def _recipe_value(value: JsonValue) -> RecipeValue:
    return tuple(cast("list[str]", value)) if isinstance(value, list) else cast("str", value)
