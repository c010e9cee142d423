"""A loop says what it used: what differs from the proposal is counted, told, and not credited."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from client.conftest import CHOSEN
from client.scripted_oracle import ScriptedOracle

from hyperoracle_client import Job, OracleMisconfigured
from hyperoracle_client.job.arguments import used_instead

Start = Callable[..., Job]


@pytest.mark.parametrize(
    ("proposed", "used", "expected"),
    [
        (0.3, 0.3, {}),
        (0.3, float(np.float32(0.3)), {}),
        (0.3, np.float32(0.3), {}),
        (0.3, 0.31, {"x": 0.31}),
        (64, 64.0, {}),
        (64, 63, {"x": 63}),
        (0, 1e-12, {"x": 1e-12}),
        (True, True, {}),
        (True, False, {"x": False}),
        ("adam", "adam", {}),
        ("adam", "sgd", {"x": "sgd"}),
        (0.3, None, {"x": "None"}),
        (0.3, float("nan"), {"x": "nan"}),
        (0.3, "much", {"x": "much"}),
    ],
)
def test_what_counts_as_another_value(proposed, used, expected) -> None:
    found = used_instead({"x": proposed, "y": 1}, {"x": used})
    assert found == expected
    assert [type(value) for value in found.values()] == [type(v) for v in expected.values()]


def test_the_same_values_are_no_news(server: ScriptedOracle, start: Start) -> None:
    job = start()
    job.applied(job.propose(env_step=0))
    job.report([1.0], env_step=1)
    server.wait_for("report", 1)
    report = server.of("report")[0][0]
    assert (report.applied, report.not_applied) == ([], [])
    assert (job.stats.applied_differently, job.stats.notices) == (0, {})


def test_another_value_is_counted_said_once_and_told_to_the_oracle(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    job = start()
    for env_step in range(3):
        values = job.propose(env_step=env_step)
        job.applied({**values, "clip_range": 0.25} if env_step < 2 else values)
    job.report([1.0], env_step=3)
    job.propose(env_step=3)
    job.report([1.0], env_step=4)
    job.finish()
    first, second = (message for message, _, _ in server.of("report"))
    assert first.not_applied == [1, 2]
    assert [(each.sequence, each.hyperparameters) for each in first.applied] == [
        (1, {"clip_range": 0.25}), (2, {"clip_range": 0.25}),
    ]  # fmt: skip
    assert (second.not_applied, second.applied) == ([], [])
    assert [message.not_applied for message, _, _ in server.of("propose")] == [[], [1], [1, 2], []]
    assert job.stats.applied_differently == 2
    assert job.stats.notices == {"applied_differently": 2}
    assert server.of("finish")[0].notices == {"applied_differently": 2}
    lines = [r.getMessage() for r in caplog.records if "instead of" in r.getMessage()]
    assert len(lines) == 1
    assert "clip_range=0.25 instead of 0.3" in lines[0]


def test_a_held_decision_that_a_report_has_covered_is_told_all_the_same(
    server: ScriptedOracle, start: Start
) -> None:
    server.answer["valid_for_updates"] = 10
    job = start()
    job.propose(env_step=0)
    job.report([1.0], env_step=1)
    held = job.propose(env_step=1)
    assert held.source == "held"
    job.applied({"clip_range": 0.1})
    job.report([1.0], env_step=2)
    server.wait_for("report", 2)
    report = server.of("report")[1][0]
    assert [(each.sequence, each.hyperparameters) for each in report.applied] == [
        (1, {"clip_range": 0.1})
    ]
    assert report.not_applied == []  # the first report has credited it


def test_it_outlives_the_process(server: ScriptedOracle, start: Start) -> None:
    job = start()
    job.propose(env_step=0)
    job.applied({"clip_range": 0.1})
    state = job.state()
    again = start(resume_from=state)
    again.report([1.0], env_step=1)
    server.wait_for("report", 1)
    report = server.of("report")[0][0]
    assert report.not_applied == [1]
    assert report.applied[0].hyperparameters == {"clip_range": 0.1}


def test_values_used_instead_of_the_defaults_are_counted(
    start: Start, server: ScriptedOracle
) -> None:
    server.die()
    job = start({"start_deadline_seconds": 0.0, "finish_deadline_seconds": 0.0})
    values = job.propose(env_step=0)
    assert values.source == "default"
    job.applied({"clip_range": 0.1})
    assert job.stats.applied_differently == 1


def test_a_mistake_is_raised_only_where_that_is_wanted(start: Start) -> None:
    job = start({"on_error": "raise", "propose_deadline_seconds": 5.0})
    with pytest.raises(OracleMisconfigured, match="a proposal before"):
        job.applied({})
    job.propose(env_step=0)
    with pytest.raises(OracleMisconfigured, match=r"clip_range, got typo"):
        job.applied({"typo": 1})
    quiet = start()
    quiet.applied({})
    assert quiet.propose(env_step=0) == CHOSEN
    quiet.applied({"typo": 1})
    assert quiet.stats.applied_differently == 0


def test_the_oracle_hears_of_notices_before_the_job_ends(
    server: ScriptedOracle, start: Start
) -> None:
    job = start()
    job.propose(env_step=0)
    job.applied({"clip_range": 0.1})
    job.report([1.0], env_step=1)  # wakes the background
    server.wait_for("heartbeat", 1)
    assert server.of("heartbeat")[0].notices == {"applied_differently": 1}
