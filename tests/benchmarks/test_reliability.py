"""The quick part of benchmarks/reliability.py: a few attempts at each promise that an attempt of seconds can break."""

import random
from pathlib import Path

import pytest

from benchmarks import reliability
from benchmarks.attacks.world import Attack, World

QUICK = [attack for attack in reliability.ATTACKS if attack.quick]


@pytest.fixture(scope="module")
def around(tmp_path_factory, finished_run) -> World:
    return World(tmp_path_factory.mktemp("reliability"), finished_run, 5.0)


@pytest.mark.parametrize("attack", QUICK, ids=[attack.promise for attack in QUICK])
def test_attacks_that_take_seconds_break_nothing(attack: Attack, around, tmp_path):
    broken = {}
    for number in range(attack.quick):
        folder = tmp_path / str(number)
        folder.mkdir()
        if problem := attack.attempt(around, random.Random(f"0, {attack.promise}, {number}"), folder):
            broken[number] = problem
    assert not broken


def test_every_promise_of_the_harness_is_in_the_table_of_the_document():
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    assert [attack.promise for attack in reliability.ATTACKS if f"| {attack.promise} |" not in text] == []
