"""What a study may cost: seconds per call, memory, disk, computed from its definition and layouts.

What is computed lies within a factor of 3 of what was measured on one core of a cloud machine
(`tests/server/oracle/test_study_cost.py` holds the figures). That suffices to tell a study that
costs a millisecond from one that keeps the oracle busy for seconds. What a strategy costs its
hyper-agents say (`HyperAgent.cost`).

Pure functions: they know neither studies at work nor settings of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.hyper_state import HyperStateLayout
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.strategies.base import StudyCost
from hyperoracle_server.strategies.registry import agent_class

LONGEST_TEXT = 256
"""Characters of a categorical value: every decision repeats it."""


OPEN_BYTES = 64 << 20
"""What the hyper-states of one job's open proposals may take in memory, as float16."""

REPORT_SECONDS = 30.0
"""What all open proposals of one job may take the report that credits them."""

LEAST_OPEN, MOST_OPEN = 64, 20_000
"""Open proposals of one job, whatever they cost: the bounds of `most_open_proposals`."""


class CostLimits(NamedTuple):
    """What a study may cost; see `StudyCost`, and the settings of the same names."""

    call_seconds: float = 0.25
    memory_bytes: int = 512 << 20
    disk_bytes: int = 16 << 30


def study_cost(definition: StudyDefinition, layouts: Sequence[HyperStateLayout]) -> StudyCost:
    """What a study costs whose jobs have these hyper-states.

    Args:
        definition: the study's.
        layouts: of its jobs, each once; none before the first job: what any layout costs counts.
    """
    return agent_class(definition.strategy.name).cost(definition, layouts)


def check_cost(
    definition: StudyDefinition, layouts: Sequence[HyperStateLayout], limits: CostLimits
) -> None:
    """Refuse a study that costs too much with these layouts.

    Raises:
        RequestRefused: `invalid_request`, with the bound, what was computed, and what to do.
    """
    cost = study_cost(definition, layouts)
    remedies = agent_class(definition.strategy.name).remedies
    count = max(1, len(layouts))
    found = (
        ("a proposal takes", cost.decide_seconds, limits.call_seconds, "call_seconds"),
        ("what one credited decision teaches takes", cost.learn_seconds, limits.call_seconds,
         "call_seconds"),
        (f"with {count} hyper-state layouts it takes in memory", cost.memory_bytes,
         limits.memory_bytes, "memory_bytes"),
        (f"with {count} hyper-state layouts it keeps on disk", cost.disk_bytes,
         limits.disk_bytes, "disk_bytes"),
    )  # fmt: skip
    for (what, computed, bound, name), remedy in zip(found, remedies, strict=True):
        if computed > bound:
            got, most = _said(computed, name), _said(bound, name)
            raise RequestRefused(
                ErrorCode.INVALID_REQUEST,
                f"the study costs too much: {what} {got}, and at most {most} are admitted; lower "
                f"{remedy}, or let the operator raise --study-{name.replace('_', '-')} "
                f"(HYPERORACLE_STUDY_{name.upper()})",
                expected=f"at most {most}",
                got=got,
            )


def check_texts(definition: StudyDefinition) -> None:
    """Refuse a space whose values are texts that no decision should have to repeat.

    Raises:
        RequestRefused: `invalid_request`, naming the hyperparameter.
    """
    for name, hyperparameter in definition.space.items():
        longest = max((len(v) for v in hyperparameter.values if isinstance(v, str)), default=0)
        if longest > LONGEST_TEXT:
            raise RequestRefused(
                ErrorCode.INVALID_REQUEST,
                f"space.{name}: a value is too long; every decision repeats it: give it a short "
                "name",
                expected=f"at most {LONGEST_TEXT} characters",
                got=longest,
            )


def _said(amount: float, name: str) -> str:
    if name == "call_seconds":
        return f"{amount:.3g} s"
    return f"{amount / 2**20:,.0f} MiB"


def most_open_proposals(learn_seconds: float, features: int) -> int:
    """How many proposals of a job may wait for a report.

    Args:
        learn_seconds: what one of them takes the report that credits it.
        features: of a hyper-state, which stays in memory meanwhile.
    """
    by_time = REPORT_SECONDS / max(learn_seconds, 1e-9)
    by_size = OPEN_BYTES / max(2 * features, 1)
    return max(LEAST_OPEN, min(MOST_OPEN, int(by_time), int(by_size)))
