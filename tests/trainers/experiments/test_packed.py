"""Packed results are the results: the same, in one file, the same bytes again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_client.cli import main
from hyperoracle_trainers.experiments.packed import (
    PACKED,
    ResultsError,
    packed_names,
    read_packed,
    write_packed,
)
from hyperoracle_trainers.experiments.report import write_report
from hyperoracle_trainers.experiments.results import merge_results, pack_results, read_results
from hyperoracle_trainers.experiments.runner import progress_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=3), each, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.builds(lambda more, fingerprint: {**more, "fingerprint": fingerprint},
              st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.text(max_size=4)),
    max_size=5,
)  # fmt: skip


@given(records=RECORDS)
def test_what_is_read_back_is_what_was_written_keys_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, records
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    write_packed(folder, records)
    assert set(packed_names(folder)) == set(records)
    for name, record in records.items():
        assert json.dumps(read_packed(folder, name)) == json.dumps(record)


@given(records=RECORDS, order=st.randoms())
def test_the_bytes_are_those_of_the_results_and_of_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, records, order
) -> None:
    names = list(records)
    order.shuffle(names)
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    again = write_packed(other, {name: records[name] for name in names}).read_bytes()
    assert write_packed(one, records).read_bytes() == again


def test_the_report_of_packed_results_is_the_same_bytes(tmp_path: Path) -> None:
    experiment, folder = tiny(tmp_path), tmp_path / "results"
    cells = cells_of(experiment)
    for number, cell in enumerate(cells):
        plant(folder, cell, float(number), wall_seconds=1.0 + number)
    before, progress = write_report(experiment, folder), progress_of(experiment, folder)
    page, records = before.page.read_bytes(), read_results(folder, cells)
    assert pack_results(folder) == (len(cells), len(cells))
    assert {each.name for each in folder.glob("*.gz")} == {PACKED}
    after = write_report(experiment, folder)
    assert after.page.read_bytes() == page
    assert json.dumps(after.figures) == json.dumps(before.figures)
    assert read_results(folder, cells) == records
    assert progress_of(experiment, folder) == progress  # none would be made again


def test_what_is_made_later_is_packed_into_the_same_file(tmp_path: Path) -> None:
    cells = cells_of(tiny(tmp_path))
    at_once, one_by_one = tmp_path / "at-once", tmp_path / "one-by-one"
    for cell in cells:
        plant(at_once, cell, 1.0)
        plant(one_by_one, cell, 1.0)
        pack_results(one_by_one)
    pack_results(at_once)
    assert pack_results(at_once) == (len(cells), 0)
    assert (at_once / PACKED).read_bytes() == (one_by_one / PACKED).read_bytes()


def test_packed_results_are_merged(tmp_path: Path) -> None:
    cells = cells_of(tiny(tmp_path))
    here, there, both = tmp_path / "here", tmp_path / "there", tmp_path / "both"
    for cell in cells[:6]:
        plant(here, cell, 1.0)
    for cell in cells[4:]:
        plant(there, cell, 2.0)
    pack_results(here)
    pack_results(there)
    assert merge_results([here, there], both) == (len(cells), 2)
    returns = [each["phases"]["mean_return"][0] for each in read_results(both, cells)]
    assert returns == [1.0] * 6 + [2.0] * (len(cells) - 6)


def test_a_result_of_another_definition_is_not_packed_and_nothing_is_lost(tmp_path: Path) -> None:
    cell = cells_of(tiny(tmp_path))[0]
    path = plant(tmp_path, cell, 1.0)
    pack_results(tmp_path)
    packed = (tmp_path / PACKED).read_bytes()
    plant(tmp_path, cell, 1.0, fingerprint="0" * 16)
    with pytest.raises(ResultsError, match="expected a result of the same definition"):
        pack_results(tmp_path)
    assert path.exists()
    assert (tmp_path / PACKED).read_bytes() == packed


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: text[:20], 1),
        (lambda text: text.replace(b'"format": 1', b'"format": 2'), 1),
        (lambda text: text[:-30], 12),
        (lambda text: text[: text.rindex(b'{"name"')], 11),
        (lambda text: text.replace(b'"name": ', b'"neme": ', 1), 2),
    ],
    ids=["cut in its head", "a newer format", "cut in a line", "a line less", "without a name"],
)
def test_damage_is_said_with_file_and_line(tmp_path: Path, damage, line: int) -> None:
    cells = cells_of(tiny(tmp_path))
    for cell in cells:
        plant(tmp_path, cell, 1.0)
    pack_results(tmp_path)
    path = tmp_path / PACKED
    path.write_bytes(gzip.compress(damage(gzip.decompress(path.read_bytes()))))
    with pytest.raises(ResultsError) as said:
        read_results(tmp_path, cells)
    assert str(said.value).startswith(f"{path}, line {line}: expected packed results")
    assert "\n" not in str(said.value)


def test_a_file_that_is_cut_short_is_said(tmp_path: Path) -> None:
    cells = cells_of(tiny(tmp_path))
    plant(tmp_path, cells[0], 1.0)
    pack_results(tmp_path)
    path = tmp_path / PACKED
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ResultsError, match=r"runs.jsonl.gz, line \d+: expected packed results"):
        read_results(tmp_path, cells)


def test_the_command_says_what_it_packed(tmp_path: Path, capsys) -> None:
    experiment = tiny(tmp_path)
    definition, folder = str(tmp_path / "tiny.toml"), tmp_path / "results"
    assert main(["experiment", "pack", definition, "--results", str(tmp_path / "none")]) == 2
    assert "expected results, got none" in capsys.readouterr().err
    for cell in cells_of(experiment):
        plant(folder, cell, 1.0)
    arguments = ["experiment", "pack", definition, "--results", str(folder), "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["results"] == said["new"] == len(cells_of(experiment))
    assert said["bytes"] == (folder / PACKED).stat().st_size
