"""Many results in one file: JSON lines, compressed, the same bytes for the same results.

The first line says what all results share (``constant``) and how many there are; each of the
others is one result without that, in the order of their fingerprints. A result is found by its
cell's name.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""A run's cell, outcome, and what it was made with."""

PACKED = "runs.jsonl.gz"
"""Name of the file, in the folder of an experiment's results."""

FORMAT = 1
_LEVEL = 9


class ResultsError(ValueError):
    """Results cannot be used; the message is one line with the remedy."""


def write_packed(folder: Path, records: Mapping[str, Record]) -> Path:
    """Write results so that the file is either complete or not there; what was in it is replaced.

    Args:
        folder: where the file lies.
        records: results by their cells' names.

    Returns:
        The file, read back and found to hold these results.

    Raises:
        ResultsError: what was written is not what is read back; the former file is still there.
    """
    constant = _shared(list(records.values()))
    header = {"format": FORMAT, "results": len(records), "constant": constant}
    lines = [json.dumps(header)]
    for name in sorted(records, key=lambda each: (records[each].get("fingerprint", ""), each)):
        own = {key: value for key, value in records[name].items() if key not in constant}
        # The order of keys is part of a result: reports print some of them in it.
        lines.append(json.dumps({"name": name, "keys": list(records[name]), "result": own}))
    unfinished = folder / f".{PACKED}.part"
    with unfinished.open("wb") as file:
        content = "".join(f"{line}\n" for line in lines).encode()
        file.write(gzip.compress(content, _LEVEL, mtime=0))
        file.flush()
        os.fsync(file.fileno())
    read = {name: _record(unfinished, line) for name, line in _lines(unfinished).items()}
    if {n: json.dumps(r) for n, r in read.items()} != {
        n: json.dumps(r) for n, r in records.items()
    }:
        unfinished.unlink()
        raise ResultsError(f"{unfinished}: expected what was written, got something else")
    path = folder / PACKED
    unfinished.replace(path)
    return path


def packed_names(folder: Path) -> Iterator[str]:
    """The names of the results in a folder's file; none where there is no file.

    Raises:
        ResultsError: the file is damaged.
    """
    path = folder / PACKED
    if path.exists():
        yield from _lines_of(path)


def read_packed(folder: Path, name: str) -> Record | None:
    """A result from a folder's file; None where it is not there.

    Raises:
        ResultsError: the file is damaged.
    """
    path = folder / PACKED
    if not path.exists():
        return None
    line = _lines_of(path).get(name)
    return None if line is None else _record(path, line)


def _lines_of(path: Path) -> dict[str, tuple[Record, str]]:
    status = path.stat()
    return _lines_once(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4)
def _lines_once(path: Path, *state: int) -> dict[str, tuple[Record, str]]:
    del state
    return _lines(path)


def _lines(path: Path) -> dict[str, tuple[Record, str]]:
    """Each result's line, and what all share, by name.

    Raises:
        ResultsError: the file is damaged.
    """
    number = 1
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            header = json.loads(next(file))
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']}")
            found = {}
            for line in file:
                number += 1
                found[str(json.loads(line)["name"])] = header["constant"], line
            if len(found) != header["results"]:
                raise ValueError(f"{len(found)} of {header['results']} results")
    except (OSError, EOFError, StopIteration, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}, line {number}: expected packed results, got "
            f"{error or type(error).__name__}; take the file from where it was made"
        ) from None
    return found


def _record(path: Path, line: tuple[Record, str]) -> Record:
    constant, text = line
    packed = json.loads(text)
    every = {**constant, **packed["result"]}
    try:
        return {key: every[key] for key in packed["keys"]}
    except (KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: {packed['name']}: expected a result, got {error!r}; "
            "take the file from where it was made"
        ) from None


def _texts(records: Mapping[str, Record]) -> dict[str, str]:
    """Results by which not even a number that is none or the order of keys differs unseen."""
    return {name: json.dumps(record) for name, record in records.items()}


def _shared(records: list[Record]) -> Record:
    """What all have, with equal values of equal types."""
    if not records:
        return {}
    first, *others = ({key: json.dumps(value) for key, value in each.items()} for each in records)
    same = [key for key in first if all(each.get(key) == first[key] for each in others)]
    return {key: records[0][key] for key in same if key != "fingerprint"}
