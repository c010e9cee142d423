"""Results in a folder: a small compressed file for each run, until many are packed into one."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import platform
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hyperoracle_trainers.experiments.packed import (
    PACKED,
    Record,
    ResultsError,
    packed_names,
    read_packed,
    write_packed,
)
from hyperoracle_trainers.experiments.plan import Cell
from hyperoracle_trainers.runs.log import package_versions

ENDING = ".json.gz"
"""Of a result's file name."""
_ORACLE_PACKAGES = ("hyperoracle-client", "hyperoracle-protocol", "hyperoracle-server")


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
    except (OSError, EOFError, zlib.error, ValueError) as error:
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
    record = read_result(folder, cell.name)
    if record is None:
        return None
    got = record["fingerprint"]
    if got != cell.fingerprint:
        raise ResultsError(
            f"{_place_of(folder, cell.name)}: expected a result of this definition "
            f"({cell.fingerprint}), got one of another ({got}); "
            "give the changed experiment another name or --results folder"
        )
    return record


def read_result(folder: Path, name: str) -> Record | None:
    """Return a result by its run's name, from the run's own file or from that of many.

    Raises:
        ResultsError: the file is damaged.
    """
    path = folder / f"{name}{ENDING}"
    try:
        return read_record(path)
    except ResultsError:
        if path.exists():
            raise
        # There is none, or it has been packed since: packed results are written before the
        # files that they were in are removed.
        return read_packed(folder, name)


def read_results(folder: Path, cells: Iterable[Cell]) -> list[Record]:
    """Return the results that are there, in the cells' order.

    Raises:
        ResultsError: a file is damaged, or of another definition.
    """
    found = (read_made(folder, cell) for cell in cells)
    return [record for record in found if record is not None]


def pack_results(
    folder: Path, packed: Callable[[int, int], None] = lambda *_: None
) -> tuple[int, int]:
    """Pack the results of a folder into one file, and remove the files that they were in.

    Args:
        folder: of results.
        packed: told how many of how many files have been read or removed.

    Returns:
        How many results are in the file, and how many of them are there since now.

    Raises:
        ResultsError: there is no result, a file is damaged, or one run has two results that were
            not made from the same definition. Then nothing was changed.
    """
    if not folder.is_dir():
        raise ResultsError(f"{folder}: expected results, got none; correct the folder")
    with _alone_in(folder):
        paths = sorted(folder.glob(f"*{ENDING}"))
        names = set(packed_names(folder))
        if not paths and not names:
            raise ResultsError(f"{folder}: expected results, got none; correct the folder")
        found = ((name, read_packed(folder, name)) for name in names)
        records = {name: record for name, record in found if record is not None}
        steps = 2 * len(paths)
        for step, path in enumerate(paths, 1):
            record, name = read_record(path), _name_of(path)
            if name in records:
                _check_same(path, record, folder / PACKED, records[name])
            records[name] = record
            packed(step, steps)
        write_packed(folder, records)
        for step, path in enumerate(paths, len(paths) + 1):
            path.unlink()
            packed(step, steps)
    return len(records), len(records.keys() - names)


def merge_results(sources: Iterable[Path], target: Path) -> tuple[int, int]:
    """Copy results of other machines into a folder.

    Args:
        sources: folders of results.
        target: where to; made if missing.

    Returns:
        How many results were copied, and how many were there already.

    Raises:
        ResultsError: a source is no folder, a file is damaged, or one run has two results that
            were not made from the same definition. Then nothing was copied.
    """
    wanted: dict[str, tuple[Path, Record]] = {}
    known = 0
    for source in sources:
        if not source.is_dir():
            raise ResultsError(f"{source}: expected a folder of results, got none; correct it")
        names = {_name_of(path) for path in source.glob(f"*{ENDING}")} | set(packed_names(source))
        for name in sorted(names):
            record = read_result(source, name)
            assert record is not None
            before = read_result(target, name)
            is_known = before is not None or name in wanted
            where, ours = wanted.get(name, (target, before))
            if ours is not None:
                _check_same(_place_of(source, name), record, _place_of(where, name), ours)
            else:
                wanted[name] = source, record
            known += is_known
    target.mkdir(parents=True, exist_ok=True)
    for name, (_, record) in wanted.items():
        write_record(target / f"{name}{ENDING}", record)
    return len(wanted), known


def _name_of(path: Path) -> str:
    return path.name.removesuffix(ENDING)


def _place_of(folder: Path, name: str) -> Path:
    """The file that a result is in."""
    path = folder / f"{name}{ENDING}"
    return path if path.exists() else folder / PACKED


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process packs the folder: the later would undo what the earlier did."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _check_same(path: Path, record: Record, known_path: Path, known: Record) -> None:
    ours, theirs = known["fingerprint"], record["fingerprint"]
    if ours != theirs:
        raise ResultsError(
            f"{path}: expected a result of the same definition as {known_path} ({ours}), got "
            f"{theirs}; merge only results of one definition"
        )


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
