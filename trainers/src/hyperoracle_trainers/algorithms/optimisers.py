"""Clipped gradient descent on all parameters of a module at once.

For networks this small an optimiser's time is not arithmetic but calls. Everything here works on
one flat vector that holds all parameters, so that an update is a handful of calls whatever the
number of tensors.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from hyperoracle_trainers.saved_state import State, Stateful, with_tensors


class DescentRule(Stateful, Protocol):
    """How a gradient becomes a step.

    Unlike elsewhere, what :meth:`restore` is given holds tensors, on the parameters' device.
    """

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Change ``parameters`` [n] in place, given their gradient [n]."""
        ...


class Adam:
    """Adam with bias correction.

    Args:
        epsilon: added to the denominator.

    Source:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), Algorithm 1.
    """

    _BETA_1, _BETA_2 = 0.9, 0.999

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._updates = 0
        self._mean: Tensor | None = None
        self._mean_square = torch.empty(0)

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Change ``parameters`` [n] in place, given their gradient [n]."""
        if self._mean is None:
            self._mean = torch.zeros_like(gradient)
            self._mean_square = torch.zeros_like(gradient)
        self._updates += 1
        self._mean.lerp_(gradient, 1.0 - self._BETA_1)
        self._mean_square.mul_(self._BETA_2).addcmul_(gradient, gradient, value=1.0 - self._BETA_2)
        mean_correction = 1.0 - self._BETA_1**self._updates
        square_correction = 1.0 - self._BETA_2**self._updates
        denominator = self._mean_square.sqrt().div_(square_correction**0.5).add_(self._epsilon)
        parameters.addcdiv_(self._mean, denominator, value=-learning_rate / mean_correction)

    def state(self) -> State:
        """Return the running means and how many updates they are of."""
        return {
            "updates": self._updates,
            "mean": self._mean,
            "mean_square": self._mean_square,
        }

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self._updates = state["updates"]
        self._mean = state["mean"]
        self._mean_square = state["mean_square"]


class RMSprop:
    """RMSprop; momentum averages its steps, so that their length does not depend on it.

    Args:
        alpha: see the attribute.
        epsilon: added to the denominator.
        momentum: see the attribute.

    Attributes:
        alpha: decay of the running mean of squared gradients, of the next step on.
        momentum: decay of the running mean of steps, of the next step on.

    Source:
        Hinton, Srivastava, Swersky, "Neural Networks for Machine Learning", lecture 6e (2012).
    """

    def __init__(self, alpha: float, epsilon: float, momentum: float = 0.0) -> None:
        self.alpha = alpha
        self.momentum = momentum
        self._epsilon = epsilon
        self._mean_square: Tensor | None = None
        self._mean_step = torch.empty(0)

    def step(self, parameters: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Change ``parameters`` [n] in place, given their gradient [n]."""
        if self._mean_square is None:
            self._mean_square = torch.zeros_like(gradient)
            self._mean_step = torch.zeros_like(gradient)
        self._mean_square.mul_(self.alpha).addcmul_(gradient, gradient, value=1.0 - self.alpha)
        denominator = self._mean_square.sqrt().add_(self._epsilon)
        step = torch.div(gradient, denominator, out=denominator)
        self._mean_step = step.lerp_(self._mean_step, self.momentum) if self.momentum else step
        parameters.add_(self._mean_step, alpha=-learning_rate)

    def state(self) -> State:
        """Return the running means."""
        return {"mean_square": self._mean_square, "mean_step": self._mean_step}

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self._mean_square = state["mean_square"]
        self._mean_step = state["mean_step"]


class Optimiser:
    """One descent rule on the flat vector of a module's parameters.

    The module keeps its parameters and gradients, as views of the vectors: ``named_parameters()``,
    ``state_dict()`` and ``load_state_dict()`` work as ever. Write a loss's gradient into the
    parameters' ``grad``, in place, then :meth:`descend`; they then hold it as it was clipped.

    Args:
        module: its parameters' memory is replaced; make NumPy views of it only afterwards.
        rule: how a gradient becomes a step.
    """

    def __init__(self, module: nn.Module, rule: DescentRule) -> None:
        self._rule = rule
        tensors = list(module.parameters())
        self._parameters = torch.cat([each.detach().flatten() for each in tensors])
        self._gradient = torch.zeros_like(self._parameters)
        start = 0
        for each in tensors:
            end = start + each.numel()
            each.data = self._parameters[start:end].view_as(each)
            each.grad = self._gradient[start:end].view_as(each)
            start = end

    def descend(self, *, learning_rate: float, max_grad_norm: float) -> float:
        """Take one step down the gradient in the parameters' ``grad``.

        Args:
            learning_rate: the step size.
            max_grad_norm: the gradient is shortened to this Euclidean norm if it is longer.

        Returns:
            The gradient's norm before it was shortened.
        """
        norm = float(torch.linalg.vector_norm(self._gradient))
        if norm > max_grad_norm:
            self._gradient.mul_(max_grad_norm / norm)
        self._rule.step(self._parameters, self._gradient, learning_rate)
        return norm

    def state(self) -> State:
        """Return the rule's state and the last gradient; the module has the parameters."""
        return {"rule": self._rule.state(), "gradient": self._gradient}

    def restore(self, state: State) -> None:
        """Go on where ``state`` was taken."""
        self._rule.restore(with_tensors(state["rule"], self._gradient.device))
        self._gradient.copy_(torch.from_numpy(state["gradient"]))
