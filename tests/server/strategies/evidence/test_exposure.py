"""For how long jobs had which bins, and which they die of, against binomial tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.exposure import (
    DEATHS_NEEDED,
    SHOWN,
    SUSPECT,
    Exposure,
    Life,
    _tail,
    hazards_of,
)  # fmt: skip
from hyperoracle_server.strategies.grid import HyperActionGrid

GRID = HyperActionGrid((3, 2), (1, 0))
DEFAULT, DEADLY = GRID.joint_index((1, 0)), GRID.joint_index((2, 0))


def life(action: int, spent: int = 100, *, died: bool = False) -> Life:
    exposure = Exposure()
    exposure.decide(1, action)
    exposure.phase(spent, 1, is_lost=False, grid=GRID)
    return Life(exposure, 100, died)


def test_env_steps_count_for_the_decision_that_the_phase_has_seen() -> None:
    exposure = Exposure()
    exposure.phase(10, 0, is_lost=False, grid=GRID)  # before any decision: the default
    exposure.decide(1, GRID.joint_index((0, 1)))
    exposure.decide(3, GRID.joint_index((2, 1)))  # made before the report of the phase arrived
    exposure.phase(30, 1, is_lost=False, grid=GRID)
    exposure.phase(60, 3, is_lost=False, grid=GRID)
    exposure.phase(60, 3, is_lost=False, grid=GRID)
    assert exposure.spent == [[20, 10, 30], [10, 50]]


def test_what_the_job_used_instead_counts() -> None:
    exposure = Exposure()
    exposure.decide(1, DEADLY)
    exposure.replace([1, 99], DEFAULT)
    exposure.phase(10, 1, is_lost=False, grid=GRID)
    assert exposure.spent == [[0, 10, 0], [10, 0]]
    assert not hazards_of([Life(exposure, 10, True), life(DEFAULT)], GRID).suspect


def test_the_decision_under_which_returns_began_to_be_lost_is_blamed_once() -> None:
    exposure = Exposure()
    exposure.decide(1, DEADLY)
    exposure.phase(10, 1, is_lost=True, grid=GRID)
    exposure.decide(3, DEFAULT)
    exposure.phase(20, 3, is_lost=True, grid=GRID)
    assert exposure.lost == [[0, 0, 1], [1, 0]]
    exposure.phase(30, 3, is_lost=False, grid=GRID)  # it recovered
    exposure.decide(5, DEADLY)
    exposure.phase(40, 5, is_lost=True, grid=GRID)
    assert exposure.lost == [[0, 0, 2], [2, 0]]
    others = [life(DEFAULT) for _ in range(9)]
    assert hazards_of([*others, Life(exposure, 100, False)], GRID).shown.bins[0].tolist() == [
        False, False, True,
    ]  # fmt: skip


def test_a_repeated_decision_is_passed_over_and_few_are_remembered() -> None:
    exposure = Exposure()
    for sequence in [*range(1, 3000), 5]:
        exposure.decide(sequence, DEFAULT)
    assert len(exposure.decided) == 1024
    assert exposure.decided[-1] == (2999, DEFAULT)
    assert Exposure.load(exposure.dump()) == exposure


@given(st.integers(1, 60), st.data(), st.floats(0.01, 0.99))
def test_the_tail_is_the_binomial_one(count: int, data: st.DataObject, share: float) -> None:
    least = data.draw(st.integers(1, count))
    exact = sum(math.comb(count, k) * share**k * (1 - share) ** (count - k)
                for k in range(least, count + 1))  # fmt: skip
    assert _tail(count, least, share) == pytest.approx(exact, rel=1e-9)


def test_one_death_makes_a_bin_suspect_and_more_make_it_shown() -> None:
    lives = [life(DEFAULT) for _ in range(4)]
    found = hazards_of([*lives, life(DEADLY, 30, died=True)], GRID)
    # 0.3 of 4.3 jobs' env steps: one death of one has the probability 0.07 by chance.
    assert not found.shown
    assert found.suspect.bins[0].tolist() == [False, False, True]
    assert found.suspect.bins[1].tolist() == [False, False], "the default is never avoided"
    assert not found.suspect.allowed_actions[DEADLY]
    assert found.suspect.allowed_actions[DEFAULT]
    found = hazards_of([*lives, *[life(DEADLY, 30, died=True)] * DEATHS_NEEDED], GRID)
    assert found.shown.bins[0].tolist() == [False, False, True]
    assert not found.shown.allows((2, 0))


def test_deaths_that_fall_on_all_bins_alike_make_none_suspect() -> None:
    lives = [life(action, 50, died=True) for action in (0, 2, 4)] * 3
    found = hazards_of(lives, GRID)
    assert not found.suspect
    assert not found.shown


def test_nothing_is_avoided_where_nobody_died_or_nothing_else_was_tried() -> None:
    assert not hazards_of([], GRID).suspect
    assert not hazards_of([life(DEADLY)] * 5, GRID).suspect
    assert not hazards_of([life(DEADLY, died=True)] * 5, GRID).suspect


def test_by_chance_few_studies_shun_a_bin_that_is_not_to_blame() -> None:
    """Jobs die of something else in 1 of 5 cases; of 400 studies, binomial, 99.9 % bounds."""
    chance, grid = np.random.default_rng(5), HyperActionGrid((2,), (0,))
    shown = suspect = 0
    for _ in range(400):
        lives = []
        for _ in range(30):
            exposure = Exposure()
            exposure.decide(1, int(chance.integers(2)))
            died = bool(chance.random() < 0.2)
            exposure.phase(
                int(chance.integers(1, 100)) if died else 100, 1, is_lost=False, grid=grid
            )
            lives.append(Life(exposure, 100, died))
        found = hazards_of(lives, grid)
        shown += bool(found.shown)
        suspect += bool(found.suspect)
    assert shown <= 400 * SHOWN + 3.3 * math.sqrt(400 * SHOWN * (1 - SHOWN))
    assert suspect <= 400 * SUSPECT + 3.3 * math.sqrt(400 * SUSPECT * (1 - SUSPECT))
