"""From effects to joint hyper-actions, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np

from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.value_model.effects_on_grid import EffectsOnGrid
from hyperoracle_server.strategies.value_model.gaussian_process import Effects

# A number of five bins whose middle one is the default, and a name of three whose first one is.
GRID = EffectsOnGrid(HyperActionGrid((5, 3), (2, 0)), (True, False))
BINS = np.array([[3, 1], [3, 1], [3, 0], [1, 2], [2, 0]])
JOBS = np.array([0, 1, 2, 0, 4])


def effects(means, deviations) -> Effects:
    return Effects(np.array(means), np.diag(np.square(deviations)))


NUMBER = effects([-1.0, 0.5, 0.0, 1.0, 3.0], [1.0, 1.0, 0.0, 0.25, 1.0])
NAME = effects([0.0, 0.4, 2.0], [0.0, 0.1, 0.5])


def cautious(caution: float = 1.0, jobs_needed: int = 1, *, only_tried: bool = True) -> list[int]:
    return GRID.cautious(
        [NUMBER, NAME], BINS, JOBS, caution=caution, jobs_needed=jobs_needed, only_tried=only_tried
    )


def test_the_bins_next_to_what_was_tried_and_is_good_may_be_tried():
    """Bin 3 was tried and is good: bin 4. Bin 1 is, if one is not cautious: bin 0."""
    assert GRID.frontier(0, NUMBER, BINS, 0.0).tolist() == [True] * 5
    assert GRID.frontier(0, NUMBER, BINS, 1.0).tolist() == [False, True, True, True, True]
    assert GRID.frontier(0, NUMBER, BINS, 4.5).tolist() == [False, True, True, True, False]
    assert GRID.frontier(0, NUMBER, BINS[4:], 0.0).tolist() == [False, True, True, True, False]


def test_names_have_no_neighbours_and_may_all_be_tried():
    assert GRID.frontier(1, NAME, BINS[:0], 9.0).tolist() == [True] * 3


def test_a_bin_is_exploited_that_is_surely_good_was_tried_and_has_jobs_behind_it():
    """Less one deviation: bin 4 has 2 and was not tried, bin 3 has 0.75; the names 0.3 and 1.5."""
    assert cautious() == [3, 2]
    assert cautious(only_tried=False) == [4, 2]
    assert cautious(caution=3.9) == [3, 2], "1 - 0.975; 0.4 - 0.39 is less than 2 - 1.95"
    assert cautious(caution=5.0) == [2, 0], "nothing is so sure"


def test_jobs_stand_behind_a_side_of_a_number_and_behind_a_name():
    """Three jobs went up, of which two took the first name; one took the second name."""
    assert cautious(jobs_needed=2) == [3, 1]
    assert cautious(jobs_needed=3) == [3, 0]
    assert cautious(jobs_needed=4) == [2, 0]
    assert cautious(jobs_needed=3, only_tried=False) == [4, 0]


def test_an_untried_bin_out_of_reach_is_not_exploited():
    """Bin 4 lies beside nothing that is good as long as bin 3 is bad."""
    bad = effects([0.0, 0.5, 0.0, -1.0, 3.0], [1.0, 1.0, 0.0, 0.25, 1.0])
    found = GRID.cautious([bad, NAME], BINS, JOBS, caution=1.0, jobs_needed=1, only_tried=False)
    assert found == [2, 2]


def test_evidence_adds_effects_up_and_knows_what_any_record_tried():
    evidence = GRID.evidence([NUMBER, NAME], BINS[:2], JOBS[:2])
    sums = [[-1, -0.6, 1], [0.5, 0.9, 2.5], [0, 0.4, 2], [1, 1.4, 3], [3, 3.4, 5]]
    np.testing.assert_allclose(evidence.q_values.reshape(5, 3), sums, rtol=1e-12)
    row, column = np.arange(5)[:, None] == 3, np.arange(3)[None, :] == 1
    assert evidence.known.reshape(5, 3).tolist() == (row | column).tolist()
    assert evidence.record_jobs is not None
    assert evidence.record_jobs.tolist() == [0, 1]
