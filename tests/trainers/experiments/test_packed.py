"""Packed results are the results: the same, in one file, the same bytes again."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
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
from hyperoracle_trainers.experiments.runner import progress_of, run_experiment

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
    records = read_results(folder, cells)
    written = _written(folder)
    assert len(written) > 1  # the page, and pictures
    assert pack_results(folder) == (len(cells), len(cells))
    assert {each.name for each in folder.glob("*.gz")} == {PACKED}
    after = write_report(experiment, folder)
    assert _written(folder) == written
    assert json.dumps(after.figures) == json.dumps(before.figures)
    assert read_results(folder, cells) == records
    assert progress_of(experiment, folder) == progress  # none would be made again


def _written(folder: Path) -> dict[str, bytes]:
    """What a report wrote."""
    paths = [*folder.glob("*.md"), *folder.glob("*.png")]
    return {each.name: each.read_bytes() for each in paths}


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


@given(stop=st.integers(1, 24))
def test_no_run_is_lost_wherever_packing_is_stopped(
    tmp_path_factory: pytest.TempPathFactory, stop: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("stopped")
    cells, folder, at_once = cells_of(tiny(tmp_path)), tmp_path / "results", tmp_path / "at-once"
    for number, cell in enumerate(cells):
        plant(folder, cell, float(number))
        plant(at_once, cell, float(number))
    records = read_results(folder, cells)

    def interrupt(done: int, total: int) -> None:
        assert total == 2 * len(cells)
        if done == stop:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        pack_results(folder, interrupt)
    assert read_results(folder, cells) == records
    pack_results(folder)
    pack_results(at_once)
    assert read_results(folder, cells) == records
    assert (folder / PACKED).read_bytes() == (at_once / PACKED).read_bytes()


def test_what_the_disk_did_not_keep_is_noticed_before_a_run_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = cells_of(tiny(tmp_path))
    plant(tmp_path, first, 1.0)
    pack_results(tmp_path)
    before = (tmp_path / PACKED).read_bytes()
    paths = [plant(tmp_path, cell, 2.0) for cell in others]
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.ftruncate(descriptor, len(before)))
    with pytest.raises(ResultsError, match="expected to read back what was written") as said:
        pack_results(tmp_path)
    assert str(tmp_path / PACKED) in str(said.value)
    assert all(path.exists() for path in paths)
    assert (tmp_path / PACKED).read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_a_packed_run_is_not_made_again(tmp_path: Path) -> None:
    experiment, folder = tiny(tmp_path), tmp_path / "results"
    for cell in cells_of(experiment):
        plant(folder, cell, 1.0)
    pack_results(folder)
    made: list[str] = []
    run_experiment(experiment, folder, command="test", processes=1, made=made.append)
    assert made == []
    assert [each.name for each in folder.iterdir()] == [PACKED]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: text[:20], 1),
        (lambda text: text.replace(b'"format": 1', b'"format": 2'), 1),
        (lambda text: text[:-30], 12),
        (lambda text: text[: text.rindex(b'{"name"')], 11),
        (lambda text: text.replace(b'"name": ', b'"neme": ', 1), 2),
        (lambda text: text.replace(b'"result": ', b'"resalt": ', 3), 2),
        (lambda text: text.replace(b'"keys": ["', b'"keys": ["un', 1), 2),
        (lambda _: b"", 1),
    ],
    ids=[
        "cut in its head",
        "a newer format",
        "cut in a line",
        "a line less",
        "without a name",
        "without results",
        "without a value",
        "empty",
    ],
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


@given(data=st.data())
def test_a_damaged_byte_is_said_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    records = {f"run-{number}": {"fingerprint": f"{number:x}" * 9, "curve": [number / 7] * number}
               for number in range(12)}  # fmt: skip
    path = write_packed(folder, records)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    said = None
    try:
        found = {name: read_packed(folder, name) for name in packed_names(folder)}
    except ResultsError as error:
        said = str(error)
    if said is None:  # as where the byte is the time in the file's head, which nothing reads
        assert found == records
    else:
        assert said.startswith(f"{path}, line ")
        assert "\n" not in said


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
