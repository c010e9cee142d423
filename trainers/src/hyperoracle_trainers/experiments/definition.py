"""What an experiment consists of, read from a TOML file, and over which tasks something is said."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hyperoracle_client.errors import one_line
from hyperoracle_protocol.base import with_known_fields
from hyperoracle_protocol.strategies import STRATEGIES
from hyperoracle_trainers.hyperparameters.arguments import ArgumentError, Space, parse_space
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import AnySettings, SettingsError

DEFAULT = "default"
"""The strategy that asks no oracle: every other one is compared with it."""
RANDOM_POLICY = "random_policy"
"""The strategy that does not train: its return is a score of 0."""
SHIPPED = Path(__file__).parent / "definitions"
"""Folder of the definitions that come with the package."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9._]*(?:-[A-Za-z0-9._]+)*"  # no "--", which parts a file's name
_Role = Literal["auto", "explore", "exploit", "control"]


class DefinitionError(ValueError):
    """An experiment's definition has no meaning; the message is one line with the remedy."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    _known_fields = model_validator(mode="before")(with_known_fields)


class StrategyTable(_Table):
    """A strategy as the definition says it.

    Attributes:
        definition: the study's strategy, ``name`` and settings; empty is the table's own name.
        hold: the study's hold setting, updates or a table; None leaves it to the client.
        memories: independent studies, fewer than the experiment's; None is as many.
        memory_sizes: some of the experiment's; None is all of them.
    """

    definition: Mapping[str, Any] = {}
    hold: int | Mapping[str, Any] | None = None
    memories: int | None = Field(default=None, ge=1)
    memory_sizes: Sequence[int] | None = Field(default=None, min_length=1)


class TaskTable(_Table):
    """An environment and the default that strategies start from.

    Attributes:
        env: a Gymnasium environment's id.
        algorithm: None takes the experiment's.
        settings: of the trainer, over the experiment's.
        memories: independent studies, fewer than the experiment's; None is as many.
        default_is: ``"tuned"`` where no help is to be expected, ``"off"`` where it is; None, not
            said, is as ``"off"``.
    """

    env: str
    algorithm: str | None = None
    settings: Mapping[str, Any] = {}
    memories: int | None = Field(default=None, ge=1)
    default_is: Literal["off", "tuned"] | None = None


class MeasuredRole(_Table):
    """Roles of jobs that are looked at, by what they could remember.

    Attributes:
        cold: of those without an earlier run; ``"auto"`` explores as a study's first job does.
        warm: of the others; ``"exploit"`` is what a deployed job gets.
    """

    cold: _Role
    warm: _Role


class ExperimentTables(_Table):
    """A definition's file.

    Attributes:
        title: for people.
        purpose: tuning and reporting experiments never share a seed.
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        settings: of every task's trainer, over the preset's.
        space: what may be chosen, such as ``learning_rate = "scale:0.5,1,2"``; may be empty where
            there is nothing but the default.
        memories: independent studies of every task and strategy: the unit of replication.
        memory_sizes: numbers of earlier runs after which a job is looked at.
        concurrent_jobs: jobs of a study that run at once and share what they learn.
        warm_up_role: of jobs that are not looked at.
        measured_role: of jobs that are, one for all or by what they could remember.
        references: strategies that the others are compared with, beside the default.
        tasks: by name.
        strategies: by name; ``default`` asks no oracle and is always there.
    """

    title: str
    purpose: Literal["tuning", "reporting"]
    algorithm: str = "ppo"
    settings: Mapping[str, Any] = {}
    space: Mapping[str, str] = {}
    memories: int = Field(ge=1, le=1000)
    memory_sizes: Sequence[int] = Field(min_length=1)
    concurrent_jobs: int = Field(default=1, ge=1, le=64)
    warm_up_role: _Role = "auto"
    measured_role: _Role | MeasuredRole = "auto"
    references: Sequence[str] = ()
    tasks: Mapping[str, TaskTable] = Field(min_length=1)
    strategies: Mapping[str, StrategyTable] = {}


@dataclass(frozen=True)
class Task:
    """An environment, a trainer and the values it starts from.

    Attributes:
        name: in the definition.
        algorithm: the trainer's.
        settings: the trainer's, but for the seed.
        space: what an oracle may choose.
    """

    name: str
    algorithm: str
    settings: AnySettings
    space: Space

    @cached_property
    def described_space(self) -> dict[str, Any]:
        """The space as JSON wants it."""
        return {name: bins.model_dump(mode="json") for name, bins in self.space.items()}


@dataclass(frozen=True)
class Experiment:
    """A definition that was checked.

    Attributes:
        name: of the experiment.
        tables: as written.
        tasks: in the definition's order.
    """

    name: str
    tables: ExperimentTables
    tasks: tuple[Task, ...]

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that train, the default first."""
        return (DEFAULT, *(name for name in self.tables.strategies if name != DEFAULT))

    def strategy_definition(self, strategy: str) -> dict[str, Any]:
        """Return what the study's definition says of a strategy."""
        return {"name": strategy, **self.tables.strategies[strategy].definition}

    def has_memory(self, strategy: str) -> bool:
        """Whether a strategy carries anything from job to job, so that earlier runs matter."""
        if strategy in (DEFAULT, RANDOM_POLICY):
            return False
        known = STRATEGIES.get(self.strategy_definition(strategy)["name"])
        return known is None or known.shares  # one that nobody knows is refused when it runs

    def role_of(self, earlier_runs: int, *, is_measured: bool) -> str:
        """Return the role of a job."""
        role = self.tables.measured_role if is_measured else self.tables.warm_up_role
        if isinstance(role, MeasuredRole):
            return role.warm if earlier_runs else role.cold
        return role

    def memories_of(self, task: str, strategy: str) -> int:
        """Return how many independent studies a strategy has on a task."""
        tables = (self.tables, self.tables.tasks[task], self._strategy_table(strategy))
        return min(each.memories for each in tables if each.memories is not None)

    def memory_sizes_of(self, strategy: str) -> Sequence[int]:
        """Return after how many earlier runs a strategy's jobs are looked at."""
        sizes = self._strategy_table(strategy).memory_sizes
        return self.tables.memory_sizes if sizes is None else sizes

    def _strategy_table(self, strategy: str) -> StrategyTable:
        return self.tables.strategies.get(strategy, StrategyTable())


_KINDS = ("off", "tuned")


@dataclass(frozen=True)
class Scope:
    """Tasks that a number is about.

    Attributes:
        name: the task's, or what the tasks have in common.
        tasks: names.
        may_help: whether help is to be expected: of no task the default is said to be tuned.
    """

    name: str
    tasks: tuple[str, ...]
    may_help: bool


def scopes_of(experiment: Experiment) -> list[Scope]:
    """Return every task on its own, tasks of a kind where there are several, and last all."""
    tables = experiment.tables.tasks
    found: list[tuple[str, tuple[str, ...]]] = [
        (task.name, (task.name,)) for task in experiment.tasks
    ]
    for kind in _KINDS:
        names = tuple(name for name, table in tables.items() if table.default_is == kind)
        if 1 < len(names) < len(tables):
            found.append((f"{kind} tasks", names))
    if len(tables) > 1:
        found.append(("all tasks", tuple(tables)))
    return [
        Scope(name, tasks, all(tables[task].default_is != "tuned" for task in tasks))
        for name, tasks in found
    ]


def find_definition(name: str) -> Path:
    """Return the file of a definition.

    Args:
        name: a path that ends in ``.toml``, or the name of a shipped definition.

    Raises:
        DefinitionError: there is none.
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(each.stem for each in shipped_definitions())
        raise DefinitionError(
            f"{name}: expected a .toml file or one of {known}; got neither; write the file or "
            "choose a name"
        )
    return path


def shipped_definitions() -> list[Path]:
    """Return the files of the definitions that come with the package."""
    return sorted(SHIPPED.glob("*.toml"))


def read_definition(path: Path) -> Experiment:
    """Read and check a definition.

    Raises:
        DefinitionError: the file is no TOML, or what it says has no meaning.
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = ExperimentTables.model_validate(written)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DefinitionError(f"{path}: expected a TOML file, got {error}; correct it") from None
    except ValidationError as error:
        raise DefinitionError(f"{path}: {one_line(error)}; correct it") from None
    try:
        _check(tables)
        tasks = tuple(_task(name, table, tables) for name, table in tables.tasks.items())
    except (ArgumentError, SettingsError, DefinitionError) as error:
        raise DefinitionError(f"{path}: {error}") from None
    return Experiment(path.stem, tables, tasks)


def _check(tables: ExperimentTables) -> None:
    for name in (*tables.tasks, *tables.strategies):
        if not re.fullmatch(_NAME, name):
            raise DefinitionError(
                f"expected names of letters, digits, '.', '_' and single '-', got {name!r}; rename"
            )
    sizes = list(tables.memory_sizes)
    if sizes != sorted(set(sizes)) or sizes[0] < 0:
        raise DefinitionError(
            f"memory_sizes: expected growing numbers from 0 on, got {sizes}; put them in order"
        )
    if any(size % tables.concurrent_jobs for size in sizes):
        raise DefinitionError(
            f"memory_sizes: expected multiples of concurrent_jobs = {tables.concurrent_jobs}, "
            f"got {sizes}; change either"
        )
    memories = [(name, task.memories) for name, task in tables.tasks.items()]
    memories += [(name, strategy.memories) for name, strategy in tables.strategies.items()]
    for name, number in memories:
        if number is not None and number > tables.memories:
            raise DefinitionError(
                f"memories of {name}: expected at most the experiment's {tables.memories}, got "
                f"{number}; lower it"
            )
    for name, strategy in tables.strategies.items():
        its = strategy.memory_sizes
        if its is not None and list(its) != [size for size in sizes if size in its]:
            raise DefinitionError(
                f"memory_sizes of {name}: expected some of the experiment's {sizes}, in order, got "
                f"{list(its)}; correct them"
            )
    if not tables.space and set(tables.strategies) - {DEFAULT}:
        raise DefinitionError(
            "space: expected hyperparameters that strategies may choose, got none; name some"
        )
    unknown = [name for name in tables.references if name not in tables.strategies]
    if unknown:
        raise DefinitionError(
            f"references: expected strategies of the definition, got {', '.join(unknown)}; add "
            "them or correct their names"
        )
    if RANDOM_POLICY in tables.strategies:
        raise DefinitionError(
            f"strategies: expected none called {RANDOM_POLICY}, which is always measured; remove it"
        )
    if DEFAULT in tables.strategies and tables.strategies[DEFAULT] != StrategyTable():
        raise DefinitionError(
            f"strategies.{DEFAULT}: expected an empty table, because it asks no oracle; empty it"
        )


def _task(name: str, table: TaskTable, tables: ExperimentTables) -> Task:
    algorithm = table.algorithm or tables.algorithm
    settings = {**tables.settings, **table.settings}
    for reserved in ("seed", "env_id"):
        if reserved in settings:
            raise DefinitionError(
                f"settings of {name}: expected no {reserved}, which the runner chooses; remove it"
            )
    typed = {key: tuple(each) if isinstance(each, list) else each for key, each in settings.items()}
    try:
        made = default_settings(algorithm, table.env, **typed)
    except TypeError as error:
        raise DefinitionError(f"settings of {name}: {error}; correct the type") from None
    base = made.base_values()
    entries = [f"{hyperparameter}={text}" for hyperparameter, text in tables.space.items()]
    return Task(name, algorithm, made, parse_space(entries, base))
