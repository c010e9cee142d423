"""A chain with stand-ins for runs and their memory: the memory is a list of the runs in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trainers.experiments.planted import tiny

from hyperoracle_trainers.experiments import memory_chain
from hyperoracle_trainers.experiments.definition import Experiment
from hyperoracle_trainers.experiments.memory_chain import MEMORIES, make_chain
from hyperoracle_trainers.experiments.packed import ResultsError
from hyperoracle_trainers.experiments.plan import Cell, Chain, chains_of
from hyperoracle_trainers.experiments.results import is_made, read_results


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def memory_in(folder: Path) -> Iterator[Path]:
        yield folder / "runs"

    def make_run(experiment: Experiment, chain: Chain, cell: Cell, memory: Any) -> dict[str, Any]:
        known = memory.read_text().split() if memory.exists() else []
        with memory.open("a") as file:
            file.write(f"{cell.job} ")
        return {"status": "completed", "known": known, "wall_seconds": 5.0}

    monkeypatch.setattr(memory_chain, "_memory_in", memory_in)
    monkeypatch.setattr(memory_chain, "make_run", make_run)


def make(
    experiment: Experiment, folder: Path, may_go_on: Callable[[float], bool] = lambda _: True
) -> tuple[Chain, list[str]]:
    chain = next(chain for chain in chains_of(experiment) if "--best_config--" in chain.name)
    made: list[str] = []
    make_chain(
        experiment, chain, folder, command="test", may_go_on=may_go_on,
        made=lambda cell: made.append(cell.name),
    )  # fmt: skip
    return chain, made


def test_each_run_knows_those_before_it_and_no_memory_is_left(tmp_path: Path) -> None:
    chain, made = make(tiny(tmp_path), tmp_path)
    assert made == [cell.name for cell in chain.cells]
    known = [each["known"] for each in read_results(tmp_path, chain.cells)]
    assert known == [[], ["0"], ["0", "1"]]
    assert [path for path in (tmp_path / MEMORIES).iterdir() if path.is_dir()] == []
    assert make(tiny(tmp_path), tmp_path)[1] == []


@pytest.mark.parametrize("calls_before", range(8))
@pytest.mark.parametrize("step", ["make_run", "write_record", "rename", "replace", "rmtree"])
def test_a_kill_at_any_step_repeats_no_result_and_loses_none(
    step: str, calls_before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder: Any = {
        "make_run": memory_chain, "write_record": memory_chain, "rename": Path, "replace": Path,
        "rmtree": memory_chain.shutil,
    }[step]  # fmt: skip
    real, calls = getattr(holder, step), 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > calls_before:
            raise Killed
        return real(*arguments, **options)

    experiment = tiny(tmp_path)
    chain = next(chain for chain in chains_of(experiment) if "--best_config--" in chain.name)
    with monkeypatch.context() as patch:
        patch.setattr(holder, step, deadly)
        try:
            make(experiment, tmp_path)
        except Killed:
            pass
        else:
            assert calls <= calls_before
    before = {each["job"]: each for each in read_results(tmp_path, chain.cells)}
    _, made = make(experiment, tmp_path)
    after = read_results(tmp_path, chain.cells)
    assert [each["known"] for each in after] == [[], ["0"], ["0", "1"]]
    assert len(made) == len(after) - len(before)
    assert all(after[job] == each for job, each in before.items())


def test_a_run_that_would_end_too_late_is_not_begun(tmp_path: Path) -> None:
    asked: list[float] = []

    def may_go_on(seconds: float) -> bool:
        asked.append(seconds)
        return len(asked) < 2

    chain, made = make(tiny(tmp_path), tmp_path, may_go_on)
    assert asked == [0.0, 5.0]
    assert len(made) == 1
    assert [is_made(tmp_path, cell) for cell in chain.cells] == [True, False, False]
    assert len(make(tiny(tmp_path), tmp_path)[1]) == 2


def test_runs_at_once_begin_with_the_same_memory(tmp_path: Path) -> None:
    experiment = tiny(tmp_path, ("memories = 2", "memories = 2\nconcurrent_jobs = 2"))
    chain, _ = make(experiment, tmp_path)
    records = read_results(tmp_path, chain.cells)
    assert [each["earlier_runs"] for each in records] == [0, 0, 2, 2]
    assert all({"0", "1"} <= set(each["known"]) for each in records[2:])


def test_results_without_their_memory_are_not_gone_on_with(tmp_path: Path) -> None:
    make(tiny(tmp_path), tmp_path, _once())
    memory_chain.shutil.rmtree(tmp_path / MEMORIES)
    with pytest.raises(ResultsError, match="expected the memory that its 1 made generations left"):
        make(tiny(tmp_path), tmp_path)


def _once() -> Callable[[float], bool]:
    answers = iter([True, False])
    return lambda _: next(answers)
