from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from trainers.experiments.planted import cells_of, plant, tiny

from hyperoracle_client.commands.options import add_options
from hyperoracle_trainers.commands import experiment

RETURNS = {"random_policy": 20.0, "default": 100.0, "best_config": 140.0}


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_options(parser, is_top=True)
    experiment.register(parser.add_subparsers())
    args = parser.parse_args(["experiment", *arguments])
    exit_code: int = args.run(args)
    return exit_code


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    for cell in cells_of(tiny(tmp_path)):
        plant(tmp_path / "results", cell, RETURNS[cell.strategy])
    return tmp_path


def test_shipped_definitions_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    smoke = next(row for row in rows if row["name"] == "smoke")
    assert smoke["planned_runs"] == 19
    assert run("list") == 0
    assert "small-tasks" in capsys.readouterr().out


def test_what_is_complete_is_not_run_again(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(complete / "tiny.toml"), "--results", str(complete / "results")]
    assert run("run", *arguments, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["runs"], figures["planned_runs"], figures["made_now"]) == (11, 11, 0)
    assert run("run", *arguments) == 0
    assert "11 of 11 runs, 0 of them now" in capsys.readouterr().out


def test_a_report_comes_as_a_page_and_as_rows(
    complete: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(complete / "tiny.toml"), "--results", str(complete / "results")]
    assert run("report", *arguments) == 0
    assert (complete / "results" / "README.md").exists()
    capsys.readouterr()
    assert run("report", *arguments, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["name"] == "tiny"
    assert figures["rows"][0].keys() == {
        "what", "value", "unit", "floor", "ratio", "budget", "ok", "memories"
    }  # fmt: skip
    # A claim's figure is its bound: of so few memories it lies far below the measured gain, 0.5.
    assert -1.0 <= figures["rows"][0]["value"] < 0.5


def test_results_are_merged(complete: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, source = str(complete / "merged"), str(complete / "results")
    assert run("merge", str(complete / "tiny.toml"), source, "--results", target, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"copied": 11, "known": 0, "results": target}


def test_an_unknown_definition_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "nothing") == 2
    error = capsys.readouterr().err
    assert error.startswith("hyperoracle experiment: nothing: expected")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("--shard", "3/2"), ("--shard", "2"), ("--max-minutes", "0")]
)
def test_meaningless_arguments_are_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("run", "smoke", *arguments)
    assert "expected" in capsys.readouterr().err
