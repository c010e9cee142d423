"""Actor-critic using Kronecker-factored trust region: A2C's loss, K-FAC's step.

Source: Wu et al., "Scalable trust-region method for deep reinforcement learning using
Kronecker-factored approximation" (NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from hyperoracle_trainers.algorithms.actor_critic import ActorCriticTrainer
from hyperoracle_trainers.algorithms.kfac import Kfac, KfacHyperparameters
from hyperoracle_trainers.hyperparameters.settings import ACKTRSettings

# The Fisher information of a normal distribution about the logarithm of its standard deviation.
_FISHER_OF_LOG_STD = 2.0


class ACKTR(ActorCriticTrainer[ACKTRSettings]):
    """Collect a short rollout with today's policy, then take one natural gradient step on it.

    Actor and critic have a trust region each, so that the error of one does not shorten the steps
    of the other; if they share a trunk, all have one.

    Args:
        settings: what the run is made from.
    """

    step_metrics = ("grad_norm", "predicted_kl")

    def __init__(self, settings: ACKTRSettings) -> None:
        self._kfac = Kfac(settings.statistics_decay)
        super().__init__(settings, self._kfac)
        continuous = hasattr(self.policy.distribution, "log_std")
        apart = (("actor", "distribution"), ("critic",))
        together = (("trunk", "actor", "distribution", "critic"),)
        self._kfac.watch(
            self.policy,
            regions=apart if self.policy.trunk is None else together,
            exact_fisher={"distribution.log_std": _FISHER_OF_LOG_STD} if continuous else {},
        )

    def _descend(self, observations: Tensor, chosen: Mapping[str, float]) -> dict[str, float]:
        self._kfac.hyperparameters = KfacHyperparameters.among(chosen)
        if self._kfac.wants_statistics:
            with self._kfac.recording() as recording:
                outputs, values = self.policy(observations)
            likelihood = self._log_likelihood(outputs, values, chosen["fisher_coefficient"])
            self._kfac.observe(recording, likelihood)
        grad_norm = self._optimiser.descend(
            learning_rate=chosen["learning_rate"], max_grad_norm=chosen["max_grad_norm"]
        )
        return {"grad_norm": grad_norm, "predicted_kl": self._kfac.predicted_kl[0]}

    def _log_likelihood(self, outputs: Tensor, values: Tensor, fisher_coefficient: float) -> Tensor:
        """Draw an action and a return per state from the model; sum their log-likelihoods.

        The critic is the model of a return that is normal around its value, with variance 1.

        Args:
            outputs: the actor's [batch, output_size].
            values: the critic's [batch].
            fisher_coefficient: weight of the returns' log-likelihood.

        Source:
            Wu et al. (2017), §3.1.
        """
        distribution, size = self.policy.distribution, len(values)
        action_noise = distribution.noise(self._generator, (size,))
        drawn = distribution.sample(outputs.detach().cpu().numpy(), action_noise)
        log_probs, _ = distribution.log_prob_and_entropy(outputs, self._tensor(drawn))
        noise = self._tensor(self._generator.standard_normal(size, dtype=np.float32))
        returns = values.detach() + noise
        return_log_likelihood = -0.5 * (returns - values).square()
        return log_probs.sum() + fisher_coefficient * return_log_likelihood.sum()
