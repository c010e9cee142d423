"""What every message has in common."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from hyperoracle_protocol.names import did_you_mean, expected_one_of

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # pydantic keeps its name to itself

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


MOST_UNKNOWN = 16
"""Unknown fields that an answer names, at most."""

LONGEST_NAME = 128
"""Characters of a caller's own name that an answer repeats."""


class Asked(Message):
    """A message to an oracle: a field that it does not know is ignored, and its answer names it.

    It may be of a later release; or it is mistyped, and what it was to say has not arrived.
    """

    model_config = ConfigDict(extra="allow")

    @property
    def unknown_fields(self) -> list[str]:
        """Names of the fields that it does not know, the first `MOST_UNKNOWN`."""
        names = [*(self.model_extra or ())][:MOST_UNKNOWN]
        return [n[:LONGEST_NAME].encode("utf-8", "backslashreplace").decode() for n in names]

    @property
    def fields_meant(self) -> str | None:
        """Which fields those probably were that it does not know; None where none is like one."""
        guesses = ((n, did_you_mean(n, type(self).model_fields, "")) for n in self.unknown_fields)
        told = [f"there is no field {name!r}; {meant}" for name, meant in guesses if meant]
        return "; ".join(told) or None


def with_known_fields(cls: type[BaseModel], given: Any) -> Any:
    """Refuse a field that is like a known one; before the validation of a model without extras.

    One that is like none is left to pydantic, which finds the other faults as well.

    Raises:
        ValueError: saying which field was meant.
    """
    unknown = (n for n in given if n not in cls.model_fields) if isinstance(given, dict) else ()
    for name in islice(unknown, MOST_UNKNOWN):
        if meant := did_you_mean(str(name)[:LONGEST_NAME], cls.model_fields, ""):
            raise ValueError(f"there is no field {str(name)[:LONGEST_NAME]!r}; {meant}")
    return given


class OracleError(Exception):
    """Anything that goes wrong between a training program and its oracle; the client's tree."""


class OracleMisconfigured(OracleError, ValueError):
    """A setting or an argument that cannot work; the message says what to write instead."""


def one_line(error: ValidationError, *, with_input: bool = False) -> str:
    """A validation error's findings in one line: `path: what is wrong; ...`.

    Args:
        error: what pydantic found.
        with_input: say what came, too; not where that may be a secret.
    """
    findings = []
    for finding in error.errors(include_url=False):
        path = ".".join(str(part) for part in finding["loc"])
        what = finding["msg"].removeprefix("Value error, ")
        if finding["type"] == "union_tag_invalid":  # of a strategy, a name that is none
            context = finding.get("ctx", {})
            tags = str(context.get("expected_tags")).replace("'", "").split(", ")
            kind = "strategies" if path.endswith("strategy") else "kinds"
            what = expected_one_of(tags, str(context.get("tag")), kind)
        elif with_input and finding["type"] not in ("missing", "value_error"):
            got = repr(finding["input"])
            what += f", got {got if len(got) <= LONGEST_INPUT else got[:LONGEST_INPUT] + '…'}"
        findings.append(f"{path}: {what}" if path else what)
    text = "; ".join(findings)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


LONGEST_INPUT = 80
"""Characters of a wrong value that a message repeats."""

_D = TypeVar("_D")


class _Made(ModelMetaclass):
    """What a program makes by a call is refused in one line, as one of the client's errors.

    A definition inside a message is not made by a call: what is wrong with it is collected by
    pydantic, which knows its place.
    """

    def __call__(cls: type[_D], *args: Any, **fields: Any) -> _D:  # noqa: N805 - a class
        unnamed: tuple[str, ...] = cls.__unnamed__  # type: ignore[attr-defined]
        if len(args) > len(unnamed):
            raise OracleMisconfigured(
                f"{cls.__name__}: expected fields by name (field=value), got {args[len(unnamed)]!r}"
            )
        named = dict(zip(unnamed, args, strict=False))
        if twice := named.keys() & fields:
            raise OracleMisconfigured(f"{cls.__name__}: expected {min(twice)} once, got it twice")
        try:
            made: _D = super().__call__(**named, **fields)  # type: ignore[misc]
        except ValidationError as error:
            told = one_line(error, with_input=True)
            raise OracleMisconfigured(f"{cls.__name__}: {told}") from None
        return made


class Definition(BaseModel, metaclass=_Made):
    """A part of a study's definition: as `Message`, but an unknown field is an error.

    A mistyped setting that is silently ignored would run a study that nobody asked for.

    Raises:
        OracleMisconfigured: of fields that cannot work, where a program makes one.
    """

    __unnamed__: ClassVar[tuple[str, ...]] = ()  # fields that a program need not name

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=MAX_TEXT
    )
    _known_fields = model_validator(mode="before")(with_known_fields)
