"""`bandit` against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from hyperoracle_protocol.strategies import BanditStrategy
from hyperoracle_server.strategies.bandit import MAX_OPEN, BanditAgent, upper_confidence_bounds
from hyperoracle_server.strategies.decisions import Moment, Outcome
from hyperoracle_server.strategies.grid import HyperActionGrid

JOB = 7


class Play:
    """A bandit that is asked and rewarded; `told` holds the bins of each answer."""

    def __init__(self, bins=(2, 3), default=(0, 1), **settings):
        self.grid = HyperActionGrid(bins, default)
        self.agent = BanditAgent(self.grid, BanditStrategy(**settings))
        self.sequence = 0

    def ask(self, seed: int = 0):
        self.sequence += 1
        moment = Moment(JOB, "auto", 0, 100, "none", None, self.sequence, {})
        return self.agent.decide(moment, np.random.default_rng(seed))

    def reward(self, value: float, sequence: int | None = None) -> None:
        sequence = sequence or self.sequence
        self.agent.learn(Outcome(0, "none", 0, value, None, None, None, JOB, sequence))

    @property
    def note(self):
        return self.agent._jobs.of(JOB)


def test_bounds_are_the_windows_mean_and_the_bonus():
    # t = 8 rewards in all, of which the windows hold the newest.
    got = upper_confidence_bounds([[1.0, 2.0], [4.0], []], [6, 2, 0], 1.0)
    expected = [1.5 + math.sqrt(math.log(8) / 6), 4 + math.sqrt(math.log(8) / 2), math.inf]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert upper_confidence_bounds([[3.0]], [1], 5.0) == [3.0], "ln 1 is 0"


def test_bounds_of_the_published_code_begin_at_one_play_worth_0():
    got = upper_confidence_bounds([[1.0, 2.0], [4.0], []], [6, 2, 0], 1.0, "zero")
    bonus = [math.sqrt(math.log(9) / n) for n in (7, 3, 1)]
    np.testing.assert_allclose(got, [1.5 + bonus[0], 4 + bonus[1], bonus[2]], rtol=1e-12)
    assert upper_confidence_bounds([[], []], [0, 0], 1.0, "zero") == [0.0, 0.0]


@pytest.mark.parametrize(("untried", "value", "tried"), [("zero", 200.0, 1), ("zero", -200.0, 3),
                                                         ("first", 200.0, 3)])  # fmt: skip
def test_values_that_count_as_0_are_tried_only_where_returns_are_below(untried, value, tried):
    play = Play(bins=(3,), default=(0,), untried=untried)
    for seed in range(12):
        play.ask(seed)
        play.reward(value)
    assert sum(count > 0 for count in play.note.counts[0]) == tried


def test_a_reward_goes_to_the_arm_that_was_played_before_it():
    play = Play()
    first = play.ask(seed=1)
    ((sequence, cluster, arm),) = play.note.open
    assert sequence == 1
    assert play.grid.bins(first.hyper_action)[cluster] == arm
    play.ask(seed=2)
    play.reward(5.0, sequence=1)
    assert play.note.rewards[cluster][arm] == [5.0]
    assert play.note.counts[cluster][arm] == 1
    assert play.note.cluster_rewards[cluster] == [5.0]
    assert sum(map(sum, play.note.counts)) == 1
    assert [s for s, _, _ in play.note.open] == [2]


def test_every_hyperparameter_and_value_is_played_before_any_is_judged():
    # Rewards of 0 leave the choice to the bonus: as even as two levels can be.
    play = Play(coefficient=1.0)
    for seed in range(12):
        play.ask(seed)
        play.reward(0.0)
    assert [sum(counts) for counts in play.note.counts] == [6, 6]
    assert play.note.counts == [[3, 3], [2, 2, 2]]


def test_untried_arms_spread_while_rewards_are_still_under_way():
    play = Play(bins=(4,), default=(0,))
    told = {play.ask(seed).hyper_action for seed in range(4)}
    assert told == {0, 1, 2, 3}


def test_the_others_keep_what_the_job_last_had():
    play = Play(bins=(3, 3), default=(1, 1))
    before = (1, 1)
    for seed in range(20):
        now = play.grid.bins(play.ask(seed).hyper_action)
        assert sum(a != b for a, b in zip(before, now, strict=True)) <= 1
        play.reward(float(now[0]))
        before = now


def test_windows_forget_but_counts_do_not():
    play = Play(bins=(1,), default=(0,), window=3)
    for value in (10.0, 1.0, 2.0, 3.0):
        play.ask()
        play.reward(value)
    assert play.note.rewards == [[[1.0, 2.0, 3.0]]]
    assert play.note.cluster_rewards == [[1.0, 2.0, 3.0]]
    assert play.note.counts == [[4]]


def test_the_arm_of_the_greatest_bound_is_played_by_hand():
    play = Play()
    play.ask()
    note = play.note
    note.open = []
    # Cluster 0: n = 3, mean of the window 2; cluster 1: n = 6, mean 2.1; t = 9.
    # Bounds 2 + sqrt(ln 9 / 3) = 2.856 and 2.1 + sqrt(ln 9 / 6) = 2.705: cluster 0.
    note.cluster_rewards = [[2.0], [2.1]]
    note.counts = [[2, 1], [2, 2, 2]]
    # In it t = 3: arm 0 has 2.4 + sqrt(ln 3 / 2) = 3.141, arm 1 has 2 + sqrt(ln 3) = 3.048.
    note.rewards = [[[2.4], [2.0]], [[0.0], [0.0], [0.0]]]
    note.bins = [1, 2]
    decision = play.ask()
    assert play.grid.bins(decision.hyper_action) == (0, 2)
    assert (decision.explored, decision.propensity) == (False, 1.0)
    assert play.note.open[-1][1:] == (0, 0)


def test_the_propensity_counts_both_ways_to_a_hyper_action():
    play = Play(bins=(2, 2), default=(0, 0))
    # Four arms of 1/4 each; two of them leave the defaults as they are.
    decisions = [Play(bins=(2, 2), default=(0, 0)).ask(seed) for seed in range(200)]
    by_action = {d.hyper_action: d.propensity for d in decisions}
    assert by_action == {0: 0.5, 1: 0.25, 2: 0.25}
    share = sum(d.hyper_action == 0 for d in decisions) / 200
    assert math.isclose(share, 0.5, abs_tol=0.12)
    assert play.ask().explored


def test_an_outcome_drops_earlier_decisions_that_were_never_used():
    play = Play()
    for seed in range(3):
        play.ask(seed)
    play.reward(1.0, sequence=2)
    assert [s for s, _, _ in play.note.open] == [3]
    assert sum(map(sum, play.note.counts)) == 1


@pytest.mark.parametrize("best", [0, 1, 2])
def test_it_finds_the_better_value_of_one_hyperparameter(best: int):
    play = Play(bins=(3,), default=(1,))
    told = []
    for seed in range(60):
        told.append(play.ask(seed).hyper_action)
        play.reward(10.0 * (told[-1] == best))
    assert told[10:].count(best) >= 45


def test_notes_go_through_json_and_lead_to_the_same_choices():
    one, other = Play(), Play()
    for seed in range(9):
        one.ask(seed)
        if seed % 3:
            one.reward(0.1 * seed)
    text = one.agent.notes(JOB)
    assert text is not None
    other.agent.restore(JOB, text)
    other.sequence = one.sequence
    assert json.loads(other.agent.notes(JOB) or "") == json.loads(text)
    for seed in range(9, 20):
        assert one.ask(seed) == other.ask(seed)
        one.reward(-0.3 * seed)
        other.reward(-0.3 * seed)


def test_decisions_whose_return_never_comes_do_not_pile_up():
    play = Play()
    for _ in range(MAX_OPEN + 5):
        play.ask()
    assert len(play.note.open) == MAX_OPEN
    assert play.note.open[-1][0] == MAX_OPEN + 5
