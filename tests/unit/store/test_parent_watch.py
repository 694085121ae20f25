"""A process started by hand watches nobody; a wrong descriptor is named, not ignored."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.store.parent import PARENT_FD_VARIABLE, watch_parent


def test_process_started_by_hand_has_no_supervisor() -> None:
    assert watch_parent({"HOME": "/"}) is False


@pytest.mark.parametrize("text", ["", "x", "-1", "99999", "9" * 30])
def test_variable_that_names_no_descriptor_is_refused_and_taken_out(text: str) -> None:
    environment = {PARENT_FD_VARIABLE: text}
    with pytest.raises(InvalidInputError, match=PARENT_FD_VARIABLE):
        watch_parent(environment)
    assert environment == {}
