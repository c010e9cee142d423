"""The search-space language: which hyperparameters the oracle may choose, and from which values.

Every kind of hyperparameter is quantised into *bins*, a finite list of values; a hyper-action is
one bin index per hyperparameter (Le et al., AAAI 2022, "Hyper-action").
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, StrictBool, TypeAdapter, model_validator

from hyperoracle_protocol.base import Definition, Finite, Name

_Number = TypeVar("_Number", int, float)

MAX_HYPERPARAMETERS = 16
MAX_BINS = 64
MAX_HYPER_ACTIONS = 10_000
_EXACT = 2**53
"""Whole numbers up to here are the same as `float`, whatever language reads them."""

Value: TypeAlias = float | int | str | bool
"""A hyperparameter's decoded value."""

TakesEffect: TypeAlias = Literal["minibatch", "phase"]
"""When a changed value is first used: at the next minibatch, or at the next phase."""


def _grid_with_default(grid: Sequence[float], default: float) -> tuple[float, ...]:
    """The grid with its value nearest to the default replaced by the default itself."""
    nearest = min(range(len(grid)), key=lambda i: abs(grid[i] - default))
    return (*grid[:nearest], default, *grid[nearest + 1 :])


def _check_member(default: Value, values: Sequence[Value]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"expected distinct values, got {list(values)}")
    if default not in values:
        raise ValueError(f"expected the default among {list(values)}, got {default!r}")


def _number(value: Any) -> Any:
    """A number as Python has it: whole ones (NumPy's too) as `int`, others as `float`.

    Raises:
        ValueError: it is none, greater than any `float`, or a truth value, which would become 0
            or 1.
    """
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}: use Categorical for truth values")
    try:
        whole = operator.index(value)
        return whole if abs(whole) <= _EXACT else float(whole)
    except TypeError:
        if not isinstance(value, str) and not hasattr(value, "__float__"):
            raise ValueError(f"expected a valid number, got {str(value)[:80]}") from None
        return value
    except OverflowError:
        raise ValueError("expected a number that a float can hold, got a greater one") from None


Number = Annotated[int | Finite, BeforeValidator(_number)]
"""A whole number as `int`, any other as a finite `float`; on the wire 2 is whole and 2.0 is not."""


def _listed(values: Any) -> tuple[Any, ...]:
    """The values of anything that has some in an order: a list, a range, an array."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        try:
            return tuple(islice(values, MAX_BINS + 1))  # one too many is refused, and enough
        except TypeError:  # an array without a dimension
            pass
    raise ValueError(f"expected a list of values, such as [0.5, 1, 2], got {str(values)[:80]!r}")


class _Hyperparameter(Definition):
    takes_effect: TakesEffect | None = None


class _Range(_Hyperparameter, Generic[_Number]):
    low: _Number
    high: _Number
    default: _Number
    log: bool = False
    bins: int = Field(default=5, ge=2, le=MAX_BINS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"expected low < high, got low={self.low}, high={self.high}")
        if not self.low <= self.default <= self.high:
            raise ValueError(f"expected a default in [{self.low}, {self.high}], got {self.default}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low > 0 on a log scale, got {self.low}")
        return self


class Float(_Range[float]):
    """A real number in [low, high], quantised into `bins` values, evenly or by ratio (`log`).

    The grid value nearest to the default is moved onto it, so that the default is always
    available exactly.
    """

    type: Literal["float"] = "float"

    @property
    def values(self) -> tuple[float, ...]:
        """The values of the bins, ascending."""
        fractions = [i / (self.bins - 1) for i in range(self.bins)]
        if self.log:
            start, width = math.log(self.low), math.log(self.high) - math.log(self.low)
            inner = [math.exp(start + f * width) for f in fractions[1:-1]]
        else:
            inner = [self.low + f * (self.high - self.low) for f in fractions[1:-1]]
        return _grid_with_default([self.low, *inner, self.high], self.default)


class Int(_Range[int]):
    """A whole number in [low, high], quantised into at most `bins` values."""

    type: Literal["int"] = "int"

    @property
    def values(self) -> tuple[int, ...]:
        """The values of the bins, ascending and distinct."""
        real = Float(low=self.low, high=self.high, default=self.default, log=self.log,
                     bins=self.bins)  # fmt: skip
        return tuple(dict.fromkeys(round(value) for value in real.values))


class Choice(_Hyperparameter):
    """Explicit numbers, in the order given: `Choice([0.1, 0.2, 0.3], default=0.2)`.

    Where all of them, the default too, are written as whole numbers (`Choice([32, 64],
    default=64)`), each is an `int` wherever it arrives; with a single `float` among them
    (`Choice([0.5, 1], default=1)`) each is a `float`.
    """

    __unnamed__ = ("values",)

    type: Literal["values"] = "values"
    values: Annotated[
        tuple[Number, ...], Field(min_length=1, max_length=MAX_BINS), BeforeValidator(_listed)
    ]
    default: Number

    if TYPE_CHECKING:

        def __init__(self, values: Iterable[float] = (), /, **fields: Any) -> None: ...

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers, as Python's `int`."""
        return isinstance(self.default, int)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(isinstance(number, int) for number in (*self.values, self.default)):
            # It is frozen, but still in the making.
            object.__setattr__(self, "values", tuple(map(float, self.values)))
            object.__setattr__(self, "default", float(self.default))
        _check_member(self.default, self.values)
        return self


class Categorical(_Hyperparameter):
    """Names without an order: `Categorical(["adam", "rmsprop"], default="adam")`."""

    __unnamed__ = ("values",)

    type: Literal["categorical"] = "categorical"
    values: Annotated[
        tuple[str | StrictBool, ...],
        Field(min_length=1, max_length=MAX_BINS),
        BeforeValidator(_listed),
    ]
    default: str | StrictBool

    if TYPE_CHECKING:

        def __init__(self, values: Iterable[str | bool] = (), /, **fields: Any) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_member(self.default, self.values)
        return self


class Scale(_Hyperparameter):
    """Factors on the job's own base value or schedule: `Scale([0.5, 1, 2])`.

    The oracle answers the factor; the job multiplies. This is how EPGT scales learning rates.
    """

    __unnamed__ = ("values",)

    type: Literal["relative"] = "relative"
    values: Annotated[
        tuple[Annotated[Finite, Field(gt=0)], ...],
        Field(min_length=1, max_length=MAX_BINS),
        BeforeValidator(_listed),
    ]
    default: Finite = 1.0

    if TYPE_CHECKING:

        def __init__(self, values: Iterable[float] = (), /, **fields: Any) -> None: ...

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_member(self.default, self.values)
        return self


Hyperparameter = Annotated[Float | Int | Choice | Categorical | Scale, Field(discriminator="type")]
"""Any kind of hyperparameter; on the wire told apart by `type`."""

SearchSpace = Annotated[
    dict[Name, Hyperparameter], Field(min_length=1, max_length=MAX_HYPERPARAMETERS)
]
"""Hyperparameters by name. Their order is part of the definition."""

search_space_adapter: TypeAdapter[dict[str, Hyperparameter]] = TypeAdapter(SearchSpace)
"""Validates a search space from Python values or JSON."""


def bins_per_hyperparameter(space: Mapping[str, Hyperparameter]) -> list[int]:
    """The number of bins of each hyperparameter, in the space's order."""
    return [len(hyperparameter.values) for hyperparameter in space.values()]


def count_hyper_actions(space: Mapping[str, Hyperparameter]) -> int:
    """The number of joint hyper-actions: the product of the bins."""
    return math.prod(bins_per_hyperparameter(space))


def default_bins(space: Mapping[str, Hyperparameter]) -> list[int]:
    """The bin of each hyperparameter's default, in the space's order."""
    return [h.values.index(h.default) for h in space.values()]


def default_values(space: Mapping[str, Hyperparameter]) -> dict[str, Value]:
    """Each hyperparameter's default by name (for a relative one: the factor)."""
    return {name: hyperparameter.default for name, hyperparameter in space.items()}


def decode(space: Mapping[str, Hyperparameter], bins: Sequence[int]) -> dict[str, Value]:
    """The values that a hyper-action stands for.

    Args:
        space: the search space.
        bins: one bin index per hyperparameter, in the space's order.

    Raises:
        ValueError: wrong number of bins, or a bin outside its hyperparameter's range.
    """
    if len(bins) != len(space):
        raise ValueError(f"expected {len(space)} bins, got {len(bins)}")
    values: dict[str, Value] = {}
    for (name, hyperparameter), index in zip(space.items(), bins, strict=True):
        if not 0 <= index < len(hyperparameter.values):
            raise ValueError(
                f"expected a bin of {name} in [0, {len(hyperparameter.values)}), got {index}"
            )
        values[name] = hyperparameter.values[index]
    return values


def check_size(space: Mapping[str, Hyperparameter]) -> None:
    """Refuse a space with more joint hyper-actions than `MAX_HYPER_ACTIONS`.

    Raises:
        ValueError: naming the count and the limit.
    """
    count = count_hyper_actions(space)
    if count > MAX_HYPER_ACTIONS:
        raise ValueError(
            f"expected at most {MAX_HYPER_ACTIONS} joint hyper-actions, got {count}: "
            "use fewer hyperparameters or fewer bins"
        )
