"""Whether a study that there is, is the one that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_server.errors import OracleError

if TYPE_CHECKING:
    from hyperoracle_protocol.studies import StudyDefinition
    from hyperoracle_server.oracle.study import StudyRuntime


def check_same_definition(study: StudyRuntime, definition: StudyDefinition) -> None:
    """See that a study is defined like this.

    Raises:
        OracleError: `study_conflict`, naming what differs.
    """
    ours, theirs = study.definition.model_dump(mode="json"), definition.model_dump(mode="json")
    if theirs["seed"] is None or theirs["seed"] == study.seed:
        theirs["seed"] = ours["seed"]
    same_order = list(ours["space"]) == list(theirs["space"])
    differences = _differences(ours, theirs)
    if not same_order and not differences:
        differences = ["the order of the hyperparameters"]
    if differences:
        raise OracleError(
            ErrorCode.STUDY_CONFLICT,
            f"study {study.name!r} exists with another definition; it differs in "
            f"{', '.join(differences)}: use its definition, or another name",
            expected={d: _at(ours, d) for d in differences},
            got={d: _at(theirs, d) for d in differences},
        )


def _differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Dotted paths at which two JSON values differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            inner = f"{path}.{key}" if path else key
            found += _differences(ours.get(key), theirs.get(key), inner)
        return found
    return [] if ours == theirs else [path]


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
