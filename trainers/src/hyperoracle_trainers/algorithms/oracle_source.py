"""Hyperparameters from an oracle, through a job of the client's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from hyperoracle_client import Categorical, Choice, Float, Int, Oracle, Scale
from hyperoracle_protocol.names import expected_one_of
from hyperoracle_trainers.algorithms.trainer import Trainer
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS
from hyperoracle_trainers.hyperparameters.settings import SettingsError, TrainerSettings

Space: TypeAlias = Mapping[str, Float | Int | Choice | Categorical | Scale]
"""What an oracle may choose: hyperparameters by name, in the client's words."""


class OracleJob(Protocol):
    """What is used of a :class:`hyperoracle_client.Job`."""

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, Any]:
        """Return the hyperparameters to use; of a relative one the factor."""
        ...

    def applied(self, values: Mapping[str, float]) -> object:
        """Take note of what was used instead of what was proposed."""
        ...

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> object:
        """Hand over what an environment phase brought."""
        ...

    def finish(self, reason: Any) -> object:
        """End the job: ``"completed"``, ``"interrupted"`` or ``"failed"``."""
        ...


class OracleSource:
    """A `HyperparameterSource` that asks a job.

    Args:
        job: a started job; this source finishes it.
        space: the job's search space.
        total_env_steps: env steps after which the run is complete.
        env_step: env steps taken so far.

    Attributes:
        job: as given.
        relative: the hyperparameters that the space declares by :class:`hyperoracle_client.Scale`.
    """

    def __init__(
        self, job: OracleJob, space: Space, total_env_steps: int, env_step: int = 0
    ) -> None:
        self.job = job
        self.relative = frozenset(name for name, each in space.items() if isinstance(each, Scale))
        self._total_env_steps = total_env_steps
        self._env_step = env_step

    @classmethod
    def start(
        cls, oracle: Oracle, trainer: Trainer[Any], *, study: str, space: Space, **options: Any
    ) -> OracleSource:
        """Start a job for a trainer.

        Args:
            oracle: where.
            trainer: a fresh or a restored one; its policy is the job's model, its settings are
                the job's base values and metadata.
            study: name of the study.
            space: what the oracle may choose; names are those of
                `HYPERPARAMETERS`.
            **options: further arguments of :meth:`hyperoracle_client.Oracle.start_job`, such as
                ``strategy``, or ``resume_from`` for a restored trainer; ``metadata`` is added to
                the trainer's.

        Raises:
            SettingsError: the space names what the trainer cannot schedule, or no numbers.
            OracleError: see :meth:`hyperoracle_client.Oracle.start_job`.
        """
        settings: TrainerSettings = trainer.settings
        _check_space(space, settings)
        algorithm = type(trainer).__name__.lower()
        metadata = {
            "environment": settings.env_id,
            "algorithm": algorithm,
            "seed": str(settings.seed),
        }
        base_values = settings.base_values()
        job = oracle.start_job(
            study=study,
            space={name: _with_moment_of_effect(name, each) for name, each in space.items()},
            model=trainer.policy,
            total_env_steps=settings.total_env_steps,
            base_values={name: base_values[name] for name in space},
            **{**options, "metadata": metadata | dict(options.get("metadata") or {})},
        )
        return cls(job, space, settings.total_env_steps, trainer.place.env_step)

    def propose(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> Mapping[str, float]:
        """Return the job's answer: values, and factors of relative hyperparameters."""
        return self.job.propose(env_step=env_step, update_step=update_step, signals=signals)

    def applied(self, values: Mapping[str, float]) -> None:
        """Tell the oracle what is used instead: the proposal is not credited then."""
        self.job.applied(values)

    def report(
        self, episode_returns: Sequence[float], *, env_step: int, phase_return: float
    ) -> None:
        """Hand the returns over; they are credited to the proposals made before."""
        self._env_step = env_step
        self.job.report(episode_returns, env_step=env_step, phase_return=phase_return)

    def finish(self, *, failed: bool = False) -> None:
        """End the job: failed if training failed, completed if all env steps were taken."""
        complete = self._env_step >= self._total_env_steps
        self.job.finish("failed" if failed else "completed" if complete else "interrupted")


def _check_space(space: Space, settings: TrainerSettings) -> None:
    names = [name for name, each in space.items() if isinstance(each, Categorical)]
    unknown = sorted(set(space) - set(settings.schedulable()))
    if unknown:
        raise SettingsError(
            "space: "
            + expected_one_of(settings.schedulable(), unknown[0], "hyperparameters")
            + "; rename or remove it"
        )
    if names:
        raise SettingsError(
            f"space: expected numbers for {', '.join(names)}, got names; use Choice or Scale"
        )


def _with_moment_of_effect(
    name: str, hyperparameter: Float | Int | Choice | Categorical | Scale
) -> Float | Int | Choice | Categorical | Scale:
    """Say when the trainer uses a new value, unless the space says so itself."""
    if hyperparameter.takes_effect is not None:
        return hyperparameter
    return hyperparameter.model_copy(
        update={"takes_effect": HYPERPARAMETERS[name].takes_effect.value}
    )
