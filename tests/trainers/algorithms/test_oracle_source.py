from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hyperoracle_client import Categorical, Choice, Oracle, Scale
from hyperoracle_client.api import OracleApi
from hyperoracle_trainers.algorithms.oracle_source import OracleSource
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import SettingsError
from hyperoracle_trainers.runs.run import make_trainer, run

SPACE = {"learning_rate": Scale([0.5, 1, 2]), "clip_range": Choice([0.1, 0.2, 0.3], default=0.2)}

PATIENT: Any = {"on_error": "raise", "propose_deadline_seconds": 30.0}  # on a busy machine


def _trainer(**changes: Any):
    settings = {"rollout_length": 16, "number_of_envs": 2, "epochs": 1, "total_env_steps": 160}
    return make_trainer(default_settings("ppo", "CartPole-v1", **settings | changes))


class PlainJob:
    """Halves the learning rate, sets the clip range, and remembers what it is told."""

    def __init__(self) -> None:
        self.reports: list[tuple[Sequence[float], int, float]] = []
        self.asked: list[tuple[int, int]] = []
        self.reason = ""

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, float]:
        self.asked.append((env_step, update_step))
        return {"learning_rate": 0.5, "clip_range": 0.3}

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> None:
        self.reports.append((episode_returns, env_step, phase_return))

    def finish(self, reason: str) -> None:
        self.reason = reason


def test_factors_multiply_the_decaying_base_and_values_replace_it() -> None:
    job = PlainJob()
    phases = list(_trainer(learning_rate=1e-3).train(OracleSource(job, SPACE, 160)))
    rates = [phase.hyperparameters["learning_rate"] for phase in phases]
    assert rates == pytest.approx([0.5e-3 * (1 - index / 5) for index in range(5)])
    assert {phase.hyperparameters["clip_range"] for phase in phases} == {0.3}
    assert job.asked == [(32 * (index + 1), 4 * index) for index in range(5)]
    assert job.reports == [
        (phase.episode_returns, phase.env_step, phase.phase_return) for phase in phases
    ]
    assert job.reason == "completed"


def test_a_value_out_of_range_is_told_and_not_credited(tmp_path: Path) -> None:
    space = {"gamma": Choice([1.5, 0.9], default=0.9), "learning_rate": Scale([0.5, 1, 2])}
    with Oracle(f"embedded:{tmp_path / 'oracle.db'}", on_error="raise") as oracle:
        source = OracleSource.start(oracle, _trainer(), study="s", space=space, strategy="random",
                                    seed=1)  # fmt: skip
        phases = []
        run(_trainer(), source, observers=[phases.append])
        stats = source.job.stats  # type: ignore[attr-defined] # a real job
        with OracleApi.at(oracle._endpoint) as api:
            job = api.job(source.job.id)  # type: ignore[attr-defined] # a real job
            rows = api.schedule("s").rows
    clamped = [row for row in rows if not row.as_proposed]
    assert 0 < len(clamped) < len(rows)
    assert {row.hyperparameters["gamma"] for row in clamped} == {1.0}
    assert job.applied_differently_proposals == len(clamped)
    # The last proposal of a run has no report to be told with.
    assert 0 <= stats.applied_differently - len(clamped) <= 1
    assert job.notices == {"applied_differently": stats.applied_differently}


def test_a_run_that_is_left_early_interrupts_its_job() -> None:
    job = PlainJob()
    phases = _trainer().train(OracleSource(job, SPACE, 160))
    next(phases)
    phases.close()
    assert job.reason == "interrupted"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"learning_rat": Scale([1, 2])},
            r"^space: expected .*, got 'learning_rat'; did you mean learning_rate\?",
        ),
        (
            {"epochs": Categorical(["few", "many"], default="few")},
            r"^space: expected numbers for epochs, got names; use Choice or Scale$",
        ),
    ],
)
def test_a_space_that_the_trainer_cannot_schedule_is_refused(
    space: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with (
        Oracle(f"embedded:{tmp_path / 'oracle.db'}") as oracle,
        pytest.raises(SettingsError, match=message),
    ):
        OracleSource.start(oracle, _trainer(), study="s", space=space)


def test_an_embedded_oracle_chooses_within_its_space(tmp_path: Path) -> None:
    trainer = _trainer(learning_rate=1e-3, decay_learning_rate=False)
    with Oracle(f"embedded:{tmp_path / 'oracle.db'}", **PATIENT) as oracle:
        source = OracleSource.start(oracle, trainer, study="s", space=SPACE, strategy="random")
        phases = []
        run(trainer, source, observers=[phases.append])
        assert source.job.stats.reports_sent == len(phases) == 5  # type: ignore[attr-defined] # a real job
    rates = {round(phase.hyperparameters["learning_rate"] / 1e-3, 6) for phase in phases}
    assert rates <= {0.5, 1.0, 2.0}
    assert {phase.hyperparameters["clip_range"] for phase in phases} <= {0.1, 0.2, 0.3}
    assert len(rates) > 1 or len({p.hyperparameters["clip_range"] for p in phases}) > 1
