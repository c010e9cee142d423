"""Roles by the numbers: how many controls, how often exploration."""

import numpy as np
import pytest

from hyperoracle_protocol.strategies import RoleSetting
from hyperoracle_server.strategies.chance import NumberedStreams, drawn_role


def roles_of(setting: RoleSetting, count: int, ended: int = 10**6, seed: int = 0) -> list[str]:
    chance = NumberedStreams(seed)
    return [
        drawn_role(setting, number, ended, chance.stream, chance.stream((number + 1) << 32))
        for number in range(count)
    ]


@pytest.mark.parametrize("every", [1, 2, 5, 7])
def test_one_of_every_so_many_jobs_is_a_control(every):
    roles = roles_of(RoleSetting(control_every=every), 2 + 20 * every)[2:]
    for first in range(0, len(roles), every):
        assert roles[first : first + every].count("control") == 1


def test_the_control_of_a_block_has_no_fixed_place():
    setting = RoleSetting(controls_first=0)
    places = {roles_of(setting, 5, seed=seed).index("control") for seed in range(60)}
    assert places == {0, 1, 2, 3, 4}


def test_there_are_no_controls_where_none_are_wanted():
    assert "control" not in roles_of(RoleSetting(control_every=0, controls_first=0), 100)


def test_the_first_jobs_show_what_is_usual():
    for seed in range(20):
        assert roles_of(RoleSetting(controls_first=3), 3, 0, seed) == ["control"] * 3


@pytest.mark.parametrize(("ended", "expected"), [(0, 1.0), (4, 0.75), (14, 0.125), (99, 0.1)])
def test_exploration_falls_with_the_jobs_that_ended(ended, expected):
    roles = roles_of(RoleSetting(), 4000, ended)
    explored, exploited = roles.count("explore"), roles.count("exploit")
    # 3200 draws have a standard deviation below 0.009.
    assert explored / (explored + exploited) == pytest.approx(expected, abs=0.035)


def test_roles_do_not_depend_on_what_was_drawn_before():
    chance = NumberedStreams(3)
    forwards = roles_of(RoleSetting(), 40, ended=8, seed=3)
    backwards = [
        drawn_role(RoleSetting(), n, 8, chance.stream, chance.stream((n + 1) << 32))
        for n in reversed(range(40))
    ]
    assert forwards == backwards[::-1]
    assert isinstance(chance.stream(0), np.random.Generator)
