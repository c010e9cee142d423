"""How good is a policy? Whole episodes in an environment of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from statistics import fmean

import numpy as np

from hyperoracle_trainers.atari import game_of
from hyperoracle_trainers.envs import Environments, environments_of
from hyperoracle_trainers.episode_watch import EPISODE_ENV_STEPS
from hyperoracle_trainers.failures import EnvironmentFailed, are_numbers, no_number
from hyperoracle_trainers.networks import ActorCritic, actor_of
from hyperoracle_trainers.normalisation import ObservationNormaliser
from hyperoracle_trainers.settings import TrainerSettings
from hyperoracle_trainers.torch_threads import torch_threads

logger = logging.getLogger("hyperoracle_trainers")

_WATCHED_EVERY = 500  # env steps


def evaluate(
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    settings: TrainerSettings,
    *,
    episodes: int = 10,
    seed: int = 0,
    env_step_limit: int | None = None,
    watch: Callable[[int, int], object] | None = None,
) -> list[float]:
    """Return the raw undiscounted returns of ``episodes`` episodes, one after another.

    There are fewer of them if the limit was reached first: an episode that has not ended has no
    return. Neither the policy nor the normaliser, nor any random generator of training, is changed.

    Args:
        policy: acts by its most likely action; on Atari it draws its actions, because a policy
            without chance can wait for ever for a ball that it does not serve.
        observation_normaliser: applied as it is.
        settings: of the run; they say which environment, and how it is prepared.
        episodes: how many.
        seed: decides the episodes' beginnings and the draws.
        env_step_limit: env steps, of all episodes together, after which it ends anyway; None
            takes 30,000 an episode.
        watch: called now and then, and at the end, with the episodes that have ended and the env
            steps so far.

    Raises:
        EnvironmentFailed: the environment raised, or gave what is no number.
    """
    limit = default_limit(episodes) if env_step_limit is None else env_step_limit
    environment = environments_of(settings, 1, seed)
    player = Player(policy, observation_normaliser, settings, environment, seed)
    returns: list[float] = []
    episode_return, env_steps = 0.0, 0
    with torch_threads(settings.torch_threads), closing(environment):
        while len(returns) < episodes and env_steps < limit:
            episode_return += player.step()
            env_steps += 1
            if environment.final_observations:
                returns.append(episode_return)
                episode_return = 0.0
            if watch is not None and env_steps % _WATCHED_EVERY == 0:
                watch(len(returns), env_steps)
    if watch is not None and episodes:
        watch(len(returns), env_steps)
    if len(returns) < episodes:
        logger.warning("%s: %s", settings.env_id, unfinished(len(returns), episodes, env_steps))
    return returns


def default_limit(episodes: int) -> int:
    """Return the env steps after which an evaluation of so many episodes ends anyway."""
    return EPISODE_ENV_STEPS * episodes


def unfinished(ended: int, episodes: int, env_steps: int) -> str:
    """Return the sentence on an evaluation that came to its limit."""
    return (
        f"{ended} of {episodes} episodes of the evaluation ended within {env_steps:,} env steps; "
        "there is no mean of those that did, which are no fair sample"
    )


def mean_of(returns: Sequence[float], episodes: int) -> float | None:
    """Return the mean of an evaluation's returns; None unless all its episodes ended.

    Those that ended within a limit are the short ones, good or bad, and not a fair sample.
    """
    return fmean(returns) if returns and len(returns) == episodes else None


class Player:
    """Lets a policy act as it does in an evaluation.

    Args:
        policy: see :func:`evaluate`; so is all else.
        observation_normaliser: applied as it is.
        settings: of the run.
        environment: a batch of one.
        seed: decides the draws.
    """

    def __init__(
        self,
        policy: ActorCritic,
        observation_normaliser: ObservationNormaliser,
        settings: TrainerSettings,
        environment: Environments,
        seed: int,
    ) -> None:
        self._actor = actor_of(policy)
        self._observation_normaliser = observation_normaliser
        self._environment = environment
        self._env_steps = 0
        self._generator = np.random.default_rng(seed) if game_of(settings.env_id) else None

    def step(self) -> float:
        """Take one env step and return its raw reward.

        Raises:
            EnvironmentFailed: the environment raised, or gave what is no number.
        """
        environment, distribution = self._environment, self._actor.distribution
        observations = self._observation_normaliser.normalise(environment.observations)
        outputs = self._actor.outputs(observations)
        if self._generator is None:
            actions = distribution.most_likely(outputs)
        else:
            actions = distribution.sample(outputs, distribution.noise(self._generator, (1,)))
        try:
            environment.step(actions)
        except EnvironmentFailed as failure:
            raise failure.at(self._when()) from failure
        for what, given in (
            ("reward", environment.rewards),
            ("observation", environment.observations),
        ):
            if not are_numbers(given):
                raise no_number(0, what, given).at(self._when())
        self._env_steps += 1
        return float(environment.rewards[0])

    def _when(self) -> str:
        return f"step {self._env_steps + 1} of the evaluation"
