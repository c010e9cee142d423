"""Results in a folder: one small compressed file for each run, written once."""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hyperoracle_trainers.experiments.plan import Cell
from hyperoracle_trainers.runs.log import package_versions

Record = dict[str, Any]
"""A run's cell, outcome, and what it was made with."""

ENDING = ".json.gz"
"""Of a result's file name."""
_ORACLE_PACKAGES = ("hyperoracle-client", "hyperoracle-protocol", "hyperoracle-server")


class ResultsError(ValueError):
    """Results do not belong together; the message is one line with the remedy."""


def result_file(folder: Path, cell: Cell) -> Path:
    """Return where a run's result is, or will be."""
    return folder / f"{cell.name}{ENDING}"


def write_record(path: Path, record: Record) -> None:
    """Write a result so that the file is either complete or not there."""
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(gzip.compress(json.dumps(record).encode(), mtime=0))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_record(path: Path) -> Record:
    """Read a result.

    Raises:
        ResultsError: the file is damaged.
    """
    try:
        record: Record = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise ResultsError(
            f"{path}: expected a result, got {error}; remove the file and run again"
        ) from None
    return record


def is_made(folder: Path, cell: Cell) -> bool:
    """Whether a run has its result.

    Raises:
        ResultsError: there is one, but of another definition.
    """
    return read_made(folder, cell) is not None


def read_made(folder: Path, cell: Cell) -> Record | None:
    """Return a run's result, None as long as there is none.

    Raises:
        ResultsError: the file is damaged, or of another definition.
    """
    path = result_file(folder, cell)
    if not path.exists():
        return None
    record = read_record(path)
    got = record["fingerprint"]
    if got != cell.fingerprint:
        raise ResultsError(
            f"{path}: expected a result of this definition ({cell.fingerprint}), got one of "
            f"another ({got}); give the changed experiment another name or --results folder"
        )
    return record


def read_results(folder: Path, cells: Iterable[Cell]) -> list[Record]:
    """Return the results that are there, in the cells' order.

    Raises:
        ResultsError: a file is damaged, or of another definition.
    """
    found = (read_made(folder, cell) for cell in cells)
    return [record for record in found if record is not None]


def merge_results(sources: Iterable[Path], target: Path) -> tuple[int, int]:
    """Copy results of other machines into a folder.

    Args:
        sources: folders of results.
        target: where to; made if missing.

    Returns:
        How many files were copied, and how many were there already.

    Raises:
        ResultsError: a source is no folder, a file is damaged, or one run has two results that
            were not made from the same definition. Then nothing was copied.
    """
    wanted: dict[str, Path] = {}
    known = 0
    for source in sources:
        if not source.is_dir():
            raise ResultsError(f"{source}: expected a folder of results, got none; correct it")
        for path in sorted(source.glob(f"*{ENDING}")):
            before = target / path.name
            if not before.exists():
                before = wanted.setdefault(path.name, path)
            ours, theirs = read_record(before)["fingerprint"], read_record(path)["fingerprint"]
            if ours != theirs:
                raise ResultsError(
                    f"{path}: expected a result of the same definition as {before} ({ours}), got "
                    f"{theirs}; merge only results of one definition"
                )
            known += before != path
    target.mkdir(parents=True, exist_ok=True)
    for name, path in wanted.items():
        unfinished = target / f".{name}.part"
        shutil.copyfile(path, unfinished)
        unfinished.replace(target / name)
    return len(wanted), known


@cache
def provenance() -> dict[str, Any]:
    """Return what a run was made with: commit, package versions, machine."""
    packages = {**package_versions(), **{name: version(name) for name in _ORACLE_PACKAGES}}
    return {
        "commit": _commit(),
        "packages": packages,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _commit() -> str | None:
    """Return the commit of these sources, with "+changes" if they differ; None if unknown."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(  # noqa: S603 # our own command, no shell
            [*command, "--dirty=+changes"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip() or None
