"""The Fisher matrix of one layer as a Kronecker product: its factors, their inverse, the damping.

A layer's parameters are one matrix W̄ [outputs, inputs + 1], the bias its last column; ∇ is the
loss's gradient with respect to it. The layer's Fisher matrix, over the rows of W̄ one after
another, is taken to be G ⊗ A with A = E[ā āᵀ] of the inputs ā = (a, 1) and G = E[g gᵀ] of the
log-likelihood's gradients g with respect to the outputs, where outcomes are drawn from the model.

Source:
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature"
    (ICML 2015), §3, for linear layers; Grosse and Martens, "A Kronecker-factored approximate Fisher
    matrix for convolution layers" (ICML 2016), §3.1, for convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Layer = nn.Linear | nn.Conv2d
"""The layers whose Fisher matrix is factored."""

_IMAGES_AT_ONCE = 128  # patches of a whole Atari batch would take gigabytes


@dataclass(frozen=True)
class Factors:
    """The two factors of a layer's Fisher matrix.

    Attributes:
        inputs: A [inputs (+ 1), inputs (+ 1)], the last for the bias if there is one.
        outputs: G [outputs, outputs].
    """

    inputs: Tensor
    outputs: Tensor

    def averaged_with(self, new: Factors, decay: float) -> Factors:
        """Return ``decay`` × these + (1 − ``decay``) × new ones."""
        return Factors(
            torch.lerp(new.inputs, self.inputs, decay),
            torch.lerp(new.outputs, self.outputs, decay),
        )


def factors_of(layer: Layer, inputs: Tensor, gradients: Tensor) -> Factors:
    """Return the factors that one batch gives.

    Args:
        layer: linear or convolutional.
        inputs: what it was called with [batch, inputs] or [batch, channels, height, width].
        gradients: of each example's own log-likelihood with respect to the layer's outputs, in
            their shape: [batch, outputs] or [batch, channels, height, width].

    Returns:
        Means over the batch. For a convolution A is summed and G averaged over the output's
        positions, A of the patches under the kernel: derivatives at different positions are taken
        to be uncorrelated.
    """
    if isinstance(layer, nn.Conv2d):
        parts = torch.split(inputs, _IMAGES_AT_ONCE)
        input_factor = _second_moment(layer, _patches(layer, parts[0]))
        for part in parts[1:]:
            input_factor += _second_moment(layer, _patches(layer, part))
        gradients = gradients.flatten(2).transpose(1, 2).flatten(0, 1)
    else:
        input_factor = _second_moment(layer, inputs)
    return Factors(input_factor / len(inputs), gradients.T @ gradients / len(gradients))


def _patches(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """Return what lies under the kernel [images × positions, channels × kernel area]."""
    patches = functional.unfold(
        images, layer.kernel_size, layer.dilation, _padding(layer), layer.stride
    )  # [images, channels × kernel area, positions]
    return patches.transpose(1, 2).flatten(0, 1)


def _second_moment(layer: Layer, examples: Tensor) -> Tensor:
    """Return the sum of ā āᵀ over examples a [examples, inputs]."""
    if layer.bias is not None:
        examples = torch.cat([examples, examples.new_ones(len(examples), 1)], dim=1)
    return examples.T @ examples


@dataclass(frozen=True)
class InvertibleFactors:
    """A layer's factors by their eigenvalues and eigenvectors, so that any damping is cheap.

    Attributes:
        input_values: of A, not negative; so are the next.
        input_vectors: of A, in columns.
        output_values: of G.
        output_vectors: of G, in columns.
    """

    input_values: Tensor
    input_vectors: Tensor
    output_values: Tensor
    output_vectors: Tensor

    @classmethod
    def of(cls, factors: Factors) -> InvertibleFactors:
        """Decompose both factors; factors that are not finite give results that are not."""
        return cls(*_eigen(factors.inputs), *_eigen(factors.outputs))

    def precondition(self, gradient: Tensor, damping: float) -> Tensor:
        """Return the natural gradient: (G ⊗ A + λI)⁻¹ ∇ for damping λ > 0, nothing approximated.

        In the basis of the factors' eigenvectors the damped matrix is diagonal, with the products
        of their eigenvalues plus λ.

        Args:
            gradient: ∇ [outputs, inputs (+ 1)].
            damping: λ.
        """
        rotated = self.output_vectors.T @ gradient @ self.input_vectors
        rotated /= torch.outer(self.output_values, self.input_values) + damping
        return self.output_vectors @ rotated @ self.input_vectors.T


def trust_region_step(decrease: float, step_size: float, kl_clip: float) -> float:
    """Return the step's length η, the largest up to ``step_size`` that the trust region allows.

    A step of −η F⁻¹∇ changes the model by a KL divergence of about ½ η² ∇ᵀF⁻¹∇. It is at most δ if
    η ≤ √(2δ / ∇ᵀF⁻¹∇).

    Args:
        decrease: ∇ᵀF⁻¹∇, not negative.
        step_size: the greatest length.
        kl_clip: δ, in nats.

    Source:
        Wu et al., "Scalable trust-region method for deep reinforcement learning using
        Kronecker-factored approximation" (NeurIPS 2017), §3.2.
    """
    if decrease == 0.0:
        return step_size
    return min(step_size, math.sqrt(2.0 * kl_clip / decrease))


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    if not torch.isfinite(matrix).all():  # the decomposition would raise an error of its own
        return torch.full_like(matrix[0], math.nan), matrix
    # In single precision LAPACK has been seen to answer NaN for a large matrix with zero rows (of
    # units that were never active). A ridge of a few units in the last place prevents it.
    ridge = 8.0 * torch.finfo(matrix.dtype).eps * float(matrix.diagonal().mean())
    values, vectors = torch.linalg.eigh(matrix + ridge * torch.eye(len(matrix)).to(matrix))
    return values.sub_(ridge).clamp_(min=0.0), vectors


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding; a convolution that :func:`check_layer` refuses has none."""
    assert not isinstance(layer.padding, str)
    return layer.padding


def check_layer(name: str, layer: Layer) -> None:
    """Check that a layer's Fisher matrix has these factors.

    Raises:
        ValueError: a convolution in groups, or with a padding that is not zeros of a given width.
    """
    if isinstance(layer, nn.Conv2d) and (
        layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    ):
        raise ValueError(
            f"{name}: expected a convolution of one group with zero padding given in numbers, "
            f"got {layer}; change the layer"
        )
