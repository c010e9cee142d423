"""The runner with real processes, real runs and a real memory."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_trainers.experiments.definition import Experiment
from hyperoracle_trainers.experiments.results import read_results, result_file
from hyperoracle_trainers.experiments.runner import (
    Progress,
    RunnerError,
    progress_of,
    run_experiment,
)

CART_POLE = ("BriefCartPole-v0", "CartPole-v1")
ONE_MEMORY = ("memories = 2", "memories = 1")
RUNNER = """
import sys
from pathlib import Path
from hyperoracle_trainers.experiments.definition import read_definition
from hyperoracle_trainers.experiments.runner import run_experiment

if __name__ == "__main__":
    experiment = read_definition(Path(sys.argv[1]))
    run_experiment(
        experiment, Path(sys.argv[2]), command="killed", processes=1,
        made=lambda name: print(name, flush=True),
    )
"""


def without_control_runs(experiment: Experiment, folder: Path) -> None:
    """Plant what needs no oracle, so that only the chains with a memory are made."""
    for cell in cells_of(experiment):
        if cell.strategy in ("default", "random_policy"):
            plant(folder, cell, 20.0)


def test_a_killed_experiment_goes_on_without_repeating_or_losing_a_run(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, CART_POLE, ONE_MEMORY, ("[0, 2]", "[0, 5]"))
    folder = tmp_path / "results"
    without_control_runs(experiment, folder)
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    chain = [cell for cell in cells_of(experiment) if cell.strategy == "best_config"]
    command = [sys.executable, str(script), str(tmp_path / "tiny.toml"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == chain[0].name
        process.send_signal(signal.SIGKILL)
    before = {cell: result_file(folder, cell) for cell in chain}
    before_bytes = {cell: path.read_bytes() for cell, path in before.items() if path.exists()}
    assert 1 <= len(before_bytes) < len(chain), "the kill came too late to show anything"

    run_experiment(experiment, folder, command="gone on", processes=1)

    assert progress_of(experiment, folder) == Progress(9, 9)
    for cell, content in before_bytes.items():
        assert result_file(folder, cell).read_bytes() == content
    records = read_results(folder, chain)
    assert len({record["oracle_job"]["id"] for record in records}) == len(chain)
    assert {record["command"] for record in records} == {"killed", "gone on"}


def test_a_run_does_not_depend_on_what_its_process_made_before(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, CART_POLE, ONE_MEMORY, ("best_config", "random"))
    together, apart = tmp_path / "together", tmp_path / "apart"
    run_experiment(experiment, together, command="test", processes=1)
    run_experiment(experiment, apart, command="test", processes=1, shard=(3, 3))  # one chain
    cells = [cell for cell in cells_of(experiment) if cell.strategy == "random"]
    assert len(cells) == 2
    pairs = zip(read_results(together, cells), read_results(apart, cells), strict=True)
    assert all(one["phases"] == other["phases"] for one, other in pairs)


def test_what_a_strategy_is_refused_for_is_told_with_the_chain(tmp_path: Path) -> None:
    experiment = tiny(
        tmp_path, CART_POLE, ONE_MEMORY, ("strategies.best_config", "strategies.nobody")
    )
    without_control_runs(experiment, tmp_path)
    with pytest.raises(RunnerError, match="brief--nobody--memory000: expected runs, got") as caught:
        run_experiment(experiment, tmp_path, command="test", processes=1)
    assert "\n" not in str(caught.value)


def test_it_ends_in_time_and_leaves_no_process(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, CART_POLE, ("= 64", "= 10_000_000"))
    started = monotonic()
    run_experiment(experiment, tmp_path, command="test", processes=2, max_minutes=0.02)
    assert monotonic() - started < 30
    assert progress_of(experiment, tmp_path).made == 0
    assert multiprocessing.active_children() == []
