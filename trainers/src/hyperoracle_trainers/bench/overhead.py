"""What an oracle on the same machine costs whole runs, and whether they say so themselves.

Each run is a process of its own. Within a repeat every run with an oracle has the seed of one
without, and its wall time of training is divided by that one's; medians over the repeats. The
overhead that a run prints is held against this ratio. Updates that ran on the defaults and circuits
that opened are counted: they make a run quick and the oracle useless. Then the processor time of
compressing a network into a hyper-state.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperoracle_trainers.bench.figures import Figure, Say, median_of, positive

POINTS_APART = 3.0
"""Budget of what a run prints beside what is measured, in points of per cent."""

_PROGRAM = "import sys; from hyperoracle_client.cli import main; sys.exit(main())"
_ASKS_EVERY_TIME = ("--strategy", "epgt")
_RUN_SECONDS = 1800.0


@dataclass(frozen=True)
class Course:
    """A training run that is made with an oracle and without.

    Attributes:
        name: in words.
        arguments: of `hyperoracle train`.
        env_steps: of each run, unless others are asked for.
    """

    name: str
    arguments: Sequence[str]
    env_steps: int


@dataclass(frozen=True)
class Case:
    """A way to ask an oracle in such a run.

    Attributes:
        course: the run.
        name: of the way, in words.
        arguments: of `hyperoracle train`, beside the course's.
        budget: of wall time with to wall time without; None sets none.
    """

    course: Course
    name: str
    arguments: Sequence[str]
    budget: float | None

    @property
    def what(self) -> str:
        """Course and way in words."""
        return f"{self.course.name}, {self.name}"


PPO = Course("PPO HalfCheetah-v5", ("ppo", "HalfCheetah-v5"), 40_960)
A2C = Course(
    "A2C MountainCarContinuous-v0",
    ("a2c", "MountainCarContinuous-v0", "--set", "number_of_envs=1", "--set", "rollout_length=5"),
    20_000,
)
CASES = (
    Case(PPO, "a decision per phase", _ASKS_EVERY_TIME, 1.02),
    Case(PPO, "per minibatch, waiting",
         (*_ASKS_EVERY_TIME, "--decisions", "minibatch", "--no-prefetch"), 1.9),
    Case(PPO, "per minibatch, asked ahead",
         (*_ASKS_EVERY_TIME, "--decisions", "minibatch", "--prefetch"), 1.2),
    Case(PPO, "default strategy", ("--decisions", "minibatch"), None),
    Case(A2C, "a decision per update", (*_ASKS_EVERY_TIME, "--no-prefetch"), 2.2),
    Case(A2C, "asked ahead", (*_ASKS_EVERY_TIME, "--prefetch"), 1.3),
    Case(A2C, "held for 20 updates", (*_ASKS_EVERY_TIME, "--hold", "20"), 1.05),
    Case(A2C, "default strategy", (), None),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A run with an oracle beside the same without.

    Attributes:
        alone_seconds: wall time of training without.
        seconds: with.
        printed_percent: the overhead that the run tells of itself; NaN where it says that it does
            not know.
        fallbacks: updates that ran on the defaults.
        openings: of the client's circuit.
    """

    alone_seconds: float
    seconds: float
    printed_percent: float
    fallbacks: int
    openings: int

    @classmethod
    def of(cls, run: dict[str, Any], alone: dict[str, Any]) -> Pair:
        """The pair of what two runs printed."""
        oracle = run["oracle"]
        printed = oracle["overhead_percent"]
        return cls(
            alone_seconds=alone["wall_seconds"],
            seconds=run["wall_seconds"],
            printed_percent=float("nan") if printed is None else printed,
            fallbacks=oracle["stats"]["fallbacks"],
            openings=oracle["stats"]["circuit_openings"],
        )

    @property
    def ratio(self) -> float:
        """Wall time with to wall time without."""
        return self.seconds / self.alone_seconds

    @property
    def points_apart(self) -> float:
        """How much more was measured than the run prints, in points of per cent."""
        return 100.0 * (self.ratio - 1.0) - self.printed_percent


def figures_of(case: Case, pairs: Sequence[Pair]) -> list[Figure]:
    """The figures of one way to ask.

    Args:
        case: the way.
        pairs: one a repeat.
    """
    apart = [pair.points_apart for pair in pairs]
    return [
        median_of(
            f"{case.what}: wall time with / without", [pair.ratio for pair in pairs], "x",
            budget=case.budget, stands=True,
        ),
        Figure(
            f"{case.what}: printed overhead off by", abs(statistics.median(apart)), "points",
            beside={
                "measured": statistics.median(100.0 * (pair.ratio - 1.0) for pair in pairs),
                "printed": statistics.median(pair.printed_percent for pair in pairs),
            },
            budget=POINTS_APART, repeats=tuple(apart),
        ),
        Figure(
            f"{case.what}: updates on the defaults", sum(pair.fallbacks for pair in pairs), "",
            budget=0.0,
        ),
        Figure(
            f"{case.what}: circuit openings", sum(pair.openings for pair in pairs), "",
            budget=0.0,
        ),
    ]  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how often and how long."""
    parser.add_argument(
        "--repeats", metavar="N", type=positive, default=5, help="runs of each; default: 5"
    )
    parser.add_argument(
        "--env-steps",
        metavar="N",
        type=positive,
        help="of each run; default: 40960 of PPO, 20000 of A2C; in short runs joining shows",
    )


def run(args: argparse.Namespace, say: Say) -> list[Figure]:
    """Measure.

    Args:
        args: `repeats` and `env_steps`.
        say: told of each run.
    """
    from hyperoracle_trainers.bench.compression import compression_figures

    pairs = whole_runs(CASES, args.repeats, args.env_steps, say)
    say("compressing networks")
    return [
        *(figure for case in CASES for figure in figures_of(case, pairs[case])),
        *compression_figures(),
    ]


def whole_runs(
    cases: Sequence[Case], repeats: int, env_steps: int | None, say: Say
) -> dict[Case, list[Pair]]:
    """Make all runs, interleaved: in each repeat each course alone, then with an oracle.

    Each way has a study of its own, which its repeats share.

    Args:
        cases: ways to ask.
        repeats: pairs of each.
        env_steps: of each run; None takes the courses' own.
        say: told of each run.

    Raises:
        Unmeasurable: a run or the oracle failed.
    """
    from hyperoracle_trainers.bench.processes import ServedOracle

    pairs: dict[Case, list[Pair]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name, ServedOracle(Path(name)) as oracle:
        runs = _Runs(Path(name), env_steps)
        runs.make(cases[0].course, 0)  # untimed: it brings what all need into the disk's cache
        for seed in range(repeats):
            alone: dict[str, dict[str, Any]] = {}
            for number, case in enumerate(cases):
                course = case.course
                if course.name not in alone:
                    alone[course.name] = runs.make(course, seed)
                study = ("--oracle", oracle.url, "--study", f"way-{number}")
                pair = Pair.of(
                    runs.make(course, seed, (*case.arguments, *study)), alone[course.name]
                )
                pairs[case].append(pair)
                say(
                    f"{case.what}, repeat {seed + 1} of {repeats}: "
                    f"{pair.alone_seconds:.1f} s alone, {pair.seconds:.1f} s with an oracle"
                )
    return pairs


class _Runs:
    """Makes runs in processes of their own, in folders below this one."""

    def __init__(self, folder: Path, env_steps: int | None) -> None:
        self._folder = folder
        self._env_steps = env_steps
        self._made = 0
        others = {each: text for each, text in os.environ.items() if "HYPERORACLE_" not in each}
        self._environment = {
            **others,
            "OMP_NUM_THREADS": "1",
            "HYPERORACLE_SPOOL_DIRECTORY": str(folder / "spool"),
            "XDG_CONFIG_HOME": str(folder / "configuration"),
        }

    def make(self, course: Course, seed: int, arguments: Sequence[str] = ()) -> dict[str, Any]:
        """Train, and return the figures that the run prints.

        Raises:
            Unmeasurable: it failed.
        """
        from hyperoracle_trainers.bench.processes import Unmeasurable

        self._made += 1
        command = [
            sys.executable, "-c", _PROGRAM, "train", *course.arguments, *arguments,
            "--total-env-steps", str(self._env_steps or course.env_steps), "--seed", str(seed),
            "--evaluate", "0", "--checkpoint-every", "0", "--json",
            "--out", str(self._folder / f"run-{self._made}"),
        ]  # fmt: skip
        done = subprocess.run(  # noqa: S603 - our own program
            command, env=self._environment, cwd=self._folder, capture_output=True, text=True,
            check=False, timeout=_RUN_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-1:]
            raise Unmeasurable(f"{course.name}, seed {seed}: the run failed: {said}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures
