"""How good is a policy? Whole episodes of its most likely actions, in an environment of its own."""

from __future__ import annotations

from hyperoracle_trainers.envs import make_environments
from hyperoracle_trainers.networks import ActorCritic, RolloutActor
from hyperoracle_trainers.normalisation import ObservationNormaliser


def evaluate(
    policy: ActorCritic,
    observation_normaliser: ObservationNormaliser,
    env_id: str,
    *,
    episodes: int = 10,
    seed: int = 0,
) -> list[float]:
    """Return the raw undiscounted returns of ``episodes`` episodes, one after another.

    Neither the policy nor the normaliser, nor any random generator of training, is changed.

    Args:
        policy: acts by its most likely action.
        observation_normaliser: applied as it is.
        env_id: the environment that the policy was trained on.
        episodes: how many.
        seed: decides the episodes' beginnings.
    """
    actor = RolloutActor(policy)
    environment = make_environments(env_id, 1, seed)
    returns: list[float] = []
    episode_return = 0.0
    while len(returns) < episodes:
        observations = observation_normaliser.normalise(environment.observations)
        environment.step(actor.distribution.most_likely(actor.outputs(observations)))
        episode_return += float(environment.rewards[0])
        if environment.final_observations:
            returns.append(episode_return)
            episode_return = 0.0
    environment.close()
    return returns
