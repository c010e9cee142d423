"""A callback for Stable-Baselines3: the oracle chooses before each of PPO's or A2C's updates.

It works for on-policy algorithms. A hyperparameter that Stable-Baselines3 keeps as a schedule
(`learning_rate`, `clip_range`) is chosen by replacing the schedule; any other attribute of the
algorithm (`ent_coef`, `vf_coef`, `n_epochs`, `max_grad_norm`, `gamma`, ...) by setting it. A
relative one (`Scale`) multiplies what the algorithm was made with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import (  # pyright: ignore[reportMissingImports]  # optional
    BaseCallback,
)

from hyperoracle_client.decision import Hyperparameters
from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_client.job import Job
from hyperoracle_client.oracle import Oracle
from hyperoracle_protocol.space import Scale

_SCHEDULES = {"learning_rate": "lr_schedule", "clip_range": "clip_range"}
_SIGNALS = {
    "train/approx_kl": "approx_kl",
    "train/clip_fraction": "clip_fraction",
    "train/explained_variance": "explained_variance",
}

Schedule = Callable[[float], float]


class OracleCallback(BaseCallback):  # type: ignore[misc, unused-ignore]  # Any where it is not installed
    """Reports each rollout's episodes and applies the oracle's choice to the update after it.

    Example:
        model = PPO("MlpPolicy", "CartPole-v1")
        model.learn(100_000, callback=OracleCallback(oracle, study="cartpole", space=space))
    """

    def __init__(self, oracle: Oracle, *, study: str, space: dict[str, Any], **arguments: Any):
        """Make a callback for one call of `learn`.

        Args:
            oracle: where to ask.
            study: see `Oracle.start_job`.
            space: hyperparameters by the names that the algorithm has for them.
            arguments: any other argument of `Oracle.start_job` but `model` and
                `total_env_steps`.
        """
        super().__init__()
        self._oracle = oracle
        self._study = study
        self._space = space
        self._arguments = arguments
        self._base: dict[str, Any] = {}
        self._returns: list[float] = []
        self.job: Job | None = None

    def _on_training_start(self) -> None:
        algorithm: Any = self.model
        for name in self._space:
            attribute = _SCHEDULES.get(name, name)
            if not hasattr(algorithm, attribute):
                raise OracleMisconfigured(
                    f"expected a hyperparameter of {type(algorithm).__name__}, got {name!r}"
                )
            self._base[name] = getattr(algorithm, attribute)
        self.job = self._oracle.start_job(
            study=self._study,
            space=self._space,
            model=algorithm.policy,
            total_env_steps=self.locals["total_timesteps"],
            **self._arguments,
        )

    def _on_step(self) -> bool:
        for info in self.locals.get("infos", ()):
            if "episode" in info:
                self._returns.append(info["episode"]["r"])
        return True

    def _on_rollout_end(self) -> None:
        assert self.job is not None
        self.job.report(self._returns, env_step=self.num_timesteps)
        self._returns = []
        logged = self.logger.name_to_value
        signals = {ours: logged[theirs] for theirs, ours in _SIGNALS.items() if theirs in logged}
        self._apply(self.job.propose(env_step=self.num_timesteps, signals=signals))

    def _on_training_end(self) -> None:
        assert self.job is not None
        self.job.finish()

    def _apply(self, values: Hyperparameters) -> None:
        for name, value in values.items():
            base = self._base[name]
            relative = isinstance(self._space[name], Scale)
            if name in _SCHEDULES:
                chosen: Any = _scaled(base, value) if relative else _constant(value)
            else:
                chosen = base * value if relative else value
            setattr(self.model, _SCHEDULES.get(name, name), chosen)


def _scaled(base: Schedule, factor: float) -> Schedule:
    return lambda progress_remaining: base(progress_remaining) * factor


def _constant(value: float) -> Schedule:
    return lambda _: value
