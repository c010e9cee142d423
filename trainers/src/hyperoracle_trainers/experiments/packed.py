"""Many results in one file: JSON lines, compressed, the same bytes for the same results.

The first line says what all results share (``constant``) and how many there are; each of the
others is one result without that, in the order of their fingerprints. A result is found by its
cell's name.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hyperoracle_trainers.saved_state import sync_folder

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
    path, unfinished = folder / PACKED, folder / f".{PACKED}.part"
    try:
        with unfinished.open("wb") as file:
            content = "".join(f"{line}\n" for line in lines).encode()
            # The time of writing would be in the file, and tell apart what is the same.
            file.write(gzip.compress(content, _LEVEL, mtime=0))
            file.flush()
            os.fsync(file.fileno())
        if not _holds(unfinished, records):
            raise ResultsError(
                f"{path}: expected to read back what was written, got something else; nothing was "
                "changed: check the disk and write it again"
            )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(folder)  # who removes what is packed now must find it packed after a power failure
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
    return None if line is None else line.unpacked()[1]


class _Line(NamedTuple):
    """A result as it is kept: its text takes a tenth of what it takes unpacked."""

    constant: Record
    text: str

    def unpacked(self) -> tuple[str, Record]:
        """The result's name, and the result with its keys in their order."""
        line = json.loads(self.text)
        every = {**self.constant, **line["result"]}
        return str(line["name"]), {key: every[key] for key in line["keys"]}


def _holds(path: Path, records: Mapping[str, Record]) -> bool:
    """Whether a file holds these results and no others, the order of their keys the same."""
    try:
        lines = _lines(path)
    except ResultsError:
        return False
    return lines.keys() == records.keys() and all(
        # As texts: then numbers that are none are equal, and 1 is not 1.0.
        json.dumps(line.unpacked()[1]) == json.dumps(records[name])
        for name, line in lines.items()
    )


def _lines_of(path: Path) -> dict[str, _Line]:
    status = path.stat()
    return _lines_once(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4)
def _lines_once(path: Path, *state: int) -> dict[str, _Line]:
    del state
    return _lines(path)


def _lines(path: Path) -> dict[str, _Line]:
    """Each result's line, by name; all of them can be unpacked.

    Raises:
        ResultsError: the file is damaged.
    """
    number = 1
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            header = json.loads(file.readline())
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']}")
            found = {}
            for text in file:
                number += 1
                line = _Line(header["constant"], text)
                name, _ = line.unpacked()  # damage is met here, where its line is known
                found[name] = line
            if len(found) != header["results"]:
                raise ValueError(f"{len(found)} of {header['results']} results")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        got = f"no {error}" if isinstance(error, KeyError) else error
        raise ResultsError(
            f"{path}, line {number}: expected packed results, got {got}; "
            "take the file from where it was made"
        ) from None
    return found


def _shared(records: list[Record]) -> Record:
    """What all have, with equal values of equal types."""
    if not records:
        return {}
    first, *others = ({key: json.dumps(value) for key, value in each.items()} for each in records)
    same = [key for key in first if all(each.get(key) == first[key] for each in others)]
    return {key: records[0][key] for key in same if key != "fingerprint"}
