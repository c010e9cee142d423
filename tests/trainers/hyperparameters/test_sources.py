from __future__ import annotations

from pathlib import Path

import pytest

from hyperoracle_trainers.hyperparameters.sources import FixedSource, RecordedSource, ScheduleError


def _proposed(source: RecordedSource, update_step: int) -> dict[str, float]:
    return dict(source.propose(env_step=0, update_step=update_step, signals={}))


def test_a_fixed_source_proposes_nothing() -> None:
    source = FixedSource()
    assert source.propose(env_step=0, update_step=0, signals={"progress": 0.0}) == {}
    assert not source.relative


def test_a_recorded_row_holds_until_the_next_one() -> None:
    source = RecordedSource([(2, {"learning_rate": 0.2}), (5, {"learning_rate": 0.5})])
    assert _proposed(source, 1) == {}
    assert [_proposed(source, step)["learning_rate"] for step in (2, 3, 4, 5, 99)] == [
        0.2,
        0.2,
        0.2,
        0.5,
        0.5,
    ]


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ScheduleError, match="expected rows in rising order of update_step"):
        RecordedSource([(5, {}), (2, {})])


def test_a_schedule_is_read_from_csv_and_an_empty_cell_leaves_the_base_value(
    tmp_path: Path,
) -> None:
    path = tmp_path / "schedule.csv"
    path.write_text("update_step,env_step,learning_rate,gamma\n0,10,0.001,\n4,20,,0.9\n")
    source = RecordedSource.from_csv(path)
    assert _proposed(source, 0) == {"learning_rate": 0.001}
    assert _proposed(source, 4) == {"gamma": 0.9}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"expected the columns update_step, env_step .* got nothing"),
        ("update_step,learning_rate\n", r"expected the columns update_step, env_step"),
        ("update_step,env_step,learning_rat\n", r"got update_step, env_step, learning_rat;"),
        ("update_step,env_step,gamma\n0,0,high\n", r"line 2: expected numbers, .*'high'"),
        ("update_step,env_step,gamma\n,0,0.9\n", r"line 2: expected numbers"),
    ],
)
def test_a_broken_schedule_is_refused_in_one_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "schedule.csv"
    path.write_text(content)
    with pytest.raises(ScheduleError, match=message) as caught:
        RecordedSource.from_csv(path)
    assert "\n" not in str(caught.value)
