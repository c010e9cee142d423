"""The documents in a job's row: each is read into what the oracle makes of it, and looked at.

The types are those that the oracle itself keeps, so what they do not hold is refused; beside them
it is looked whether numbers are in the range of what a study can come to.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from hyperoracle_protocol.base import MAX_COUNT, Return
from hyperoracle_server.oracle.credit import MAX_NOT_APPLIED
from hyperoracle_server.oracle.decisions_in_force import Held
from hyperoracle_server.oracle.job import JobCounts
from hyperoracle_server.strategies.base import HyperAgent
from hyperoracle_server.strategies.evidence.exposure import Exposure
from hyperoracle_server.strategies.evidence.job_account import Ending
from hyperoracle_server.strategies.evidence.learning_curve import LEVELS, LearningCurve
from hyperoracle_server.strategies.grid import HyperActionGrid
from hyperoracle_server.strategies.notes import NoNote, check, check_actions, check_shape

LARGEST = 1e130
"""No sum of a job's returns comes so far: 2^63 env steps with the greatest return are 1e119."""

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
_Number = Annotated[int, Field(ge=0, le=MAX_COUNT)]
_FirstSums = tuple[_Number, Return | None, _Number, float, _Number, float]


class CreditState(BaseModel):
    """What `CreditBook.dump` writes; what it does not read is passed over."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    not_applied: list[_Number] = Field(max_length=MAX_NOT_APPLIED)
    episode: list[tuple[list[_Number], Return | None]]
    recent: list[Return | None]
    worst: Return | None = None
    covered_through: _Number
    last_applied: _Number
    lost_decisions: _Number = 0


@lru_cache
def _reader(kind: Any) -> type[BaseModel]:
    """Reads a document of a type strictly; a model, as a plain type takes no configuration."""
    return create_model("Document", __config__=_STRICT, of=(kind, ...))


def _read(kind: Any, text: str) -> Any:
    return vars(_reader(kind).model_validate_json(f'{{"of": {text}}}'))["of"]


def check_counts(text: str) -> None:
    """Read a job's counts.

    Raises:
        ValueError: they are none.
    """
    _check_numbers(_read(JobCounts, text))


def check_held(text: str, grid: HyperActionGrid) -> Held:
    """Read a decision in force.

    Raises:
        ValueError: it is none of this study.
    """
    held: Held = _read(Held, text)
    _check_numbers(held)
    check_actions([held.hyper_action], grid)
    check(0.0 <= held.epsilon <= 1.0, "its epsilon is no probability")
    check(0.0 < held.propensity <= 1.0 + 1e-9, "its propensity is no probability")
    return held


def check_account(text: str, planned_env_steps: int, grid: HyperActionGrid) -> None:
    """Read a job's learning curve, exposure and end.

    Raises:
        ValueError: they are none of this study.
    """
    if text.startswith("["):  # of schema 0007
        _check_numbers(_read(_FirstSums, text))
        return
    found = json.loads(text)
    check(isinstance(found, dict) and set(found) == {"curve", "exposure", "ending"}, "its parts")
    if found["curve"] is not None:
        known = {"planned_env_steps": planned_env_steps, **found["curve"]}
        curve = _read(LearningCurve, json.dumps(known))
        _check_numbers(curve)
        check(curve.planned_env_steps == planned_env_steps, "its length is another")
        check(len(curve.levels) <= LEVELS, f"it has more than {LEVELS} levels")
    exposure = _read(Exposure, json.dumps(found["exposure"]))
    _check_numbers(exposure)
    check_shape(exposure.spent, grid)
    check_actions((action for _, action in exposure.decided), grid)
    check_actions([exposure.suspect], grid)
    ending = _read(Ending | None, json.dumps(found["ending"]))
    if ending is not None:
        _check_numbers(ending)
        check(0.0 <= ending.shown <= 1.0, "what it shows is no share")


def check_notes(text: str, agent: HyperAgent[Any]) -> None:
    """Read what a hyper-agent noted of a job.

    Raises:
        ValueError: it notes nothing, or this is no note of its own.
    """
    check(agent.kind_of_note is not NoNote, "its strategy notes nothing")
    note = _read(agent.kind_of_note, text)
    _check_numbers(agent.counted(note))
    agent.check_note(note)


def _check_numbers(value: Any) -> None:
    """All integers are counts, all other numbers what returns can come to."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        check(0 <= value <= MAX_COUNT, f"the number {value}")
    elif isinstance(value, float):
        check(abs(value) <= LARGEST, f"the number {value}")
    elif isinstance(value, dict):
        for each in value.values():
            _check_numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_numbers(each)
    elif is_dataclass(value):
        for field in fields(value):
            _check_numbers(getattr(value, field.name))
