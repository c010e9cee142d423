"""Stable-Baselines3's hyperparameters: which can be chosen, where they lie, how they come and go.

What is chosen is in force during an update only. Between updates the algorithm has its own values,
so that a checkpoint, the end of `learn`, or an error in it leaves nothing behind, and a factor is
always one on the algorithm's own value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from hyperoracle_client.errors import OracleMisconfigured
from hyperoracle_protocol.names import expected_one_of
from hyperoracle_protocol.space import Categorical, Hyperparameter, Scale, Value

ProgressSchedule = Callable[[float], float]
"""From the progress that remains, 1 at the start and 0 at the end, to a value."""


@dataclass(frozen=True)
class Schedulable:
    """A hyperparameter that an update can be given.

    Attributes:
        kind: `schedule` where the algorithm keeps a function of the remaining progress.
        least: the least value that makes sense.
        greatest: the greatest.
        attribute: of the algorithm, where that is not the name.
    """

    kind: Literal["number", "whole", "truth", "schedule"]
    least: float = 0.0
    greatest: float = math.inf
    attribute: str | None = None


SCHEDULABLE = {
    "learning_rate": Schedulable("schedule", attribute="lr_schedule"),
    "clip_range": Schedulable("schedule"),
    "clip_range_vf": Schedulable("schedule"),
    "n_epochs": Schedulable("whole", least=1),
    "batch_size": Schedulable("whole", least=2),
    "gamma": Schedulable("number", greatest=1.0),
    "gae_lambda": Schedulable("number", greatest=1.0),
    "ent_coef": Schedulable("number", least=-math.inf),
    "vf_coef": Schedulable("number"),
    "max_grad_norm": Schedulable("number"),
    "target_kl": Schedulable("number"),
    "normalize_advantage": Schedulable("truth"),
}
"""By the names that PPO and A2C have for them."""

OF_ADVANTAGES = ("gamma", "gae_lambda")
"""The rollout buffer has copies of these, with which it makes advantages and value targets."""

_WHY_NOT = {"n_steps": "the rollout buffer is made for it", "policy": "it is the network itself"}


class OnPolicyHyperparameters:
    """The hyperparameters of one algorithm that a search space names."""

    def __init__(self, algorithm: Any, space: Mapping[str, Hyperparameter]) -> None:
        """See whether the algorithm can be given whatever the space may bring.

        Args:
            algorithm: a `stable_baselines3.common.on_policy_algorithm.OnPolicyAlgorithm`.
            space: what may be chosen.

        Raises:
            OracleMisconfigured: it cannot, with the name of the hyperparameter.
        """
        self._algorithm = algorithm
        self._space = space
        for name, hyperparameter in space.items():
            self._check(name, hyperparameter)

    def own(self) -> dict[str, Any]:
        """The algorithm's own values, schedules as functions."""
        return {name: getattr(self._algorithm, _attribute(name)) for name in self._space}

    def own_numbers(self, progress_remaining: float) -> dict[str, float]:
        """The algorithm's own values of what is chosen by factors, at a progress."""
        return {
            name: float(_at(value, progress_remaining))
            for name, value in self.own().items()
            if isinstance(self._space[name], Scale)
        }

    def chooses_advantages(self) -> bool:
        """Whether the space names something that advantages are made with."""
        return any(name in self._space for name in OF_ADVANTAGES)

    @contextmanager
    def in_force(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Give the algorithm these values (or factors), and its own ones back in any case."""
        before = [
            (owner, attribute, getattr(owner, attribute))
            for name in self._space
            for owner, attribute in self._places(name)
        ]
        own = self.own()
        try:
            for name, value in values.items():
                chosen = self._chosen(name, own[name], value)
                for owner, attribute in self._places(name):
                    setattr(owner, attribute, chosen)
            yield
        finally:
            for owner, attribute, value in before:
                setattr(owner, attribute, value)
            if "learning_rate" in self._space:
                self._set_optimiser(own["learning_rate"])

    def used(self, own: Mapping[str, Any]) -> dict[str, Value]:
        """What the update that was just made used, read back; factors of what is relative.

        Args:
            own: the algorithm's own values; a factor on 0 cannot be told and is left out.
        """
        progress = self._algorithm._current_progress_remaining  # noqa: SLF001 # as its train does
        found: dict[str, Value] = {}
        for name in self._space:
            owner, attribute = self._places(name)[-1]
            value = _at(getattr(owner, attribute), progress)
            if name == "learning_rate":
                value = self._algorithm.policy.optimizer.param_groups[0]["lr"]
            if isinstance(self._space[name], Scale):
                base = _at(own[name], progress)
                if base == 0:
                    continue
                value = value / base
            found[name] = value
        return found

    def _places(self, name: str) -> list[tuple[Any, str]]:
        """Where a hyperparameter lies: (object, attribute), what updates are made from last."""
        places = [(self._algorithm, _attribute(name))]
        if name in OF_ADVANTAGES:
            places.append((self._algorithm.rollout_buffer, name))
        return places

    def _set_optimiser(self, schedule: ProgressSchedule) -> None:
        rate = schedule(self._algorithm._current_progress_remaining)  # noqa: SLF001 # as its train
        for group in self._algorithm.policy.optimizer.param_groups:
            group["lr"] = rate

    def _chosen(self, name: str, own: Any, value: Value) -> Any:
        """What the algorithm is given for a proposed value."""
        relative = isinstance(self._space[name], Scale)
        if SCHEDULABLE[name].kind == "schedule":
            return _scaled(own, float(value)) if relative else _constant(float(value))
        chosen = own * value if relative else value
        return round(float(chosen)) if SCHEDULABLE[name].kind == "whole" else chosen

    # -- before training -----------------------------------------------------------------------

    def _check(self, name: str, hyperparameter: Hyperparameter) -> None:
        kind = type(self._algorithm).__name__
        if name not in SCHEDULABLE or not hasattr(self._algorithm, _attribute(name)):
            there = [each for each in SCHEDULABLE if hasattr(self._algorithm, _attribute(each))]
            why = f" ({_WHY_NOT[name]})" if name in _WHY_NOT else ""
            if why or name in SCHEDULABLE:  # rightly spelled
                told = f"expected hyperparameters of {kind}, got {name!r}{why}"
            else:
                told = expected_one_of(there, name, f"hyperparameters of {kind}")
            raise OracleMisconfigured(f"{told}; leave it out of the space")
        own = getattr(self._algorithm, _attribute(name))
        if own is None:
            raise OracleMisconfigured(
                f"expected a {kind} with a {name}, got None, which switches it off: give one when "
                f"the algorithm is made, {kind}({name}=...), or leave it out of the space"
            )
        if name in OF_ADVANTAGES and not hasattr(self._algorithm.rollout_buffer, name):
            buffer = type(self._algorithm.rollout_buffer).__name__
            raise OracleMisconfigured(f"expected a rollout buffer with {name}, got {buffer}")
        if name == "gamma" and own == 0:  # what was added for cut episodes could not be undone
            raise OracleMisconfigured(f"expected a {kind} with a gamma above 0, got {own}")
        if isinstance(hyperparameter, Scale):
            self._check_base(name, own)
        for value in hyperparameter.values:
            self._check_value(name, hyperparameter, own, value)

    def _check_base(self, name: str, own: Any) -> None:
        """Whether factors can change a hyperparameter."""
        if isinstance(own, bool) or own == 0:
            raise OracleMisconfigured(
                f"expected a {name} that factors can change, got {own}: use Choice"
                f"{'' if own == 0 and own is not False else ' or Categorical'} instead of Scale"
            )

    def _check_value(
        self, name: str, hyperparameter: Hyperparameter, own: Any, value: Value
    ) -> None:
        entry = SCHEDULABLE[name]
        if entry.kind == "truth":
            if not isinstance(value, bool):
                self._refuse(name, "True or False, by Categorical", value)
            return
        if isinstance(hyperparameter, Categorical) or isinstance(value, str | bool):
            self._refuse(name, "numbers", value)
            return
        chosen = float(value)
        if isinstance(hyperparameter, Scale):
            if entry.kind == "schedule":
                return  # factors are above 0
            chosen = own * chosen
        if not entry.least <= chosen <= entry.greatest:
            self._refuse(name, f"values in [{entry.least:g}, {entry.greatest:g}]", chosen)
        if entry.kind == "whole" and chosen != round(chosen):
            self._refuse(name, "whole numbers", chosen)
        if name == "batch_size":
            size = self._algorithm.n_steps * self._algorithm.n_envs
            if size % round(chosen):
                self._refuse(name, f"divisors of the rollout's n_steps * n_envs = {size}", chosen)

    def _refuse(self, name: str, expected: str, got: Any) -> None:
        raise OracleMisconfigured(f"expected {expected} for {name}, got {got!r}: correct the space")


def _attribute(name: str) -> str:
    return SCHEDULABLE[name].attribute or name


def _at(value: Any, progress_remaining: float) -> Any:
    return value(progress_remaining) if callable(value) else value


def _scaled(base: ProgressSchedule, factor: float) -> ProgressSchedule:
    return lambda progress_remaining: base(progress_remaining) * factor


def _constant(value: float) -> ProgressSchedule:
    return lambda _: value
