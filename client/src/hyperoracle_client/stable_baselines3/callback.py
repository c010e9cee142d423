"""A callback for Stable-Baselines3: the oracle chooses before each of PPO's or A2C's updates.

It works for on-policy algorithms, and for the hyperparameters of
`sb3_hyperparameters.SCHEDULABLE`. What is chosen is in force during the update that it was chosen
for, and only then: at any other moment, in checkpoints and after `learn`, however it ends, the
algorithm has its own values. A relative one (`Scale`) multiplies the algorithm's own value or
schedule at that moment. `gamma` and `gae_lambda` make the advantages of the rollout that the update
learns from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import ValidationError
from stable_baselines3.common.callbacks import (  # pyright: ignore[reportMissingImports]  # optional
    BaseCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.on_policy_algorithm import (  # pyright: ignore[reportMissingImports]
    OnPolicyAlgorithm,
)

from hyperoracle_client.errors import OracleMisconfigured, one_line
from hyperoracle_client.job.job import Job
from hyperoracle_client.oracle import Oracle
from hyperoracle_client.stable_baselines3.hyperparameters import OnPolicyHyperparameters
from hyperoracle_client.stable_baselines3.learning import release, watch, watcher_of
from hyperoracle_protocol.jobs import FinishReason
from hyperoracle_protocol.space import Hyperparameter, search_space_adapter

if TYPE_CHECKING:
    from hyperoracle_client.job.decision import Hyperparameters

_SIGNALS = {
    "train/approx_kl": "approx_kl",
    "train/clip_fraction": "clip_fraction",
    "train/explained_variance": "explained_variance",
}
_OF_EPISODES = ("last_episodes", "phase_episodes")
_NO_MONITOR = (
    "an episode ended, and the environment does not say what it returned: no return reaches the "
    "study; wrap each environment in stable_baselines3.common.monitor.Monitor (make_vec_env does) "
    "or the vectorised one in VecMonitor"
)


class _Cut(NamedTuple):
    """A step at which a time limit cut an episode: gamma times a value was added to its reward."""

    step: int
    env: int
    reward: float


class OracleCallback(BaseCallback):  # type: ignore[misc, unused-ignore]  # Any where it is not installed
    """Reports each rollout's episodes and applies the oracle's choice to the update after it.

    The job ends with `learn`: `completed` at its planned end, `reached` where
    `StopTrainingOnRewardThreshold` stopped it, `interrupted` where another callback, Ctrl-C or
    `SystemExit` did, `failed` by any other exception.

    Example:
        model = PPO("MlpPolicy", "CartPole-v1")
        model.learn(100_000, callback=OracleCallback(oracle, study="cartpole", space=space))
    """

    def __init__(
        self,
        oracle: Oracle,
        *,
        study: str,
        space: Mapping[str, Hyperparameter | Mapping[str, Any]],
        **arguments: Any,
    ) -> None:
        """Make a callback for calls of `learn`, each of which is a job.

        Args:
            oracle: where to ask.
            study: see `Oracle.start_job`.
            space: hyperparameters by the names that the algorithm has for them.
            arguments: any other argument of `Oracle.start_job` but `model` and
                `total_env_steps`.

        Raises:
            OracleMisconfigured: what is no search space, or returns that are not of episodes.
        """
        super().__init__()
        try:
            self._space = search_space_adapter.validate_python(dict(space))
        except ValidationError as error:
            raise OracleMisconfigured(one_line(error)) from None
        _check_returns(arguments.get("returns"))
        self._oracle = oracle
        self._study = study
        self._arguments = arguments
        self._hyperparameters: OnPolicyHyperparameters | None = None
        self._chosen: Hyperparameters | None = None
        self._returns: list[float] = []
        self._cuts: list[_Cut] = []
        self._total = 0
        self._reported_at = 0
        self.job: Job | None = None

    def _on_training_start(self) -> None:
        """Refuse what cannot be chosen, start a job, and stand in `learn`.

        Raises:
            OracleMisconfigured: naming what cannot be chosen.
            OracleError: see `Oracle.start_job`.
        """
        algorithm: Any = self.model
        self._leave_what_an_earlier_learn_left()
        if not isinstance(algorithm, OnPolicyAlgorithm):
            raise OracleMisconfigured(
                f"expected an on-policy algorithm (PPO, A2C, ...), got {type(algorithm).__name__}, "
                "whose updates do not follow rollouts"
            )
        self._hyperparameters = OnPolicyHyperparameters(algorithm, self._space)
        self._chosen, self._returns, self._cuts = None, [], []
        self._total = self.locals["total_timesteps"]
        self._reported_at = self.num_timesteps
        self.job = self._oracle.start_job(
            study=self._study,
            space=self._space,
            model=algorithm.policy,
            total_env_steps=self._total,
            **self._arguments,
        )
        watch(algorithm, self)

    def _leave_what_an_earlier_learn_left(self) -> None:
        """Another callback's error at the start of an earlier `learn` may have left a watcher."""
        watcher = watcher_of(self.model)
        if watcher is None:
            return
        if watcher.locals is self.locals:
            raise OracleMisconfigured(
                "expected one OracleCallback in a call of learn, got two: put what both choose "
                "into one space"
            )
        release(self.model)
        watcher.end("interrupted")

    # -- a rollout -----------------------------------------------------------------------------

    def _on_step(self) -> bool:
        assert self.job is not None
        algorithm: Any = self.model
        for env in np.flatnonzero(self.locals["dones"]).tolist():
            info = self.locals["infos"][env]
            if "episode" in info:
                self._returns.append(np.asarray(info["episode"]["r"]).item())
            else:
                self.job.notices.tell("no_episode_returns", _NO_MONITOR)
            if info.get("TimeLimit.truncated", False) and "terminal_observation" in info:
                step = algorithm.rollout_buffer.pos
                self._cuts.append(_Cut(step, env, float(self.locals["rewards"][env])))
        return True

    def _on_rollout_end(self) -> None:
        assert self.job is not None
        assert self._hyperparameters is not None
        self._report()
        logged = self.logger.name_to_value
        signals = {ours: logged[theirs] for theirs, ours in _SIGNALS.items() if theirs in logged}
        remaining = 1.0 - self.num_timesteps / self._total
        self._chosen = self.job.propose(
            env_step=self.num_timesteps,
            signals=signals,
            base_values=self._hyperparameters.own_numbers(remaining),
        )
        if self._hyperparameters.chooses_advantages():
            self._make_advantages(self._chosen)
        self._cuts = []

    def _report(self) -> None:
        assert self.job is not None
        self.job.report(self._returns, env_step=self.num_timesteps)
        self._returns, self._reported_at = [], self.num_timesteps

    def _make_advantages(self, chosen: Hyperparameters) -> None:
        """Make the rollout's advantages and value targets anew, with the chosen values.

        Where a time limit cut an episode, the algorithm has added gamma times the value of what
        would have followed to the reward, with its own gamma.
        """
        assert self._hyperparameters is not None
        algorithm: Any = self.model
        buffer, own_gamma = algorithm.rollout_buffer, algorithm.gamma
        with self._hyperparameters.in_force(chosen):
            for step, env, reward in self._cuts:
                value = (buffer.rewards[step, env] - reward) / own_gamma
                buffer.rewards[step, env] = reward + algorithm.gamma * value
            buffer.compute_returns_and_advantage(
                last_values=self.locals["values"], dones=self.locals["dones"]
            )

    # -- an update -----------------------------------------------------------------------------

    def update(self, train: Callable[[], None]) -> None:
        """Do an update with what was chosen for it, and tell the job what was used."""
        assert self.job is not None
        assert self._hyperparameters is not None
        chosen, self._chosen = self._chosen, None
        own = self._hyperparameters.own()
        with self._hyperparameters.in_force(chosen or {}):
            train()
            used = self._hyperparameters.used(own)
        if chosen is not None:
            self.job.applied(used)

    # -- the end -------------------------------------------------------------------------------

    def _on_training_end(self) -> None:
        release(self.model)
        if self.num_timesteps >= self._total:
            self.end("completed")
        else:  # a callback stopped it
            self.end("reached" if self._is_good_enough() else "interrupted")

    def broke(self, error: BaseException) -> None:
        """`learn` ends by this error: give the algorithm back and tell the oracle why."""
        release(self.model)
        with contextlib.suppress(Exception):  # the error that broke it is the one to see
            self.end("failed" if isinstance(error, Exception) else "interrupted")

    def end(self, reason: FinishReason) -> None:
        """Report what the last phase brought so far, and finish the job."""
        assert self.job is not None
        if not self.job.is_finished:
            if self._returns and self.num_timesteps > self._reported_at:
                self._report()
            self.job.finish(reason)

    def _is_good_enough(self) -> bool:
        """Whether a callback may have stopped training because its threshold was reached."""
        return any(
            isinstance(each, StopTrainingOnRewardThreshold)
            and each.parent is not None
            and each.parent.best_mean_reward >= each.reward_threshold
            for each in _with_children(self.locals.get("callback"))
        )


def _with_children(callback: Any) -> Iterator[Any]:
    """A callback and those that it calls."""
    if callback is None:
        return
    yield callback
    inner = [getattr(callback, name, None) for name in ("callback", "callback_on_new_best")]
    for each in [*getattr(callback, "callbacks", ()), *inner]:
        yield from _with_children(each)


def _check_returns(returns: Any) -> None:
    kind = returns
    if isinstance(returns, Mapping):
        kind = returns.get("kind", _OF_EPISODES[0])
    elif returns is not None and not isinstance(returns, str):
        kind = returns.kind
    if kind not in (None, *_OF_EPISODES):
        raise OracleMisconfigured(
            f"expected returns of episodes ({' or '.join(_OF_EPISODES)}), which are what this "
            f"callback reports, got {kind!r}"
        )
