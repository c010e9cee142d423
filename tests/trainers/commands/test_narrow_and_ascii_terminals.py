"""What the commands print reaches every terminal: one of 40 columns, one that knows ASCII only."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from hyperoracle_client.cli import let_every_terminal_take_what_is_printed, main
from hyperoracle_client.commands.printing import print_json
from hyperoracle_protocol.errors import Problem
from hyperoracle_trainers.bench.figures import Figure
from hyperoracle_trainers.commands.demo import _print_figures as print_demo
from hyperoracle_trainers.commands.tables import figures_table, show
from hyperoracle_trainers.hyperparameters.presets import PAPER_PRESETS

RUN = {"seed": 1, "env_steps": 1_000, "final_return": 1.0, "evaluation_return": None,
       "wall_seconds": 2.0, "mean_return": 1.0}  # fmt: skip
DEMO = {
    "env_id": "CartPole-v1",
    "folder": "demo [ö]",
    "wall_seconds": 60.0,
    "jobs": [RUN, RUN],
    "without_oracle": [RUN],
    "comparison": {"with_oracle": RUN, "without_oracle": RUN},
    "oracle": {
        "strategy": "epgt", "proposals": 1, "credited_proposals": 1, "reports": 1,
        "memory_size": 1, "memory_capacity": 5000, "encoder_version": 1,
        "neighbours_from_other_jobs": None, "held_updates": 0, "fallbacks": 0, "late_answers": 0,
        "overhead_percent": [1.0, None],
    },
}  # fmt: skip
FIGURES = [
    Figure("PPO on CartPole-v1, of [ours]", 1234.0, "x", {"bare environment": 2.0}, budget=2.5,
           goal=4.0, at_least=True),
]  # fmt: skip


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A terminal of 40 columns and an encoding; returns what is on it."""
    monkeypatch.setenv("COLUMNS", "40")
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding=request.param)

    def shown(print_it: Callable[[], object]) -> str:
        with contextlib.redirect_stdout(stream):
            let_every_terminal_take_what_is_printed()
            print_it()
        stream.flush()
        return printed.getvalue().decode(request.param)

    return shown


def test_the_presets_are_listed_whole(terminal: Any) -> None:
    shown = terminal(lambda: main(["train", "--list-presets"]))
    for preset in PAPER_PRESETS.values():
        assert preset.name in shown
        assert preset.env_id in shown


def test_the_figures_of_a_run_and_of_an_evaluation_are_whole(terminal: Any) -> None:
    folder = "ordner-[ü]"
    arguments = ["train", "a2c", "CartPole-v1", "--total-env-steps", "64", "--evaluate", "0"]
    shown = terminal(
        lambda: [
            main([*arguments, "--out", folder, "--oracle", "embedded:oracle.db"]),
            main(["train", "--eval-only", folder, "--evaluate", "1"]),
        ]
    )
    for words in ("delivered", "trained", "least", "ordner-["):  # no markup in brackets
        assert words in shown


def test_the_figures_of_the_demo_and_of_the_benchmark_are_whole(terminal: Any) -> None:
    shown = terminal(lambda: [print_demo(DEMO), show(figures_table("trainers", FIGURES))])
    for words in ("neighbours", "without", "bare", "demo [", "kept", "[ours]"):
        assert words in shown


def test_json_is_ascii(terminal: Any) -> None:
    shown = terminal(
        lambda: print_json(Problem(title="t", detail="größer", status=404, code="not_found"))
    )
    assert json.loads(shown)["detail"] == "größer"
    assert shown.isascii()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_printed(arguments: list[str], terminal: Any) -> None:
    def print_it() -> None:
        with contextlib.suppress(SystemExit):  # as argparse ends
            main(arguments)

    assert terminal(print_it)
