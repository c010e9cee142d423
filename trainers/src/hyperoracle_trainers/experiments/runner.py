"""Makes an experiment's missing runs on all cores, within a time, and says how long they take."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import time
from typing import Any

from hyperoracle_trainers.experiments.definition import Experiment
from hyperoracle_trainers.experiments.plan import Chain, chains_of
from hyperoracle_trainers.experiments.results import is_made, read_made, read_result

Made = Callable[[str], None]
"""Told the name of a run as soon as its result is there."""
ProgressWatch = Callable[["Progress"], None]
"""Told how far the experiment is, at first and after each run."""


class RunnerError(RuntimeError):
    """Runs could not be made; the message is one line with the remedy."""


@dataclass(frozen=True)
class Progress:
    """How far an experiment is.

    Attributes:
        made: runs with a result.
        planned: all runs.
        seconds_left: until all runs of this machine are made, as far as they can be foreseen.
    """

    made: int
    planned: int
    seconds_left: float | None = None


CellKind = tuple[str, str]
"""Task and strategy: runs of one kind take about equally long."""


class Pace:
    """Runs that are missing, and how long such runs took.

    A run is expected to take what runs of its kind took on average, else what those of its task
    took, else what any took.

    Args:
        missing: a kind for each missing run.
    """

    def __init__(self, missing: Iterable[CellKind]) -> None:
        self._missing = Counter(missing)
        self._made_now: Counter[CellKind] = Counter()
        self._seconds: defaultdict[CellKind | str | None, list[float]] = defaultdict(
            lambda: [0.0, 0.0]
        )

    def know(self, kind: CellKind, seconds: float) -> None:
        """Note how long a run took, such as one that was made earlier."""
        for group in (kind, kind[0], None):
            self._seconds[group][0] += seconds
            self._seconds[group][1] += 1

    def make(self, kind: CellKind, seconds: float) -> None:
        """Note that a missing run was made."""
        self.know(kind, seconds)
        self._missing[kind] -= 1
        self._made_now[kind] += 1

    def seconds_left(self, elapsed_seconds: float, processes: int) -> float | None:
        """Return in how many seconds all runs will be made; None if no run says anything.

        Args:
            elapsed_seconds: since the first of the runs that were made now was begun. What they
                were expected to take in this time tells how fast the work goes, whatever slows it.
            processes: that work, to judge by as long as no run was made.
        """
        if not self._seconds:
            return None
        done = sum(self._expected(kind) * number for kind, number in self._made_now.items())
        seconds_each = elapsed_seconds / done if done > 0 else 1.0 / processes
        left = sum(self._expected(kind) * number for kind, number in self._missing.items())
        return left * seconds_each

    def _expected(self, kind: CellKind) -> float:
        group = next(each for each in (kind, kind[0], None) if each in self._seconds)
        total, number = self._seconds[group]
        return total / number


def progress_of(experiment: Experiment, folder: Path) -> Progress:
    """Return how far an experiment is.

    Raises:
        ResultsError: the folder holds results of another definition.
    """
    cells = [cell for chain in chains_of(experiment) for cell in chain.cells]
    return Progress(sum(is_made(folder, cell) for cell in cells), len(cells))


def run_experiment(
    experiment: Experiment,
    folder: Path,
    *,
    command: str,
    processes: int,
    max_minutes: float | None = None,
    shard: tuple[int, int] = (1, 1),
    made: Made = lambda _: None,
    watch: ProgressWatch = lambda _: None,
) -> None:
    """Make the runs that are missing; call it again to go on after whatever stopped it.

    Args:
        experiment: the definition.
        folder: of the results; made if missing.
        command: for the record.
        processes: that make chains, each one chain after the other: to start one takes seconds.
        max_minutes: no run begins that would not end within this time, if it takes what the
            chain's last one took, and what still runs then is stopped; None takes what it takes.
        shard: ``(i, n)`` makes every n-th chain from the i-th on, i from 1: one for each of n
            machines, whose results are merged afterwards.
        made: told of each run.
        watch: told how far it is.

    Raises:
        RunnerError: a run failed, or its process died.
        ResultsError: the folder holds results of another definition.
    """
    deadline = None if max_minutes is None else time() + 60 * max_minutes
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process of each core uses that core
    work = _Work(experiment, folder, shard, processes)
    waiting = deque(work.chains)

    def note(name: str) -> None:
        work.note(name)
        made(name)
        watch(work.progress())

    watch(work.progress())
    working: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(processes, len(waiting))):
            worker = _Worker(waiting.popleft(), experiment, folder, command, deadline)
            working[worker.messages] = worker
        while working and not _is_over(deadline):
            seconds = None if deadline is None else max(0.0, deadline - time())
            for ready in wait(list(working), seconds):
                worker = working[ready]  # type: ignore[index] # only connections were waited for
                if worker.listen(note):
                    continue
                if waiting:
                    worker.give(waiting.popleft())
                else:
                    worker.kill()
                    del working[worker.messages]
    finally:
        for worker in working.values():
            worker.kill()


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time() >= deadline


class _Work:
    """What an experiment still needs of this machine.

    Attributes:
        chains: that are not complete.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, shard: tuple[int, int], processes: int
    ) -> None:
        self._folder, self._processes = folder, processes
        first, machines = shard
        every = chains_of(experiment)
        cells = [cell for chain in every for cell in chain.cells]
        found = ((cell, read_made(folder, cell)) for cell in cells)
        known = {cell.name: record for cell, record in found if record is not None}
        self._made, self._planned = len(known), len(cells)
        self.chains = [
            chain
            for chain in every[first - 1 :: machines]
            if any(cell.name not in known for cell in chain.cells)
        ]
        self._pace = Pace(
            (cell.task, cell.strategy)
            for chain in self.chains
            for cell in chain.cells
            if cell.name not in known
        )
        for record in known.values():
            self._pace.know((record["task"], record["strategy"]), record["wall_seconds"])
        self._began = time()

    def note(self, name: str) -> None:
        """Count a run that was made now."""
        record = read_result(self._folder, name)
        assert record is not None
        self._pace.make((record["task"], record["strategy"]), record["wall_seconds"])
        self._made += 1

    def progress(self) -> Progress:
        """Return how far the experiment is."""
        left = self._pace.seconds_left(time() - self._began, self._processes)
        return Progress(self._made, self._planned, left)


class _Worker:
    """A process that makes chains.

    Args:
        chain: the first.
        *arguments: of :func:`_work`.

    Attributes:
        messages: what it says.
    """

    def __init__(self, chain: Chain, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.messages, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs, *arguments))
        self._process.start()
        theirs.close()
        self.give(chain)

    def give(self, chain: Chain) -> None:
        """Let it make a chain; only when it makes none."""
        self._chain = chain
        self.messages.send(chain)

    def listen(self, made: Made) -> bool:
        """Take one message; False if it is that the chain is made.

        Raises:
            RunnerError: it failed, or died.
        """
        try:
            kind, text = self.messages.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise RunnerError(
                f"{self._chain.name}: expected its process to live, got exit code "
                f"{self._process.exitcode} (a kill, or no memory left); run again to go on"
            ) from None
        if kind == "failed":
            raise RunnerError(
                f"{self._chain.name}: expected runs, got {text}; "
                "correct that and run again to go on"
            )
        if kind == "made":
            made(text)
        return bool(kind == "made")

    def kill(self) -> None:
        """End it at once: what it has not finished counts for nothing."""
        self._process.kill()
        self._process.join()
        self.messages.close()


def _work(
    parent: Connection,
    experiment: Experiment,
    folder: Path,
    command: str,
    deadline: float | None,
) -> None:
    """Make the chains that the parent sends, until it ends this process."""
    from hyperoracle_trainers.experiments.memory_chain import make_chain

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        chain = parent.recv()
        try:
            make_chain(
                experiment,
                chain,
                folder,
                command=command,
                may_go_on=lambda seconds: deadline is None or time() + seconds < deadline,
                made=lambda cell: parent.send(("made", cell.name)),
            )
        except Exception as error:  # whatever it is, the parent reports it
            parent.send(("failed", f"{type(error).__name__}: {error}"))
        else:
            parent.send(("done", chain.name))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
