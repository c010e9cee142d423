"""The variational autoencoder in torch; only training imports this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hyperoracle_server.keyed.encoder.architecture import Architecture
from hyperoracle_server.keyed.encoder.state import ADAM_FIRST, ADAM_SECOND, parameter_shapes

LOG_VARIANCE_LIMIT = 10.0
"""The posterior's log-variance is cut to ±this, so that no outlier overflows its exponential."""


@dataclass(frozen=True)
class Losses:
    """What a minibatch costs.

    Args:
        reconstruction: Squared error, mean over samples and features; 1 is no better than the
            mean of the features.
        kl: KL divergence of the posterior to the standard normal, nats per sample.
        keys: Mean of the latent, (samples, key size).
    """

    reconstruction: torch.Tensor
    kl: torch.Tensor
    keys: torch.Tensor

    def as_floats(self) -> tuple[float, float, float]:
        """Return reconstruction, KL, and the root mean square standard deviation of the keys."""
        deviation = self.keys.detach().var(dim=0, correction=0).mean().sqrt()
        return self.reconstruction.item(), self.kl.item(), deviation.item()


class VariationalAutoencoder:
    """C̃, encoder φ and decoder ω over standardised hyper-states.

    The decoder reconstructs the standardised features themselves, never C̃'s output: a learned
    target could be made easy by shrinking it to 0.

    Args:
        architecture: Of kind `vae`.
        arrays: The parameters, by the names of `parameter_shapes`; copied.

    Source: Le et al., AAAI 2022, Eq. 2 and the reconstruction error after it; Kingma and Welling,
    Auto-Encoding Variational Bayes, 2014.
    """

    def __init__(self, architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> None:
        self._architecture = architecture
        self.parameters = {
            name: torch.tensor(arrays[name], requires_grad=True)
            for name in parameter_shapes(architecture)
        }

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Return [s_m^n] = [vec(X_m^n C̃_m^n)], shape (samples, projected features)."""
        d = self._architecture.projected_width
        if d is None:
            return features
        samples, projection = len(features), self.parameters["projection"]
        projected = []
        first_column = first_feature = 0
        for rows, width in self._architecture.blocks:
            last_feature = first_feature + rows * width
            block = features[:, first_feature:last_feature].reshape(samples * rows, width)
            block_projection = projection[first_column : first_column + width]
            projected.append((block @ block_projection).reshape(samples, rows * d))
            first_column += width
            first_feature = last_feature
        return torch.cat(projected, dim=1)

    def encode(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of the latent, each (samples, key size); mean is the key."""
        p = self.parameters
        hidden = torch.relu(
            torch.addmm(p["hidden_bias"], self.project(features), p["hidden_weight"])
        )
        mean = torch.addmm(p["mean_bias"], hidden, p["mean_weight"])
        log_variance = torch.addmm(p["log_variance_bias"], hidden, p["log_variance_weight"])
        return mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction ω(z) of the standardised features, (samples, features)."""
        p = self.parameters
        hidden = torch.relu(
            torch.addmm(p["decoder_hidden_bias"], latent, p["decoder_hidden_weight"])
        )
        return torch.addmm(p["decoder_output_bias"], hidden, p["decoder_output_weight"])

    def losses(self, features: torch.Tensor, noise: torch.Tensor) -> Losses:
        """Return what a minibatch costs.

        Args:
            features: Standardised and clipped, (samples, features).
            noise: Standard normal, (samples, key size).
        """
        mean, log_variance = self.encode(features)
        latent = mean + noise * torch.exp(0.5 * log_variance)
        reconstruction = torch.nn.functional.mse_loss(self.decode(latent), features)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
        return Losses(reconstruction, divergence.sum(dim=1).mean(), mean)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters, by the names of the encoder's state."""
        return {name: value.detach().numpy() for name, value in self.parameters.items()}


class EncoderAdam:
    """Adam with a limit on the gradient's norm, its moments in the encoder's state.

    Written out because torch's own imports its compiler on first use, which costs seconds and
    some 85 MB.

    Args:
        parameters: What to change, in place.
        arrays: `adam_updates` and, under the two prefixes, the moments; copied.
        learning_rate: Adam's α; β1, β2 and ε are the usual 0.9, 0.999 and 1e-8.
        gradient_norm_limit: A longer gradient is scaled down to this norm.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, Algorithm 1.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        arrays: Mapping[str, np.ndarray],
        learning_rate: float,
        gradient_norm_limit: float,
    ) -> None:
        self._parameters = parameters
        self._learning_rate = learning_rate
        self._norm_limit = gradient_norm_limit
        self.updates = int(arrays["adam_updates"])
        self.first = {name: torch.tensor(arrays[ADAM_FIRST + name]) for name in parameters}
        self.second = {name: torch.tensor(arrays[ADAM_SECOND + name]) for name in parameters}
        self._scratch = {name: torch.empty_like(value) for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, loss: torch.Tensor) -> None:
        """Move the parameters against the gradient of the loss."""
        gradients = torch.autograd.grad(loss, list(self._parameters.values()))
        norm = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).norm()
        shrink = torch.clamp(self._norm_limit / (norm + 1e-6), max=1.0)
        self.updates += 1
        rate = self._learning_rate / (1.0 - 0.9**self.updates)
        second_correction = 1.0 / np.sqrt(1.0 - 0.999**self.updates)
        for (name, parameter), gradient in zip(self._parameters.items(), gradients, strict=True):
            gradient.mul_(shrink)
            self.first[name].lerp_(gradient, 0.1)
            self.second[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = torch.sqrt(self.second[name], out=self._scratch[name])
            scale.mul_(second_correction).add_(1e-8)
            parameter.addcdiv_(self.first[name], scale, value=-rate)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the moments and the count, by the names of the encoder's state."""
        arrays: dict[str, np.ndarray] = {"adam_updates": np.array(self.updates, np.int64)}
        for name in self._parameters:
            arrays[ADAM_FIRST + name] = self.first[name].numpy()
            arrays[ADAM_SECOND + name] = self.second[name].numpy()
        return arrays
