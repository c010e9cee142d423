"""`kl_adaptive` against numbers worked out by hand."""

import numpy as np
import pytest

from hyperoracle_protocol.strategies import KlAdaptiveStrategy
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.strategies.baselines import KlAdaptiveAgent, adapted_rate
from hyperoracle_server.strategies.decisions import Moment
from hyperoracle_server.strategies.grid import HyperActionGrid

HIGH, LOW, GOOD = 0.021, 0.004, 0.01


def agent_of(values=(0.25, 0.5, 1.0, 2.0, 4.0), default=2) -> KlAdaptiveAgent:
    grid = HyperActionGrid((3, len(values)), (1, default))
    return KlAdaptiveAgent(grid, 1, values, KlAdaptiveStrategy())


def ask(agent: KlAdaptiveAgent, kl: float | None, role="auto", job_id: int = 1) -> int:
    """The bin of the rate; the other hyperparameter must stay."""
    signals = {"entropy": 1.0} if kl is None else {"approx_kl": kl}
    decision = agent.decide(
        Moment(job_id, role, 0, 100, "none", None, 1, signals), np.random.default_rng(0)
    )
    assert decision.propensity == 1.0
    other, rate = agent._grid.bins(decision.hyper_action)
    assert other == 1
    return rate


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(0.0201, 2.0), (0.02, 3.0), (0.005, 3.0), (0.0049, 4.5), (0.0, 3.0), (-0.001, 3.0)],
)
def test_one_step_by_hand(kl: float, expected: float):
    assert adapted_rate(3.0, kl, 0.01, 1.5) == expected


def test_the_nearest_bin_by_ratio_is_answered():
    agent = agent_of()
    # 1.5 is nearer to 2 (ratio 1.33) than to 1; 2.25 is 2; 3.375 is nearer to 4; then the bound.
    assert [ask(agent, LOW) for _ in range(4)] == [3, 3, 4, 4]
    assert agent._jobs.of(1).wanted == 4.0
    # 2.667, 1.778, 1.185, 0.790, 0.527
    assert [ask(agent, HIGH) for _ in range(5)] == [3, 3, 2, 2, 1]


def test_bins_further_apart_than_the_factor_are_reached_in_several_steps():
    agent = agent_of(values=(0.01, 1.0, 100.0), default=1)
    got = [ask(agent, LOW) for _ in range(12)]
    # 1.5 ** 5 = 7.6 is nearer to 1, 1.5 ** 6 = 11.4 nearer to 100.
    assert got == [1] * 5 + [2] * 7


def test_of_two_bins_equally_near_the_lower_is_answered():
    for values, default in (((1.0, 1.5, 2.25), 1), ((2.25, 1.5, 1.0), 1)):
        agent = agent_of(values, default)
        agent._jobs.of(1).wanted = 1.5
        assert ask(agent, GOOD) == 1
    agent = agent_of((4.0, 1.0), 0)
    agent._jobs.of(1).wanted = 2.0
    assert ask(agent, GOOD) == 1


def test_a_proposal_without_the_signal_changes_nothing():
    agent = agent_of()
    assert ask(agent, None) == 2
    ask(agent, LOW)
    assert [ask(agent, None), ask(agent, GOOD)] == [3, 3]


def test_jobs_have_rates_of_their_own_and_controls_none():
    agent = agent_of()
    assert ask(agent, LOW, job_id=1) == 3
    assert ask(agent, HIGH, job_id=2) == 1
    assert ask(agent, HIGH, "control", job_id=3) == 2
    assert agent.notes(3) is None


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"clip": {"type": "relative", "values": [1, 2]}}, "expected 'learning_rate' in the space"),
        (
            {"learning_rate": {"type": "categorical", "values": ["a"], "default": "a"}},
            "numbers above 0",
        ),
        (
            {"learning_rate": {"type": "values", "values": [0, 1], "default": 1}},
            "numbers above 0",
        ),
    ],
)
def test_a_space_that_it_cannot_adapt_is_refused(space, says):
    with pytest.raises(ValueError, match=says):
        StudyDefinition.model_validate({"space": space, "strategy": {"name": "kl_adaptive"}})


def test_any_hyperparameter_and_signal_can_be_named():
    space = {"step_size": {"type": "float", "low": 0.1, "high": 1.0, "default": 0.5}}
    strategy = {"name": "kl_adaptive", "hyperparameter": "step_size", "signal": "kl"}
    definition = StudyDefinition.model_validate({"space": space, "strategy": strategy})
    assert definition.strategy.name == "kl_adaptive"
