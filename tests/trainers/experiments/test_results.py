from __future__ import annotations

from pathlib import Path

import pytest
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_trainers.experiments.results import (
    ResultsError,
    is_made,
    merge_results,
    read_results,
)


def test_results_of_two_machines_are_merged(tmp_path: Path) -> None:
    cells = cells_of(tiny(tmp_path))
    here, there, both = tmp_path / "here", tmp_path / "there", tmp_path / "both"
    for cell in cells[:6]:
        plant(here, cell, 1.0)
    for cell in cells[4:]:
        plant(there, cell, 2.0)
    assert merge_results([here, there], both) == (len(cells), 2)
    returns = [each["phases"]["mean_return"][0] for each in read_results(both, cells)]
    assert returns == [1.0] * 6 + [2.0] * (len(cells) - 6)
    assert merge_results([here, there], both) == (0, len(cells) + 2)


def test_results_of_another_definition_are_not_merged(tmp_path: Path) -> None:
    cell = cells_of(tiny(tmp_path))[0]
    here, there = tmp_path / "here", tmp_path / "there"
    plant(here, cell, 1.0)
    plant(there, cell, 1.0, fingerprint="0" * 16)
    with pytest.raises(ResultsError, match="expected a result of the same definition"):
        merge_results([there], here)
    with pytest.raises(ResultsError, match="expected a folder of results"):
        merge_results([tmp_path / "nowhere"], here)


def test_a_result_of_another_definition_is_not_taken_for_this_one(tmp_path: Path) -> None:
    cell = cells_of(tiny(tmp_path))[0]
    assert not is_made(tmp_path, cell)
    plant(tmp_path, cell, 1.0)
    assert is_made(tmp_path, cell)
    plant(tmp_path, cell, 1.0, fingerprint="0" * 16)
    with pytest.raises(ResultsError, match="give the changed experiment another name"):
        is_made(tmp_path, cell)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:40], lambda content: content[:12] + b"\xff" * 8 + content[20:]],
    ids=["cut short", "overwritten"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    cell = cells_of(tiny(tmp_path))[0]
    path = plant(tmp_path, cell, 1.0)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ResultsError, match="remove the file and run again"):
        read_results(tmp_path, [cell])
