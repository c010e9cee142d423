"""Which value does this update use? The base schedule, combined with a source's answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import perf_counter

from hyperoracle_trainers.algorithms.rollouts import Rollout
from hyperoracle_trainers.hyperparameters.schedulable import HYPERPARAMETERS, TakesEffect
from hyperoracle_trainers.hyperparameters.settings import TrainerSettings
from hyperoracle_trainers.hyperparameters.sources import HyperparameterSource


@dataclass(frozen=True)
class BaseSchedule:
    """The hyperparameters of a run that nobody interferes with.

    Attributes:
        values: value at the start of the run, by name.
        decayed: those that fall linearly to 0 over the run.
    """

    values: Mapping[str, float]
    decayed: Collection[str]

    @classmethod
    def of(cls, settings: TrainerSettings) -> BaseSchedule:
        """Return the base schedule that the settings describe."""
        return cls(settings.base_values(), settings.decayed())

    def at(self, progress: float) -> dict[str, float]:
        """Return the values at ``progress``, from 0 (start) to 1 (all env steps taken)."""
        return {
            name: value * (1.0 - progress) if name in self.decayed else value
            for name, value in self.values.items()
        }


def resolve(
    base: Mapping[str, float], proposed: Mapping[str, float], relative: Collection[str]
) -> dict[str, float]:
    """Return the value of every hyperparameter.

    Args:
        base: the base value of every hyperparameter at this moment.
        proposed: a source's answer; what it leaves out keeps the base value.
        relative: names whose proposed value is a factor on the base value; others replace it.

    Returns:
        Values within each hyperparameter's range, whole where only whole numbers have a meaning.

    Raises:
        ValueError: a name that this algorithm cannot schedule, or a value that is not finite.
    """
    unknown = set(proposed) - set(base)
    if unknown:
        raise ValueError(
            f"{', '.join(sorted(unknown))}: expected hyperparameters among "
            f"{', '.join(sorted(base))}; correct the search space or the schedule"
        )
    values = dict(base)
    for name, proposal in proposed.items():
        value = base[name] * proposal if name in relative else proposal
        values[name] = HYPERPARAMETERS[name].brought_into_range(value)
    return values


def used_instead(
    base: Mapping[str, float],
    proposed: Mapping[str, float],
    relative: Collection[str],
    values: Mapping[str, float],
) -> dict[str, float]:
    """Return what is used of the proposals that had to be brought into range, as proposed.

    What a factor makes of a whole number is meant to be rounded; an absolute value is not.

    Args:
        base: as for :func:`resolve`.
        proposed: as for :func:`resolve`.
        relative: as for :func:`resolve`.
        values: what :func:`resolve` made of them.
    """
    found = {}
    for name, proposal in proposed.items():
        is_factor = name in relative
        wanted = base[name] * proposal if is_factor else proposal
        if is_factor and HYPERPARAMETERS[name].whole:
            wanted = round(wanted)
        if values[name] != wanted:
            found[name] = values[name] / base[name] if is_factor else values[name]
    return found


@dataclass(frozen=True)
class ChosenHyperparameters:
    """Hyperparameters that were chosen at one moment.

    Attributes:
        update_step: optimiser updates made before.
        env_step: env steps taken before.
        values: chosen value of every hyperparameter; those that take effect at the next phase
            have not taken effect yet.
    """

    update_step: int
    env_step: int
    values: Mapping[str, float]


class Decisions:
    """Asks a source, resolves its answers, and keeps what takes effect later until then.

    Args:
        settings: of the run; they give the base schedule.
        source: who proposes.
        chosen: hyperparameters that an earlier process chose last; None at the start of a run.

    Attributes:
        seconds: time spent in the source since the phase began.
        made: decisions made since the phase began.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        source: HyperparameterSource,
        chosen: Mapping[str, float] | None = None,
    ) -> None:
        self._base = BaseSchedule.of(settings)
        self._total_env_steps = settings.total_env_steps
        self._source = source
        self._base_now = self._base.at(0.0)
        self._chosen = self._base_now if chosen is None else dict(chosen)
        self.seconds = 0.0
        self.made: list[ChosenHyperparameters] = []

    def begin_phase(self, env_step: int) -> dict[str, float]:
        """Return the values that hold in the phase that begins: those chosen last."""
        self._base_now = self._base.at(env_step / self._total_env_steps)
        self.seconds = 0.0
        self.made = []
        return self._chosen

    def report(self, rollout: Rollout, env_step: int) -> None:
        """Tell the source what the environment phase brought."""
        started = perf_counter()
        self._source.report(
            rollout.episode_returns, env_step=env_step, phase_return=rollout.phase_return
        )
        self.seconds += perf_counter() - started

    def make(
        self, *, env_step: int, update_step: int, signals: Mapping[str, float]
    ) -> dict[str, float]:
        """Ask for hyperparameters now and return the values to use at the next minibatch."""
        started = perf_counter()
        proposed = self._source.propose(env_step=env_step, update_step=update_step, signals=signals)
        relative = self._source.relative
        self._chosen = resolve(self._base_now, proposed, relative)
        instead = used_instead(self._base_now, proposed, relative, self._chosen)
        if instead:
            self._source.applied(instead)
        self.seconds += perf_counter() - started
        self.made.append(ChosenHyperparameters(update_step, env_step, self._chosen))
        return self._chosen

    def finish(self, *, failed: bool) -> None:
        """Tell the source that training is over."""
        self._source.finish(failed=failed)


def in_effect(held: Mapping[str, float], chosen: Mapping[str, float]) -> dict[str, float]:
    """Return what an update used: ``held`` since the phase began, or ``chosen`` at its minibatch.

    Args:
        held: values at the beginning of the phase.
        chosen: values chosen for the (last) minibatch.
    """
    return {
        name: chosen[name]
        if HYPERPARAMETERS[name].takes_effect is TakesEffect.AT_MINIBATCH
        else held[name]
        for name in held
    }
