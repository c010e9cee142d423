"""What every message has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_COUNT = 2**63 - 1
"""Counts on the wire are signed 64-bit integers."""

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A number of things, in [0, 2^63)."""

Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""A number of things, at least one."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A study's or a hyperparameter's name: letters, digits, `.`, `_`, `-`; at most 128 characters."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""

MAX_RETURN = 1e100
"""Greatest magnitude of a return: sums and squares of returns stay finite."""

Return = Annotated[float, Field(ge=-MAX_RETURN, le=MAX_RETURN, allow_inf_nan=False)]
"""What a training run achieved."""


MAX_TEXT = 2**24
"""Characters of one text, at most.

With a limit pydantic looks at a text as it comes in: without one it takes half a surrogate pair
(`"\\ud800"` is JSON), which no answer can then hold, for it is not Unicode.
"""


class Message(BaseModel):
    """A message on the wire: immutable, finite numbers only, unknown fields are ignored."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, allow_inf_nan=False, str_max_length=MAX_TEXT
    )


class Definition(BaseModel):
    """A part of a study's definition: as `Message`, but an unknown field is an error.

    A mistyped setting that is silently ignored would run a study that nobody asked for.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=MAX_TEXT
    )
