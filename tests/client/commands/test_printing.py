from __future__ import annotations

from typing import Any

import pytest

from hyperoracle_client.commands.printing import print_fields, print_table, print_wrapped

COLUMNS = ("job", "status", "env steps", "hyperparameters")
ROW = ("job-1", "finished", 20480, {"learning_rate": 3e-4, "clip_range": 0.2, "gamma": 0.99})


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What is printed on a terminal of so many columns."""

    def printed(width: int, print_it: Any, *arguments: Any) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        print_it(*arguments)
        return capsys.readouterr().out.splitlines()

    return printed


def test_a_table_that_fits_is_aligned(lines: Any) -> None:
    assert lines(100, print_table, COLUMNS, [ROW]) == [
        "job    status    env steps  hyperparameters",
        "job-1  finished      20480  learning_rate=0.0003 clip_range=0.2 gamma=0.99",
    ]


def test_a_table_that_is_a_little_too_wide_has_its_last_column_wrapped(lines: Any) -> None:
    assert lines(60, print_table, COLUMNS, [ROW]) == [
        "job    status    env steps  hyperparameters",
        "job-1  finished      20480  learning_rate=0.0003",
        "                            clip_range=0.2 gamma=0.99",
    ]


def test_a_table_that_is_far_too_wide_is_a_list_whose_names_stay_with_their_values(
    lines: Any,
) -> None:
    assert lines(40, print_table, COLUMNS[:3], [ROW[:3]])[0] == "job    status    env steps"
    assert lines(30, print_table, (*COLUMNS[:3], "seconds"), [(*ROW[:3], 1.5)]) == [
        "job-1",
        "  status finished,",
        "  env steps 20480, seconds 1.5",
    ]


def test_numbers_in_the_last_column_are_not_wrapped_under_each_other(lines: Any) -> None:
    row = ("a" * 30, 1.0)
    assert lines(30, print_table, ("name", "value"), [row]) == ["a" * 30, "  value 1"]


def test_a_wide_table_without_rows_still_names_its_columns(lines: Any) -> None:
    assert lines(20, print_table, COLUMNS, []) == ["job  status  env", "steps", "hyperparameters"]


def test_a_pipe_gets_whole_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)  # as `shutil` finds no terminal
    print_table(("name", "text", "number"), [("a", "word " * 100, 1)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_fields_and_sentences_go_on_below_their_beginning(lines: Any) -> None:
    assert lines(30, print_fields, {"notices": "one=1 two=2 three=3 four=4", "none": {}}) == [
        "notices  one=1 two=2 three=3",
        "         four=4",
        "none     -",
    ]
    assert lines(24, print_wrapped, "  return  no evidence yet", "          ") == [
        "  return  no evidence",
        "          yet",
    ]
