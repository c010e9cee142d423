from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hyperoracle_trainers.algorithms.optimisers import Adam, DescentRule, Optimiser, RMSprop


def _module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def _loss(module: nn.Module, update: int) -> torch.Tensor:
    batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(update))
    return (module(batch) - 1.0).square().sum()


def _leave_gradient(module: nn.Module, update: int) -> None:
    module.zero_grad(set_to_none=False)
    _loss(module, update).backward()


@pytest.mark.parametrize(
    ("rule", "make_reference"),
    [
        (Adam(1e-5), lambda parameters: torch.optim.Adam(parameters, 1, eps=1e-5)),
        (Adam(1e-2), lambda parameters: torch.optim.Adam(parameters, 1, eps=1e-2)),
        (RMSprop(0.9, 1e-5), lambda parameters: torch.optim.RMSprop(parameters, 1, 0.9, 1e-5)),
        (RMSprop(0.99, 0.1), lambda parameters: torch.optim.RMSprop(parameters, 1, 0.99, 0.1)),
        # torch sums the steps where we average them
        (
            RMSprop(0.9, 1e-5, 0.75),
            lambda parameters: torch.optim.RMSprop(parameters, 0.25, 0.9, 1e-5, momentum=0.75),
        ),
    ],
)
@pytest.mark.parametrize("max_grad_norm", [0.5, 1e6])
def test_descends_as_torch_does_tensor_by_tensor(
    rule: DescentRule, make_reference: Callable[..., torch.optim.Optimizer], max_grad_norm: float
) -> None:
    ours, theirs = _module(), _module()
    optimiser = Optimiser(ours, copy.deepcopy(rule))
    reference = make_reference(theirs.parameters())
    for update in range(5):
        rate = 0.01 / (update + 1)
        _leave_gradient(ours, update)
        norm = optimiser.descend(learning_rate=rate, max_grad_norm=max_grad_norm)
        reference.zero_grad()
        _loss(theirs, update).backward()
        expected_norm = nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        reference.param_groups[0]["lr"] = rate * reference.defaults["lr"]
        reference.step()
        assert norm == pytest.approx(float(expected_norm), rel=1e-5)
        for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, expected)
            # torch shortens to max_grad_norm · norm / (norm + 1e-6)
            torch.testing.assert_close(mine.grad, expected.grad, atol=1e-6, rtol=1e-5)


def test_weights_that_are_loaded_are_the_ones_that_are_trained_on() -> None:
    module = _module()
    optimiser = Optimiser(module, RMSprop(0.99, 1e-5))
    saved = copy.deepcopy(module.state_dict())
    _leave_gradient(module, 0)
    optimiser.descend(learning_rate=0.1, max_grad_norm=1.0)
    assert not torch.equal(module[0].weight, saved["0.weight"])
    module.load_state_dict(saved)
    _leave_gradient(module, 0)
    optimiser.descend(learning_rate=0.0, max_grad_norm=1.0)
    for name, value in module.state_dict().items():
        assert torch.equal(value, saved[name])
