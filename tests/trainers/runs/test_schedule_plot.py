from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from hyperoracle_trainers.algorithms.decisions import BaseSchedule
from hyperoracle_trainers.runs.log import PlacedDecision, RunHistory
from hyperoracle_trainers.runs.schedule_plot import plot_schedule, running_mean

NAMES = ["learning_rate", "clip_range"]


def history(name: str, shift: float = 0.0) -> RunHistory:
    """Three phases of two decisions each, the first of each phase by chance."""
    decisions = [
        PlacedDecision(
            env_step=100.0 + 50 * index,
            phase=index // 2,
            values={"learning_rate": 1e-3 + shift, "clip_range": 0.1 + 0.1 * (index % 2)},
            explored=index % 2 == 0,
        )
        for index in range(6)
    ]
    return RunHistory(
        name=name,
        episode_env_steps=[20.0, 40.0, 300.0],
        episode_returns=[1.0, 3.0, 5.0],
        decisions=decisions,
        end_env_step=400.0,
        total_env_steps=300,
        base=BaseSchedule({"learning_rate": 1e-3, "clip_range": 0.2}, {"learning_rate"}),
    )


@pytest.fixture
def figure() -> Figure:
    jobs = [history("job 1"), history("job 2", 1e-4)]
    return plot_schedule(jobs, NAMES, title="Two jobs", references=[history("alone")])


def labels(figure: Figure, panel: int) -> list[str]:
    return [line.get_label() for line in figure.axes[panel].lines]


def test_there_is_a_panel_for_returns_and_one_for_each_hyperparameter(figure: Figure) -> None:
    assert len(figure.axes) == 3
    assert [axis.get_title() for axis in figure.axes[1:]] == ["Learning rate", "Clip range"]
    assert all(axis.get_ylabel() for axis in figure.axes)
    assert figure.axes[-1].get_xlabel() == "env steps"
    assert figure.get_suptitle() == "Two jobs"
    assert {axis.get_xlim() for axis in figure.axes} == {(0.0, 400.0)}


def test_the_legend_names_jobs_and_references(figure: Figure) -> None:
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["job 1", "job 2", "alone"]
    signs = figure.axes[1].get_legend().get_texts()
    assert "chosen by chance" in [text.get_text() for text in signs]


def test_returns_are_dots_with_their_running_mean(figure: Figure) -> None:
    dots, mean = figure.axes[0].lines[:2]
    assert list(dots.get_ydata()) == [1.0, 3.0, 5.0]
    assert dots.get_linestyle() == "None"
    assert list(mean.get_ydata()) == pytest.approx([1.0, 2.0, 3.0])
    assert len(figure.axes[0].lines) == 6


def test_each_job_has_its_decisions_exploration_and_phase_means(figure: Figure) -> None:
    panel = figure.axes[2]
    assert len(panel.collections) == 2, "the decisions of each job"
    assert len(panel.collections[0].get_segments()) == 6
    base, explored, means = panel.lines[:3]
    assert list(base.get_ydata()) == [0.2, 0.2]
    assert list(explored.get_xdata()) == [100.0, 200.0, 300.0]
    assert list(means.get_ydata()) == pytest.approx([0.15] * 4)
    assert list(means.get_xdata()) == [100.0, 200.0, 300.0, 400.0]
    assert means.get_drawstyle() == "steps-post"
    assert labels(figure, 2)[2::2] == ["job 1", "job 2"]


def test_the_base_value_falls_where_it_is_decayed(figure: Figure) -> None:
    base = figure.axes[1].lines[0]
    assert list(base.get_xdata()) == [0, 300]
    assert list(base.get_ydata()) == [1e-3, 0.0]


def test_jobs_without_decisions_or_episodes_are_drawn_too() -> None:
    empty = dataclasses.replace(
        history("empty"), episode_env_steps=[], episode_returns=[], decisions=[]
    )
    figure = plot_schedule([empty], NAMES, title="")
    assert [len(axis.lines) for axis in figure.axes] == [2, 1, 1]


def test_the_figure_is_saved_as_a_picture(figure: Figure, tmp_path: Path) -> None:
    figure.savefig(tmp_path / "schedule.png")
    content = (tmp_path / "schedule.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1200, 864)
    assert len(content) > 20_000, "a blank picture of this size has about 5 kB"


@pytest.mark.slow
def test_no_global_state_of_pyplot_is_touched() -> None:
    code = (
        "import sys, hyperoracle_trainers.runs.schedule_plot; "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_running_mean_is_that_of_the_last_values() -> None:
    values = np.random.default_rng(0).normal(size=50)
    slow = [values[max(0, index - 19) : index + 1].mean() for index in range(50)]
    # Differences of cumulated sums round: 1e-12 is far above that for 50 values near 1.
    np.testing.assert_allclose(running_mean(values.tolist()), slow, atol=1e-12)
    assert running_mean([]).shape == (0,)
