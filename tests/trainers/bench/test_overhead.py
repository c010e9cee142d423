from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import pytest

from hyperoracle_trainers.bench import compression, overhead
from hyperoracle_trainers.bench.figures import Figure
from hyperoracle_trainers.bench.overhead import CASES, PPO, Case, Course, Pair, figures_of
from hyperoracle_trainers.bench.processes import Unmeasurable

SMALL = Course(
    "A2C CartPole-v1",
    ("a2c", "CartPole-v1", "--set", "number_of_envs=1", "--set", "rollout_length=5"),
    100,
)
CASE = Case(PPO, "as you like", (), 2.0)


def pair(seconds: float, printed: float, fallbacks: int = 0, openings: int = 0) -> Pair:
    return Pair(1.0, seconds, printed, fallbacks, openings)


def by_end(figures: Sequence[Figure]) -> dict[str, Figure]:
    return {figure.what.rpartition(": ")[2]: figure for figure in figures}


def test_ratios_are_medians_of_the_pairs_of_each_repeat() -> None:
    figures = by_end(figures_of(CASE, [pair(1.9, 90.0), pair(9.0, 800.0), pair(1.5, 50.0)]))
    ratio = figures["wall time with / without"]
    assert (ratio.value, ratio.unit, ratio.budget, ratio.ok) == (1.9, "x", 2.0, True)
    assert ratio.stands
    assert list(ratio.repeats) == [1.9, 9.0, 1.5]


@pytest.mark.parametrize(
    ("printed", "off", "ok"),
    [(700.0, 0.0, True), (698.0, 2.0, True), (703.5, 3.5, False), (43.0, 657.0, False)],
)
def test_what_a_run_prints_is_held_against_what_is_measured(
    printed: float, off: float, ok: bool
) -> None:
    figure = by_end(figures_of(CASE, [pair(8.0, printed)]))["printed overhead off by"]
    assert figure.value == pytest.approx(off)
    assert figure.ok is ok
    assert figure.beside == {"measured": pytest.approx(700.0), "printed": printed}


def test_a_run_that_does_not_know_its_overhead_keeps_no_budget() -> None:
    assert not by_end(figures_of(CASE, [pair(8.0, math.nan)]))["printed overhead off by"].ok


def test_one_update_on_the_defaults_in_any_repeat_is_a_missed_budget() -> None:
    figures = by_end(figures_of(CASE, [pair(1.0, 0.0), pair(1.0, 0.0, 3, 1), pair(1.0, 0.0)]))
    assert (figures["updates on the defaults"].value, figures["circuit openings"].value) == (3, 1)
    assert figures["updates on the defaults"].ok is figures["circuit openings"].ok is False


def test_every_way_has_its_own_name_and_the_budgets_are_those_that_were_set() -> None:
    assert len({case.what for case in CASES}) == len(CASES)
    budgets = [case.budget for case in CASES if case.budget is not None]
    assert budgets == [1.02, 1.9, 1.2, 2.2, 1.3, 1.05]


def test_whole_runs_are_made_with_and_without_a_real_oracle() -> None:
    cases = [
        Case(SMALL, "asked", ("--strategy", "epgt"), None),
        Case(SMALL, "held", ("--strategy", "epgt", "--hold", "20"), None),
    ]
    said: list[str] = []
    pairs = overhead.whole_runs(cases, 2, None, said.append)
    assert list(pairs) == cases
    for asked, held in zip(*pairs.values(), strict=True):
        assert asked.alone_seconds == held.alone_seconds > 0.0, "the same run without"
        assert asked.seconds > 0.0
        assert asked.printed_percent > 0.0
    assert len(said) == 4
    assert said[0].startswith("A2C CartPole-v1, asked, repeat 1 of 2: ")


def test_a_run_that_fails_ends_the_benchmark() -> None:
    broken = Course("none", ("a2c", "NoSuchEnvironment-v0"), 100)
    with pytest.raises(Unmeasurable, match=r"none, seed 0: the run failed: .*NoSuchEnvironment"):
        overhead.whole_runs([Case(broken, "x", (), None)], 1, None, lambda _: None)


def test_compression_is_measured_beside_reading_once() -> None:
    figures = compression.compression_figures(repeats=1)
    assert [figure.budget for figure in figures] == [0.15, 0.15, 2.0, 2.0]
    for figure in figures:
        assert figure.value > figure.beside["read once"] > 0.0


def test_the_command_gives_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def whole_runs(cases: Any, repeats: int, env_steps: int | None, say: Any) -> Any:
        asked.append((repeats, env_steps))
        return {case: [pair(1.0, 0.0)] * repeats for case in cases}

    monkeypatch.setattr(overhead, "whole_runs", whole_runs)
    monkeypatch.setattr(compression, "compression_figures", list)
    parser = argparse.ArgumentParser()
    overhead.add_arguments(parser)
    figures = overhead.run(parser.parse_args(["--repeats", "2"]), lambda _: None)
    assert asked == [(2, None)]
    assert len({figure.what for figure in figures}) == len(figures) == 4 * len(CASES)
