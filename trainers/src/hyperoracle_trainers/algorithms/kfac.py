"""K-FAC: descent along the natural gradient, within a trust region.

Every ``statistics_period`` updates the caller shows what its layers see::

    with kfac.recording() as recording:
        outputs = network(observations)
    kfac.observe(recording, log_likelihood_of_sampled_outcomes(outputs).sum())

and every update takes a step. With the loss's gradient ∇ + weight_decay × θ and the running,
damped Fisher matrix F, each trust region's parameters move by the natural gradient F⁻¹∇ times a
length η of at most ``step_size`` (see :func:`~hyperoracle_trainers.algorithms.kronecker_factors.
trust_region_step`); momentum averages these steps over the updates; the learning rate scales the
average.

Source:
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature"
    (ICML 2015); Wu et al., "Scalable trust-region method for deep reinforcement learning using
    Kronecker-factored approximation" (NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hyperoracle_trainers.algorithms.kronecker_factors import (
    Factors,
    InvertibleFactors,
    Layer,
    check_layer,
    factors_of,
    trust_region_step,
)
from hyperoracle_trainers.saved_state import State


@dataclass(frozen=True, kw_only=True)
class KfacHyperparameters:
    """What decides a step; see the hyperparameters of the same names for their meaning."""

    kl_clip: float
    step_size: float
    damping: float
    momentum: float
    weight_decay: float
    statistics_period: int
    inversion_period: int

    @classmethod
    def among(cls, values: Mapping[str, float]) -> KfacHyperparameters:
        """Return those that are among ``values``, which has others too."""
        chosen: dict[str, Any] = {each.name: values[each.name] for each in fields(cls)}
        for name in ("statistics_period", "inversion_period"):
            chosen[name] = int(chosen[name])
        return cls(**chosen)


@dataclass
class Recording:
    """What layers were called with and what they returned.

    Attributes:
        calls: inputs and outputs by layer.
    """

    calls: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Kfac:
    """A descent rule for modules whose parameters are in linear and convolutional layers.

    Parameters in no such layer need an exact Fisher value of their own. Layers are taken to be
    independent of each other (block-diagonal Fisher), each is called once per forward pass, and
    outcomes are drawn from the model, not from the data.

    Args:
        statistics_decay: decay of the running mean of the factors, within [0, 1).

    Attributes:
        hyperparameters: of the next step; set them before it.
        predicted_kl: KL divergence of the last step by its trust regions, in nats, as the damped
            Fisher matrix foresees it: ½ η² ∇ᵀF⁻¹∇, before momentum and learning rate.
    """

    hyperparameters: KfacHyperparameters
    predicted_kl: tuple[float, ...] = ()

    def __init__(self, statistics_decay: float) -> None:
        self._decay = statistics_decay
        self._regions: list[list[_Block]] = []
        self._layers: dict[nn.Module, _LayerBlock] = {}
        self._batches = 0
        self._since_statistics: int | None = None
        self._since_inversion: int | None = None
        self._velocity: Tensor | None = None

    def watch(
        self,
        module: nn.Module,
        regions: Sequence[Sequence[str]],
        exact_fisher: Mapping[str, float] | None = None,
    ) -> None:
        """Say what is to be trained; call it once, before the first step.

        Args:
            module: the flat vectors of :meth:`step` hold its parameters one after another.
            regions: trust regions: each a list of submodules whose parameters share one. Trunks
                that share no weights have one each, so that the error of one does not shorten the
                steps of the other; a shared trunk and its heads are one.
            exact_fisher: by name of a parameter in no layer, the diagonal of its Fisher matrix.

        Raises:
            ValueError: a parameter in no region, in no layer or of a layer that is not supported.
        """
        blocks = _blocks_of(module, exact_fisher or {})
        for names in regions:
            self._regions.append(
                [
                    blocks.pop(name)
                    for name in list(blocks)
                    if any(name == each or name.startswith(f"{each}.") for each in names)
                ]
            )
        if blocks:
            raise ValueError(
                f"{', '.join(blocks)}: expected each in a trust region, got regions {regions}; "
                "add them to one"
            )
        everything = (block for region in self._regions for block in region)
        self._layers = {each.layer: each for each in everything if isinstance(each, _LayerBlock)}

    @property
    def wants_statistics(self) -> bool:
        """Whether the next update is one that statistics are due at."""
        since = self._since_statistics
        return since is None or since >= self.hyperparameters.statistics_period

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """Record the forward pass that is made inside."""
        recording = Recording()

        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            recording.calls[layer] = inputs[0].detach(), output

        hooks = [layer.register_forward_hook(record) for layer in self._layers]
        try:
            yield recording
        finally:
            for hook in hooks:
                hook.remove()

    def observe(self, recording: Recording, log_likelihood: Tensor) -> None:
        """Take a batch into the running factors.

        The k-th batch enters with weight max(1 / k, 1 − decay): a plain mean of all batches until
        the running mean is long enough, so that the first ones do not linger.

        Args:
            recording: of the forward pass that ``log_likelihood`` was computed from.
            log_likelihood: of outcomes drawn from the model, a scalar: the sum over the batch.

        Source:
            Martens and Grosse (2015), §5.
        """
        outputs = [output for _, output in recording.calls.values()]
        gradients = torch.autograd.grad(log_likelihood, outputs)
        self._batches += 1
        decay = min(self._decay, 1.0 - 1.0 / self._batches)
        for (layer, (inputs, _)), gradient in zip(recording.calls.items(), gradients, strict=True):
            self._layers[layer].observe(inputs, gradient, decay)
        self._since_statistics = 0

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Change ``parameters`` [n] in place, given their gradient [n]."""
        chosen = self.hyperparameters
        if self._since_statistics is None:
            raise RuntimeError("expected statistics before the first step, got none; observe first")
        if self._since_inversion is None or self._since_inversion >= chosen.inversion_period:
            for block in self._layers.values():
                block.invert()
            self._since_inversion = 0
        self._since_statistics += 1
        self._since_inversion += 1

        gradient = gradient.add(parameters, alpha=chosen.weight_decay)
        direction = self._trust_region_steps(gradient)
        if self._velocity is None:
            self._velocity = torch.zeros_like(direction)
        self._velocity.lerp_(direction, 1.0 - chosen.momentum)
        parameters.add_(self._velocity, alpha=-learning_rate)

    def state(self) -> State:
        """Return the running factors, their inverses, the momentum and what is due when."""
        return {
            "batches": self._batches,
            "since_statistics": self._since_statistics,
            "since_inversion": self._since_inversion,
            "velocity": self._velocity,
            "layers": [block.state() for block in self._layers.values()],
        }

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken; watch the module first."""
        self._batches = state["batches"]
        self._since_statistics = state["since_statistics"]
        self._since_inversion = state["since_inversion"]
        self._velocity = state["velocity"]
        for block, of_block in zip(self._layers.values(), state["layers"], strict=True):
            block.restore(of_block)

    def _trust_region_steps(self, gradient: Tensor) -> Tensor:
        """Return η F⁻¹∇ [n], with one η for each trust region."""
        chosen = self.hyperparameters
        direction = torch.empty_like(gradient)
        predicted = []
        for region in self._regions:
            decrease = 0.0
            for block in region:
                natural = block.natural(gradient[block.where], chosen.damping)
                direction[block.where] = natural
                decrease += float(gradient[block.where] @ natural)
            length = trust_region_step(decrease, chosen.step_size, chosen.kl_clip)
            for block in region:
                direction[block.where] *= length
            predicted.append(0.5 * length**2 * decrease)
        self.predicted_kl = tuple(predicted)
        return direction


class _Block(Protocol):
    """Parameters that are taken to be independent of all others.

    Attributes:
        where: their place in the flat vector.
    """

    where: slice

    def natural(self, gradient: Tensor, damping: float) -> Tensor:
        """Return the natural gradient [n] for a gradient [n]."""
        ...


class _LayerBlock:
    """A layer, its running factors, and their inverse as of the last inversion."""

    def __init__(self, layer: Layer, where: slice) -> None:
        self.layer = layer
        self.where = where
        self._factors: Factors | None = None
        self._inverse: InvertibleFactors | None = None

    def observe(self, inputs: Tensor, gradients: Tensor, decay: float) -> None:
        new = factors_of(self.layer, inputs, gradients)
        self._factors = new if self._factors is None else self._factors.averaged_with(new, decay)

    def invert(self) -> None:
        assert self._factors is not None, "observed before"
        self._inverse = InvertibleFactors.of(self._factors)

    def state(self) -> State:
        return {
            "factors": None if self._factors is None else vars(self._factors),
            "inverse": None if self._inverse is None else vars(self._inverse),
        }

    def restore(self, state: State) -> None:
        factors, inverse = state["factors"], state["inverse"]
        self._factors = None if factors is None else Factors(**factors)
        self._inverse = None if inverse is None else InvertibleFactors(**inverse)

    def natural(self, gradient: Tensor, damping: float) -> Tensor:
        assert self._inverse is not None, "inverted before"
        weight = self.layer.weight
        size, outputs = weight.numel(), len(weight)
        matrix = gradient[:size].view(outputs, -1)
        if self.layer.bias is None:
            return self._inverse.precondition(matrix, damping).flatten()
        matrix = torch.cat([matrix, gradient[size:].view(outputs, 1)], dim=1)
        natural = self._inverse.precondition(matrix, damping)
        return torch.cat([natural[:, :-1].flatten(), natural[:, -1]])


class _ExactBlock:
    """Independent parameters of equal, known Fisher information."""

    def __init__(self, fisher: float, where: slice) -> None:
        self.where = where
        self._fisher = fisher

    def natural(self, gradient: Tensor, damping: float) -> Tensor:
        return gradient / (self._fisher + damping)


def _blocks_of(module: nn.Module, exact_fisher: Mapping[str, float]) -> dict[str, _Block]:
    """Return the blocks by name of their layer or parameter, in the order of the parameters."""
    layers = dict(module.named_modules())
    sizes: dict[str, int] = {}  # a layer's weight and bias follow one another
    for name, parameter in module.named_parameters():
        owner = name.rpartition(".")[0]
        block = owner if isinstance(layers[owner], Layer) else name
        sizes[block] = sizes.get(block, 0) + parameter.numel()
    blocks: dict[str, _Block] = {}
    start = 0
    for name, size in sizes.items():
        where = slice(start, start + size)
        start += size
        layer = layers.get(name)
        if isinstance(layer, Layer):
            check_layer(name, layer)
            blocks[name] = _LayerBlock(layer, where)
        elif name in exact_fisher:
            blocks[name] = _ExactBlock(exact_fisher[name], where)
        else:
            raise ValueError(
                f"{name}: expected a parameter of a linear or convolutional layer or one whose "
                "exact Fisher value is given, got neither; give it"
            )
    return blocks
