from __future__ import annotations

from dataclasses import replace

import pytest

from hyperoracle_trainers.algorithms.phase import Phase
from hyperoracle_trainers.runs.trackers import ScalarSeries, scalars_of, summary_scalars

FIRST = Phase(
    index=0,
    env_step=10,
    update_step=1,
    episode_returns=(1.0, 2.0),
    episode_lengths=(3, 5),
    phase_return=4.0,
    hyperparameters={"learning_rate": 0.5},
    decisions=(),
    metrics={"value_loss": 1.0},
    collect_seconds=1.0,
    update_seconds=0.5,
    source_seconds=0.25,
)
SECOND = replace(
    FIRST,
    index=1,
    env_step=20,
    episode_returns=(6.0,),
    episode_lengths=(10,),
    phase_return=8.0,
    hyperparameters={"learning_rate": 0.25},
    metrics={"value_loss": 3.0},
)


def test_several_phases_give_one_point() -> None:
    assert scalars_of([FIRST, SECOND]) == {
        "returns/phase": 6.0,
        "returns/episode": 3.0,
        "returns/episode_length": 6.0,
        "hyperparameters/learning_rate": 0.25,
        "losses/value_loss": 2.0,
        "time/collect_seconds": 2.0,
        "time/update_seconds": 1.0,
        "time/source_seconds": 0.5,
    }


def test_without_a_finished_episode_there_is_no_return_of_episodes() -> None:
    scalars = scalars_of([replace(FIRST, episode_returns=(), episode_lengths=())])
    assert scalars["returns/phase"] == 4.0
    assert "returns/episode" not in scalars
    assert "returns/episode_length" not in scalars


def test_the_numbers_of_a_summary_are_named_so_and_the_rest_is_left_out() -> None:
    summary = {"final_return": 2, "evaluation_return": None, "status": "completed", "oracle": {}}
    assert summary_scalars(summary | {"sure": True}) == {"summary/final_return": 2.0}


def test_every_phase_is_a_point_where_a_run_has_few() -> None:
    series = ScalarSeries(total_env_steps=1000)
    (first,) = series.add(FIRST)
    (second,) = series.add(SECOND)
    assert (first.env_step, second.env_step) == (10, 20)
    assert first.scalars["returns/episode"] == 1.5
    assert second.scalars["returns/episode"] == 6.0
    assert second.scalars["time/env_steps_per_second"] == pytest.approx(10 / 1.75)
    assert not series.rest()


def test_short_phases_share_a_point_so_that_a_run_has_a_thousand() -> None:
    series = ScalarSeries(total_env_steps=20_000)
    assert not series.add(FIRST)
    (point,) = series.add(SECOND)
    assert point.env_step == 20
    assert point.scalars["returns/episode"] == 3.0
    assert point.scalars["time/env_steps_per_second"] == pytest.approx(20 / 3.5)
    assert not series.add(replace(SECOND, index=2, env_step=30))
    (rest,) = series.rest()
    assert rest.env_step == 30
    assert not series.rest()
