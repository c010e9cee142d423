"""The hyperparameters that a job is told to use, and for how long they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperoracle_client.errors import OracleUnreachable
from hyperoracle_protocol.jobs import Proposal
from hyperoracle_protocol.space import Categorical, Choice, Hyperparameter, Int, Value

Source = Literal["oracle", "held", "default"]


class Hyperparameters(dict[str, Any]):
    """Values by name; of a relative hyperparameter the factor.

    Attributes:
        source: `oracle` (asked just now), `held` (an earlier decision still in force) or
            `default` (the oracle could not be asked).
        proposal_id: names the decision, e.g. for `hyperoracle explain`; None for a default.
        explored: whether chance chose.
        why: for a default, the reason.
    """

    __slots__ = ("explored", "proposal_id", "source", "why")

    def __init__(
        self,
        values: Mapping[str, Value],
        source: Source,
        proposal: Proposal | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(values)
        self.source: Source = source
        self.proposal_id = None if proposal is None else proposal.proposal_id
        self.explored = proposal is not None and proposal.explored
        self.why = why


class ValueChecker:
    """Refuses an answer that no search space of this kind could give.

    Every hyperparameter must be there, a number between the least and the greatest of its bins, a
    name among its names: a broken oracle must not ruin a training run.
    """

    def __init__(self, space: Mapping[str, Hyperparameter]) -> None:
        self._ranges = {
            name: (min(hyperparameter.values), max(hyperparameter.values))
            for name, hyperparameter in space.items()
            if not isinstance(hyperparameter, Categorical)
        }
        self._names = {
            name: hyperparameter.values
            for name, hyperparameter in space.items()
            if isinstance(hyperparameter, Categorical)
        }
        self._order = list(space)
        self._whole = {
            name
            for name, hyper in space.items()
            if isinstance(hyper, Int) or (isinstance(hyper, Choice) and hyper.is_whole)
        }

    def checked(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The values in the space's order: whole numbers as int, other numbers as float.

        Raises:
            OracleUnreachable: they do not fit the space.
        """
        if values.keys() != set(self._order):
            raise OracleUnreachable(f"expected {self._order} in the answer, got {list(values)}")
        return {name: self._checked(name, values[name]) for name in self._order}

    def _checked(self, name: str, value: Value) -> Value:
        if name in self._names:
            if value not in self._names[name]:
                raise OracleUnreachable(
                    f"expected {name} among {list(self._names[name])}, got {value!r}"
                )
            return value
        low, high = self._ranges[name]
        if isinstance(value, str | bool) or not low <= value <= high:
            raise OracleUnreachable(f"expected {name} in [{low}, {high}], got {value!r}")
        if name not in self._whole:
            return float(value)
        if value != int(value):
            raise OracleUnreachable(f"expected a whole {name}, got {value!r}")
        return int(value)


@dataclass(slots=True)
class HeldProposal:
    """An answer of the oracle's that is in force.

    Attributes:
        proposal: the answer.
        values: its checked values.
        uses: for how many updates it has been used.
    """

    proposal: Proposal
    values: dict[str, Value]
    uses: int = 0

    def is_in_force(self, env_step: int) -> bool:
        """Whether the next update may use it without asking."""
        until = self.proposal.valid_until_env_step
        return self.uses < self.proposal.valid_for_updates or (
            until is not None and env_step < until
        )

    @property
    def ends_with_this_update(self) -> bool:
        """Whether the next update is sure to need a new one."""
        spent = self.uses >= self.proposal.valid_for_updates
        return spent and self.proposal.valid_until_env_step is None

    def use(self) -> Hyperparameters:
        """The values for one update."""
        source: Source = "oracle" if self.uses == 0 else "held"
        self.uses += 1
        return Hyperparameters(self.values, source, self.proposal)
