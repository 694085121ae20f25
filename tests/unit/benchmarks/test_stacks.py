"""Samples of a core become shares by task and by layer, and costs of an item by role."""

from __future__ import annotations

import pytest

from benchmarks.macro.profile_attestation import BUILDING, JUDGING, by_role, task_of
from benchmarks.macro.stacks import SCHEDULER, layer_of, read_stacks, shares

DOOR = "run (trio/run.py:1);Chain.check_transaction (/x/pyrsia_node/ledger/chain.py:9)"
PARSING = DOOR + ";parse_item (/x/pyrsia_node/model/builds.py:3);loads (/usr/json/decoder.py:1)"
SENDING = "_feed (/x/pyrsia_node/p2p/members.py:1);write (/x/libp2p/stream_muxer/yamux/yamux.py:2)"
WAITING = "main (/x/core/main.py:1);run (/x/trio/_core/_run.py:2)"


def test_a_stack_belongs_to_the_task_around_it_and_to_the_layer_within() -> None:
    assert task_of(PARSING) == task_of(DOOR) == "the door: reading a batch, signature, rules"
    assert layer_of(PARSING) == "ledger and model"
    assert layer_of(SENDING) == "yamux"
    assert task_of(WAITING) == layer_of(WAITING) == SCHEDULER


def test_samples_of_one_task_are_added_and_shares_are_of_the_whole() -> None:
    profile = read_stacks(f"{DOOR} 3\n{PARSING} 3\n{WAITING} 2\n", seconds=1.0)
    assert shares(profile.by(task_of)) == [(task_of(DOOR), 0.75), (SCHEDULER, 0.25)]


def test_no_samples_have_no_shares() -> None:
    assert shares(read_stacks("", seconds=1.0).by(task_of)) == []


def test_a_role_costs_what_an_item_takes_in_the_blocks_where_a_core_has_it() -> None:
    roles = by_role({BUILDING: 5.0, JUDGING: 15.0, "all else": 80.0})
    assert list(roles.values()) == pytest.approx([20.0, 20.0, 80.0])
