from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trainers.short_runs import small_trainer

from hyperoracle_trainers.algorithms.phase import EPISODE_ENV_STEPS, EpisodeWatch, Phase
from hyperoracle_trainers.hyperparameters.settings import PPOSettings
from hyperoracle_trainers.runs import evaluation as video
from hyperoracle_trainers.runs.evaluation import evaluate, mean_of
from hyperoracle_trainers.runs.run import run


def _evaluated(env_id: str, **options: Any) -> list[float]:
    trainer = small_trainer("ppo", env_id)
    return evaluate(trainer.policy, trainer.observation_normaliser, trainer.settings, **options)


def test_an_evaluation_ends_where_episodes_do_not(caplog: pytest.LogCaptureFixture) -> None:
    watched: list[tuple[int, int]] = []

    def watch(ended: int, env_steps: int) -> None:
        watched.append((ended, env_steps))

    assert _evaluated("Endless-v0", episodes=3, env_step_limit=1200, watch=watch) == []
    assert watched == [(0, 500), (0, 1000), (0, 1200)]
    (said,) = caplog.messages
    assert "Endless-v0: 0 of 3 episodes of the evaluation ended within 1,200 env steps" in said


def test_the_limit_is_thirty_thousand_env_steps_an_episode_by_itself() -> None:
    watched: list[int] = []
    _evaluated("Endless-v0", episodes=1, watch=lambda _, env_steps: watched.append(env_steps))
    assert watched[-1] == EPISODE_ENV_STEPS == 30_000


def test_episodes_that_ended_before_the_limit_count_and_have_no_mean() -> None:
    returns = _evaluated("Truncated-v0", episodes=5, env_step_limit=7)
    assert returns == [6.0, 6.0], "two episodes of three env steps"
    assert mean_of(returns, 5) is None
    assert mean_of(returns, 2) == 6.0
    assert mean_of([], 0) is None


def test_a_runs_summary_has_no_evaluation_return_where_an_episode_did_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperoracle_trainers.runs.evaluation.EPISODE_ENV_STEPS", 50)
    summary = run(small_trainer("ppo", "Endless-v0"), evaluation_episodes=2)
    assert (summary.evaluation_episodes, summary.evaluation_returns) == (2, [])
    assert summary.evaluation_return is None


def test_a_video_of_an_episode_that_does_not_end_shows_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(video, "EPISODE_ENV_STEPS", 5)
    trainer = small_trainer("ppo", "CartPole-v1")
    arguments = trainer.policy, trainer.observation_normaliser, trainer.settings
    assert video.record_video(tmp_path / "it.gif", *arguments) == 5.0
    assert "the video shows its first 5 env steps" in caplog.text
    assert (tmp_path / "it.gif").exists()


def _phase(env_step: int, *returns: float) -> Phase:
    return Phase(
        index=0, env_step=env_step, update_step=1, episode_returns=returns, episode_lengths=(),
        phase_return=0.0, hyperparameters={}, decisions=(), metrics={}, collect_seconds=0.0,
        update_seconds=0.0, source_seconds=0.0,
    )  # fmt: skip


def _said(phases: list[Phase], caplog: pytest.LogCaptureFixture) -> list[str]:
    settings = PPOSettings(env_id="CartPole-v1", number_of_envs=2, total_env_steps=1_000_000)
    watch = EpisodeWatch(settings)
    for phase in phases:
        watch.look(phase)
    return caplog.messages


def test_that_no_episode_ends_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    phases = [_phase(step) for step in range(10_000, 200_000, 10_000)]
    (said,) = _said(phases, caplog)
    assert "no episode has ended yet, at env step 70,000" in said
    assert "max_episode_steps" in said


def test_that_no_episode_ends_any_more_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    phases = [_phase(10_000, 1.0), *(_phase(step) for step in range(20_000, 200_000, 10_000))]
    (said,) = _said(phases, caplog)
    assert "no episode has ended since env step 10,000, at env step 70,000" in said
    assert "but old ones" in said


def test_episodes_that_end_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    phases = [_phase(step, *[1.0] * (step % 40_000 == 0)) for step in range(10_000, 10**6, 10_000)]
    assert _said([*phases, _phase(1_000_000)], caplog) == []


def test_a_run_without_any_episode_says_so_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    run(small_trainer("ppo", "Endless-v0"))
    (said,) = caplog.messages
    assert "Endless-v0: no episode has ended yet, at env step 96" in said
