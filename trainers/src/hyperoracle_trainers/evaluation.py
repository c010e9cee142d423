"""How good is a policy? Whole episodes in an environment of its own."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from hyperoracle_trainers.atari import game_of
from hyperoracle_trainers.envs import Environments, environments_of
from hyperoracle_trainers.networks import ActorCritic, actor_of
from hyperoracle_trainers.normalisation import ObservationNormaliser
from hyperoracle_trainers.settings import TrainerSettings
from hyperoracle_trainers.torch_threads import torch_threads


def evaluate(
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    settings: TrainerSettings,
    *,
    episodes: int = 10,
    seed: int = 0,
) -> list[float]:
    """Return the raw undiscounted returns of ``episodes`` episodes, one after another.

    Neither the policy nor the normaliser, nor any random generator of training, is changed.

    Args:
        policy: acts by its most likely action; on Atari it draws its actions, because a policy
            without chance can wait for ever for a ball that it does not serve.
        observation_normaliser: applied as it is.
        settings: of the run; they say which environment, and how it is prepared.
        episodes: how many.
        seed: decides the episodes' beginnings and the draws.
    """
    environment = environments_of(settings, 1, seed)
    player = Player(policy, observation_normaliser, settings, environment, seed)
    returns: list[float] = []
    episode_return = 0.0
    with torch_threads(settings.torch_threads), closing(environment):
        while len(returns) < episodes:
            episode_return += player.step()
            if environment.final_observations:
                returns.append(episode_return)
                episode_return = 0.0
    return returns


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
        self._generator = np.random.default_rng(seed) if game_of(settings.env_id) else None

    def step(self) -> float:
        """Take one env step and return its raw reward."""
        environment, distribution = self._environment, self._actor.distribution
        observations = self._observation_normaliser.normalise(environment.observations)
        outputs = self._actor.outputs(observations)
        if self._generator is None:
            actions = distribution.most_likely(outputs)
        else:
            actions = distribution.sample(outputs, distribution.noise(self._generator, (1,)))
        environment.step(actions)
        return float(environment.rewards[0])
