"""Records of the state are written in their canonical form, and come back from it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.machine.items import ItemRecord
from pyrsia_node.model import canonical
from pyrsia_node.model.items import MOVED
from pyrsia_node.model.transactions import BUILT, FAILURES
from tests.strategies.image_bodies import digests_of_registries
from tests.strategies.model_values import counts, digests, levels

causes = st.text("ABCxyz019 ._:/()+,=-", max_size=32)
items = st.builds(
    ItemRecord,
    outcome=st.sampled_from([BUILT, *FAILURES]),
    at=st.tuples(counts, counts),
    first_at=st.tuples(counts, counts),
    result=st.just("") | digests,
    first_result=st.just("") | digests,
    level=levels,
    own=st.just(()) | st.tuples(digests, digests, digests),
    cause=causes,
    revisions=st.integers(0, 30),
    is_late=st.booleans(),
) | st.builds(
    ItemRecord,
    outcome=st.just(MOVED),
    at=st.tuples(counts, counts),
    first_at=st.tuples(counts, counts),
    cause=causes,
    moved=digests_of_registries,
    seen_ms=counts,
)


@given(items)
def test_item_is_written_as_the_canonical_form_of_its_object(item: ItemRecord) -> None:
    assert item.encode() == canonical.dumps(item.to_json())
    assert ItemRecord.from_json(json.loads(item.encode())) == item
