"""What the OpenAPI document says beside what FastAPI finds out by itself."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import BaseModel

from hyperoracle_protocol.errors import PROBLEM_MEDIA_TYPE, Problem


@functools.cache  # each application of a process has the same, and making one takes milliseconds
def self_contained(model: type[BaseModel]) -> dict[str, Any]:
    """A message's JSON schema without references, so that it can stand anywhere in a document.

    It is the same object at each call, and not to be changed.

    Args:
        model: that does not contain itself.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolved(definitions[part["$ref"].rpartition("/")[2]])
        return {name: resolved(value) for name, value in part.items()}

    found: dict[str, Any] = resolved(schema)
    return found


def _problem(description: str) -> dict[str, Any]:
    content = {PROBLEM_MEDIA_TYPE: {"schema": self_contained(Problem)}}
    return {"description": description, "content": content}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem("Refused: what was expected and what came."),
    503: _problem("The store cannot be used now; nothing was acknowledged."),
}
"""The answers that every call may get (`routes.problems`)."""
