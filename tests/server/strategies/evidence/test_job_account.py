"""What a job counts for, by hand-computed numbers and by laws."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hyperoracle_server.strategies.evidence.exposure import Exposure
from hyperoracle_server.strategies.evidence.job_account import (
    Ending,
    EndReason,
    JobAccount,
    ending_of,
)
from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve

PLANNED = 1000
FLOOR = -10.0
REASONS: tuple[EndReason, ...] = ("completed", "reached", "interrupted", "failed", "lapsed")


def curve_of(*points: tuple[int, float | None]) -> LearningCurve:
    curve = LearningCurve(PLANNED)
    curve.extend(points)
    return curve


def ending(*points: tuple[int, float | None], reason: EndReason = "completed") -> Ending:
    return ending_of(curve_of(*points), reason, 0, FLOOR)


def test_a_job_that_came_to_its_planned_end_is_scored_by_what_it_ran() -> None:
    assert ending((500, 2.0), (1000, 4.0))[:3] == ("whole", 3.0, 4.0)
    # A loop that ends at the end of a phase: the missing 50 env steps count with nothing.
    assert ending((475, 2.0), (950, 4.0), reason="interrupted")[:2] == ("whole", 3.0)


def test_an_early_stop_that_was_good_goes_on_with_its_last_return() -> None:
    for reason in ("reached", "completed"):
        found = ending((100, 2.0), (300, 8.0), reason=reason)
        assert found[:3] == ("reached", (100 * 2 + 900 * 8) / 1000, 8.0)


def test_who_stops_early_looks_at_the_last_phase_and_not_at_a_mean_over_episodes() -> None:
    curve = curve_of((300, 2.0))
    curve.newest_own = 8.0
    found = ending_of(curve, "reached", 0, FLOOR)
    assert found.score == pytest.approx(0.3 * 2 + 0.7 * 8)
    assert found.last == 8.0


def test_what_broke_down_is_lost_whatever_it_had_reached() -> None:
    assert ending((900, 50.0), reason="failed")[:3] == ("failed", FLOOR, FLOOR)
    assert ending((900, 50.0), (1000, None))[:3] == ("diverged", FLOOR, FLOOR)
    assert ending((900, 50.0), (950, None), reason="reached").is_dead


def test_what_fails_after_the_planned_end_is_not_the_fault_of_training() -> None:
    assert ending((1000, 3.0), reason="failed")[:2] == ("whole", 3.0)


def test_what_fell_silent_counts_with_the_floor_from_there_on() -> None:
    assert ending((300, 20.0), reason="lapsed")[:3] == ("lapsed", 0.3 * 20 - 0.7 * 10, FLOOR)


def test_an_interrupted_job_goes_on_as_others_usually_did() -> None:
    climbing = [curve_of(*((k * 100, float(k + shift)) for k in range(1, 11)))
                for shift in (0, 5, -5)]  # fmt: skip
    at_half = curve_of(*((k * 100, float(k)) for k in range(1, 6)))
    found = ending_of(at_half, "interrupted", 0, FLOOR, climbing)
    # It was at 5; the levels at 9/16 ... 16/16 are 6, 7, 7, 8, 9, 9, 10, 10 of the climbing ones.
    mean_of_the_rest = sum([6, 7, 7, 8, 9, 9, 10, 10]) / 8
    assert found[:2] == ("interrupted", pytest.approx(0.5 * 3 + 0.5 * mean_of_the_rest))
    assert found.shown == 0.5


def test_an_interrupted_job_that_showed_next_to_nothing_has_no_score() -> None:
    found = ending((10, 99.0), reason="interrupted")
    assert found[:3] == ("interrupted", None, None)
    assert found.shown == 0.01


def test_without_any_return_a_job_counts_with_the_floor_if_it_was_lost_and_else_not_at_all() -> (
    None
):
    assert ending(reason="failed").score == FLOOR
    assert ending(reason="lapsed").score == FLOOR
    assert (ending().score, ending().shown) == (None, 0.0)
    assert ending_of(curve_of(), "failed", 0, None)[:3] == ("failed", None, None)


def test_a_lost_job_for_which_nothing_was_decided_says_nothing() -> None:
    account = JobAccount(curve_of((300, 20.0)))
    assert account.end("failed", 300, FLOOR, [])[:2] == ("failed", None)
    account.exposure.decide(1, 0)
    assert account.end("failed", 300, FLOOR, [])[:2] == ("failed", FLOOR)


def test_it_comes_back_from_its_json_exactly() -> None:
    account = JobAccount(
        curve_of((300, 20.5), (400, None)), Exposure([[1, 2]], [[0, 1]], [(3, 1)], 400, 1)
    )
    account.end("lapsed", 400, FLOOR, [])
    assert JobAccount.load(PLANNED, account.dump(), 1.0) == account
    assert JobAccount.load(PLANNED, None, 1.0) == JobAccount(None)


steps = st.integers(1, 200)
returns = st.floats(FLOOR, 100.0)


@st.composite
def courses(draw: st.DrawFn) -> list[tuple[int, float | None]]:
    """Returns, some of them lost, at rising env steps up to about the planned end."""
    env_step, points = 0, []
    while env_step < PLANNED and (not points or draw(st.integers(0, 9))):
        env_step = min(PLANNED, env_step + draw(steps))
        points.append((env_step, draw(returns | st.none())))
    return points


@given(courses(), st.data(), st.sampled_from(REASONS))
def test_a_return_that_is_lost_never_makes_a_job_look_better(points, data, reason) -> None:
    known = [place for place, (_, value) in enumerate(points) if value is not None]
    assume(known)
    place = data.draw(st.sampled_from(known))
    lost = [*points[:place], (points[place][0], None), *points[place + 1 :]]
    before, after = (ending_of(curve_of(*each), reason, 0, FLOOR) for each in (points, lost))
    if before.score is not None and after.score is not None:
        assert after.score <= before.score + 1e-9
        assert after.final <= before.final + 1e-9
    assert (after.score is None) <= (before.score is None), "it does not take itself out"


@given(courses(), st.data(), st.sampled_from(["failed", "lapsed"]), st.sampled_from(REASONS))
def test_a_job_that_is_killed_never_looks_better_than_if_it_had_gone_on(
    points, data, death, reason
) -> None:
    """To an end of its own: that it would have broken down later nobody knows."""
    killed_at = data.draw(st.integers(0, len(points)))
    gone_on = ending_of(curve_of(*points), reason, 0, FLOOR)
    killed = ending_of(curve_of(*points[:killed_at]), death, 0, FLOOR)
    if gone_on.score is not None and gone_on.kind in ("whole", "reached"):
        assert killed.score <= gone_on.score + 1e-9
        assert killed.final <= gone_on.final + 1e-9


@given(st.lists(st.tuples(steps, returns), min_size=1, max_size=12))
def test_a_job_that_is_stopped_at_its_best_never_looks_worse(phases) -> None:
    env_step, points = 0, []
    for more, value in phases:
        env_step = min(PLANNED, env_step + more)
        points.append((env_step, value))
    best = max(range(len(points)), key=lambda place: points[place][1])
    stopped = ending_of(curve_of(*points[: best + 1]), "reached", 0, FLOOR)
    gone_on = ending_of(curve_of(*points), "completed", 0, FLOOR)
    if gone_on.kind == "whole":
        assert stopped.score >= gone_on.score - 1e-9
        assert stopped.final >= gone_on.final - 1e-9
