from __future__ import annotations

import pytest

from hyperoracle_trainers.experiments.runner import Pace


def test_without_any_run_nothing_is_said() -> None:
    assert Pace([("a", "x")]).seconds_left(10.0, processes=2) is None


def test_earlier_runs_of_the_kind_of_the_task_and_of_any_are_asked_in_this_order() -> None:
    pace = Pace([("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")])
    pace.know(("a", "x"), 10.0)
    pace.know(("a", "z"), 30.0)
    pace.know(("c", "x"), 50.0)
    # Twice 10, the mean 20 of the task, the mean 30 of all.
    assert pace.seconds_left(0.0, processes=2) == pytest.approx((10 + 10 + 20 + 30) / 2)


def test_what_was_made_now_tells_how_fast_it_goes() -> None:
    pace = Pace([("a", "x")] * 6)
    pace.make(("a", "x"), 10.0)
    pace.make(("a", "x"), 10.0)
    # Twenty seconds of work took 15: two processes with something beside their work.
    assert pace.seconds_left(15.0, processes=2) == pytest.approx(40 * 15 / 20)


def test_in_the_end_nothing_is_left() -> None:
    pace = Pace([("a", "x")])
    pace.make(("a", "x"), 10.0)
    assert pace.seconds_left(10.0, processes=2) == 0.0
