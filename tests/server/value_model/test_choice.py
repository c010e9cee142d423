"""From effects to bins: by hand, and by counting many samples."""

import numpy as np
import pytest

from hyperoracle_server.value_model.bin_kernels import bin_kernel
from hyperoracle_server.value_model.choice import (
    cautious_bin,
    frontier,
    jobs_in_direction,
    propensities,
    sampled_bin,
)
from hyperoracle_server.value_model.gaussian_process import Effects


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
    kernel = bin_kernel(5, 2, ordered=True)
    prior = Effects(np.zeros(5), kernel)
    assert cautious_bin(prior, 2, ALL, 0.0) == 2
    rng = np.random.default_rng(0)
    chosen = {sampled_bin(prior, 2, ALL, rng.standard_normal(5)) for _ in range(200)}
    assert chosen == {0, 1, 2, 3, 4}


def test_samples_have_the_effects_mean_and_covariance():
    """The default is chosen where all else is worse; two opposite effects are level."""
    effects = Effects(np.array([0.0, 0.0, 0.0]), np.diag([1.0, 0.0, 1.0]))
    rng = np.random.default_rng(1)
    normal = rng.standard_normal((4000, 3))
    chosen = np.bincount(
        [sampled_bin(effects, 1, np.ones(3, bool), row) for row in normal], minlength=3
    )
    # Both negative: a quarter. 4000 draws have a standard deviation below 0.008.
    assert chosen / 4000 == pytest.approx([0.375, 0.25, 0.375], abs=0.03)
    shares = propensities(effects, 1, np.ones(3, bool), rng, draws=4000)
    assert shares == pytest.approx([0.375, 0.25, 0.375], abs=0.03)


def test_forbidden_bins_are_never_chosen_and_have_no_propensity():
    effects = effects_of([9.0, 1.0, 0.0, 0.5, 9.0], [1.0, 0.1, 0.0, 0.1, 1.0])
    allowed = np.array([False, True, True, True, False])
    rng = np.random.default_rng(2)
    assert {sampled_bin(effects, 2, allowed, rng.standard_normal(5)) for _ in range(50)} <= {1, 3}
    shares = propensities(effects, 2, allowed, rng)
    assert shares[[0, 4]].tolist() == [0.0, 0.0]
    assert (shares[[1, 2, 3]] > 0.0).all()
    assert shares.sum() == pytest.approx(1.0)


def test_jobs_behind_a_direction_are_counted_once_each():
    bins, jobs = np.array([3, 4, 3, 1, 2, 0]), np.array([1, 1, 2, 2, 3, 4])
    assert jobs_in_direction(bins, jobs, 2, 5, ordered=True).tolist() == [2, 2, 0, 2, 2]
    assert jobs_in_direction(bins, jobs, 2, 5, ordered=False).tolist() == [1, 1, 0, 2, 1]
