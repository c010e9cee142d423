"""From effects to bins: by hand, and by counting many samples."""

import numpy as np
import pytest

from hyperoracle_server.strategies.value_model.choice import (
    cautious_bin,
    explored_bins,
    frontier,
    jobs_in_direction,
    sampled,
)
from hyperoracle_server.strategies.value_model.gaussian_process import Effects, bin_kernel


def effects_of(means, deviations=None) -> Effects:
    deviations = np.zeros(len(means)) if deviations is None else np.array(deviations)
    return Effects(np.array(means, float), np.diag(deviations**2))


ALL = np.ones(5, bool)


def test_one_step_from_the_default_and_from_what_looks_good_may_be_tried():
    tried = np.array([False, True, True, True, False])
    bad_below_good_above = effects_of([5.0, -1.0, 0.0, 1.0, 5.0])
    allowed = frontier(bad_below_good_above, 2, tried, ordered=True)
    assert allowed.tolist() == [False, True, True, True, True]
    # What was not tried does not look good, whatever the model says of it.
    allowed = frontier(effects_of([5.0, 1.0, 0.0, 1.0, 5.0]), 2, np.zeros(5, bool), ordered=True)
    assert allowed.tolist() == [False, True, True, True, False]
    assert frontier(bad_below_good_above, 2, tried, ordered=False).all()


def test_caution_takes_the_greatest_lower_value_above_the_default():
    means, deviations = [2.0, 1.0, 0.0, 0.4, 3.0], [3.0, 0.5, 0.0, 0.1, 9.0]
    # Less half a deviation: 0.5, 0.75, 0, 0.35, −1.5.
    assert cautious_bin(effects_of(means, deviations), 2, ALL, 0.5) == 1
    assert cautious_bin(effects_of(means, deviations), 2, ALL, 3.0) == 3
    assert cautious_bin(effects_of(means, deviations), 2, ALL, 5.0) == 2
    none = np.zeros(5, bool)
    assert cautious_bin(effects_of(means, deviations), 2, none, 0.0) == 2


def test_nothing_known_means_the_default_for_caution_and_chance_for_exploration():
    prior = Effects(np.zeros(5), bin_kernel(5, 2, ordered=True))
    assert cautious_bin(prior, 2, ALL, 0.0) == 2
    normal = np.random.default_rng(0).standard_normal((200, 5))
    chosen = explored_bins([sampled(prior, normal)], [2], [ALL])
    assert set(chosen[:, 0].tolist()) == {0, 1, 3, 4}


def test_samples_have_the_effects_mean_and_covariance():
    kernel = bin_kernel(4, 1, ordered=True)
    effects = Effects(np.array([1.0, 0.0, -2.0, 5.0]), kernel)
    samples = sampled(effects, np.random.default_rng(1).standard_normal((20_000, 4)))
    # The standard error of a mean is below 0.008, of a covariance below 0.01.
    assert samples.mean(axis=0) == pytest.approx(effects.means, abs=0.03)
    assert np.cov(samples.T) == pytest.approx(kernel, abs=0.04)
    assert samples[:, 1] == pytest.approx(0.0, abs=1e-6), "the default is sure"


def test_the_best_allowed_bin_other_than_the_default_of_everything_is_explored():
    one = np.array([[-1.0, 0.0, -3.0], [2.0, 0.0, 9.0], [-5.0, 0.0, 4.0]])
    all_, no_last = np.ones(3, bool), np.array([True, True, False])
    assert explored_bins([one], [1], [all_])[:, 0].tolist() == [0, 2, 2]
    assert explored_bins([one], [1], [no_last])[:, 0].tolist() == [0, 0, 0]
    # Of two hyperparameters one suffices: the one that loses least.
    two = np.array([[0.0, -0.5], [0.0, -0.5], [0.0, 1.0]])
    both = explored_bins([one, two], [1, 0], [all_, np.ones(2, bool)])
    assert both.tolist() == [[1, 1], [2, 0], [2, 1]]


def test_where_there_is_nothing_but_the_default_it_is_explored():
    assert explored_bins([np.zeros((2, 1))], [0], [np.ones(1, bool)]).tolist() == [[0], [0]]


def test_jobs_behind_a_direction_are_counted_once_each():
    bins, jobs = np.array([3, 4, 3, 1, 2, 0]), np.array([1, 1, 2, 2, 3, 4])
    assert jobs_in_direction(bins, jobs, 2, 5, ordered=True).tolist() == [2, 2, 0, 2, 2]
    assert jobs_in_direction(bins, jobs, 2, 5, ordered=False).tolist() == [1, 1, 0, 2, 1]
