"""Advantage actor-critic, the synchronous form of A3C.

Source: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (ICML 2016).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hyperoracle_trainers.actor_critic_update import ActorCriticTrainer
from hyperoracle_trainers.optimisation import RMSprop
from hyperoracle_trainers.settings import A2CSettings


class A2C(ActorCriticTrainer[A2CSettings]):
    """Collect a short rollout with today's policy, then take one gradient step on it.

    Args:
        settings: what the run is made from.
    """

    step_metrics = ("grad_norm",)

    def __init__(self, settings: A2CSettings) -> None:
        self._rmsprop = RMSprop(settings.rmsprop_alpha, settings.rmsprop_epsilon, settings.momentum)
        super().__init__(settings, self._rmsprop)

    def _descend(
        self,
        observations: Tensor,  # noqa: ARG002 # K-FAC needs them
        chosen: Mapping[str, float],
    ) -> dict[str, float]:
        self._rmsprop.alpha = chosen["rmsprop_alpha"]
        self._rmsprop.momentum = chosen["momentum"]
        grad_norm = self._optimiser.descend(
            learning_rate=chosen["learning_rate"], max_grad_norm=chosen["max_grad_norm"]
        )
        return {"grad_norm": grad_norm}
