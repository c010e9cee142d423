"""Makes the runs of one study after each other, so that a kill at any moment costs one run.

The memory after ``k`` generations of runs is a folder ``k``. The next generation works on a copy;
its results are put beside the store in that copy, and renaming the copy to ``k + 1`` is the one
moment at which both the memory and the results begin to exist.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hyperoracle_client import Oracle
from hyperoracle_trainers.experiments.cell_run import make_run
from hyperoracle_trainers.experiments.definition import Experiment
from hyperoracle_trainers.experiments.packed import Record, ResultsError
from hyperoracle_trainers.experiments.plan import Cell, Chain
from hyperoracle_trainers.experiments.results import is_made, provenance, result_file, write_record

MEMORIES = "memories"
"""Folder, beside the results, of the memories of chains that are not complete."""

_PATIENCE_SECONDS = (
    60.0  # the most there is: a busy machine must not turn an oracle's answer into a default
)
_WORK = "work"


def make_chain(
    experiment: Experiment,
    chain: Chain,
    folder: Path,
    *,
    command: str,
    may_go_on: Callable[[float], bool],
    made: Callable[[Cell], None],
) -> None:
    """Make the runs of a chain that are missing.

    Args:
        experiment: the definition.
        chain: which.
        folder: of the results.
        command: that made them, for the record.
        may_go_on: asked before each generation, with the seconds that the last one took (0 at
            first).
        made: told of each run as soon as its result is there.

    Raises:
        ResultsError: results of another definition, or results without the memory that they left.
        OracleError: the oracle refuses or fails.
    """
    memories = folder / MEMORIES / chain.name
    with _only_one(folder / MEMORIES, chain.name):
        for cell in _publish(memories, chain, folder):
            made(cell)
        first = _first_missing(chain, folder)
        seconds = 0.0
        for index in range(first, len(chain.generations)):
            if not may_go_on(seconds):
                return
            records = _make_generation(experiment, chain, index, memories, command)
            seconds = max(record["wall_seconds"] for record in records)
            for cell in _publish(memories, chain, folder):
                made(cell)
        shutil.rmtree(memories, ignore_errors=True)


def _first_missing(chain: Chain, folder: Path) -> int:
    """Return the number of the first generation without results."""
    complete = [all(is_made(folder, cell) for cell in each) for each in chain.generations]
    first = complete.index(False) if False in complete else len(complete)
    kept = folder / MEMORIES / chain.name / str(first)
    if chain.asks_oracle and 0 < first < len(complete) and not kept.is_dir():
        raise ResultsError(
            f"{chain.name}: expected the memory that its {first} made generations left, got none; "
            "go on where they were made, or begin in another --results folder"
        )
    return first


def _make_generation(
    experiment: Experiment, chain: Chain, index: int, memories: Path, command: str
) -> list[Record]:
    """Make the runs of a generation, and let their results and the memory exist at once."""
    cells = chain.generations[index]
    before, work = memories / str(index), memories / _WORK
    shutil.rmtree(work, ignore_errors=True)
    if index and chain.asks_oracle:
        shutil.copytree(before, work)
    else:
        work.mkdir(parents=True)

    def make(cell: Cell) -> Record:
        return {
            "experiment": experiment.name,
            "purpose": experiment.tables.purpose,
            **vars(cell),
            **make_run(experiment, chain, cell, oracle),
            "command": command,
            **provenance(),
        }

    with _memory_in(work) if chain.asks_oracle else nullcontext(None) as oracle:
        if len(cells) == 1:
            records = [make(cells[0])]
        else:
            with ThreadPoolExecutor(len(cells)) as at_once:
                records = list(at_once.map(make, cells))
    for cell, record in zip(cells, records, strict=True):
        write_record(result_file(work, cell), record)
    work.rename(memories / str(index + 1))
    return records


def _publish(memories: Path, chain: Chain, folder: Path) -> list[Cell]:
    """Move the results that lie beside the newest memory to the others; return their cells."""
    kept = sorted((int(each.name) for each in memories.glob("[0-9]*")), reverse=True)
    published = []
    if kept:
        for cell in chain.cells:
            waiting = result_file(memories / str(kept[0]), cell)
            if waiting.exists():
                waiting.replace(result_file(folder, cell))
                published.append(cell)
    for old in kept[1:]:
        shutil.rmtree(memories / str(old))
    return published


@contextmanager
def _memory_in(folder: Path) -> Iterator[Oracle]:
    with Oracle(
        f"embedded:{folder / 'oracle.db'}",
        on_error="raise",
        propose_deadline_seconds=_PATIENCE_SECONDS,
        start_deadline_seconds=_PATIENCE_SECONDS,
    ) as oracle:
        yield oracle


@contextmanager
def _only_one(folder: Path, name: str) -> Iterator[None]:
    """Wait until no other process makes the chain; the kernel ends a dead one's turn."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
