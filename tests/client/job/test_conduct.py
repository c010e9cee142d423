"""What a loop does not give its job is said once and counted."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from hyperoracle_client import Job
from hyperoracle_client.job.conduct import Conduct, rank_and_size
from hyperoracle_client.job.delivery.spool import OutgoingReport
from hyperoracle_client.job.notices import Notices
from hyperoracle_protocol.space import Scale
from hyperoracle_protocol.strategies import KlAdaptiveStrategy
from hyperoracle_protocol.studies import ReturnSetting, StudyDefinition

SPACE = {"learning_rate": Scale([0.5, 1, 2])}


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "torch.distributed", raising=False)


@pytest.fixture
def notices() -> Notices:
    return Notices()


def conduct(notices: Notices, total: int = 1000, **definition: object) -> Conduct:
    return Conduct(notices, StudyDefinition(space=SPACE, **definition), total)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_notice_is_said_once_and_counted_each_time(
    notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        notices.tell("report_dropped", f"number {number}")
    notices.tell("no_return", "none")
    assert notices.counts == {"report_dropped": 3, "no_return": 1}
    assert said(caplog) == [
        "number 0 (said once, counted as 'report_dropped')",
        "none (said once, counted as 'no_return')",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_report_that_cannot_be_made_is_counted_as_lost(
    start: Callable[..., Job], caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Iterator[float]:
        yield 1.0
        raise ValueError("could not convert")

    job = start()
    for env_step in (1, 2):
        job.report(broken(), env_step=env_step)
    assert job.stats.notices == {"report_dropped": 2}
    assert "could not convert" in str(job.stats.last_error)
    assert len([line for line in said(caplog) if "is lost, training goes on" in line]) == 1


class TestSignals:
    def test_a_strategy_that_never_gets_its_signal_is_told(
        self, notices: Notices, caplog: pytest.LogCaptureFixture
    ) -> None:
        watched = conduct(notices, strategy=KlAdaptiveStrategy())
        for _ in range(6):
            watched.proposes({"entropy": 1.0})
        assert notices.counts["signal_missing"] == 4
        assert "'approx_kl', which 3 proposals lacked" in said(caplog)[0]

    def test_the_first_proposals_have_none_as_there_was_no_update(self, notices: Notices) -> None:
        watched = conduct(notices, strategy=KlAdaptiveStrategy())
        watched.proposes({})
        watched.proposes({})
        for _ in range(10):
            watched.proposes({"approx_kl": 0.01})
        assert notices.counts == {}

    def test_other_strategies_need_none(self, notices: Notices) -> None:
        watched = conduct(notices)
        for _ in range(10):
            watched.proposes({})
        assert notices.counts == {}


class TestReturns:
    @pytest.mark.parametrize(
        ("kind", "given", "wants"),
        [
            ("last_episodes", {"phase_return": 1.0}, "episodes that ended"),
            ("phase_episodes", {"custom_return": 1.0}, "episodes that ended"),
            ("phase_return", {"episode_returns": [1.0]}, "give phase_return"),
            ("custom", {"episode_returns": [1.0], "phase_return": 1.0}, "give custom_return"),
        ],
    )
    def test_reports_of_another_kind_than_the_studys(
        self, notices: Notices, caplog: pytest.LogCaptureFixture, kind: str, given: dict,
        wants: str,
    ) -> None:  # fmt: skip
        watched = conduct(notices, returns=ReturnSetting(kind=kind))
        for number in range(1, 12):
            watched.reports(
                OutgoingReport(**{"episode_returns": [], "env_step": 9 * number, **given})
            )
        assert notices.counts == {"no_return": 2}
        assert wants in said(caplog)[0]
        assert repr(kind) in said(caplog)[0]

    def test_a_return_that_comes_at_last_is_no_trouble(self, notices: Notices) -> None:
        watched = conduct(notices)
        for number in range(1, 10):
            watched.reports(OutgoingReport([], number))
        watched.reports(OutgoingReport([1.0], 10))
        for number in range(11, 50):
            watched.reports(OutgoingReport([], number))
        watched.ends()
        assert notices.counts == {}

    def test_nor_are_many_short_phases_at_the_begin_of_a_long_run(self, notices: Notices) -> None:
        watched = conduct(notices, total=1_000_000)
        for number in range(1, 100):
            watched.reports(OutgoingReport([], 5 * number))
        assert notices.counts == {}

    def test_one_that_was_dropped_as_not_finite_has_come(self, notices: Notices) -> None:
        watched = conduct(notices)
        for number in range(1, 30):
            watched.reports(OutgoingReport([], 50 * number, dropped_returns={"episode_returns": 1}))
        watched.ends()
        assert notices.counts == {}

    def test_a_short_run_without_any_is_told_at_its_end(self, notices: Notices) -> None:
        watched = conduct(notices)
        watched.reports(OutgoingReport([], 10))
        watched.ends()
        assert notices.counts == {"no_return": 1}

    def test_a_loop_that_never_reports_is_told(
        self, notices: Notices, caplog: pytest.LogCaptureFixture
    ) -> None:
        watched = conduct(notices)
        for _ in range(21):
            watched.proposes({})
        assert notices.counts == {"no_return": 2}
        assert "call job.report" in said(caplog)[0]


def test_an_env_step_of_the_phase_is_told(
    notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    watched = conduct(notices)
    for env_step in (100, 100, 200, 150):
        watched.reports(OutgoingReport([1.0], env_step))
    assert notices.counts == {"env_step_not_rising": 2}
    assert "since the start of the run, not those of the phase" in said(caplog)[0]


class TestRanks:
    def test_a_rank_of_torchrun_is_told(
        self, notices: Notices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "4")
        conduct(notices).begins()
        assert notices.counts == {"distributed_rank": 1}
        assert "rank 1 of 4" in said(caplog)[0]
        assert "broadcast" in said(caplog)[0]

    def test_a_process_group_counts_more_than_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = {"is_available": lambda: True, "is_initialized": lambda: True,
                 "get_rank": lambda: 2, "get_world_size": lambda: 3}  # fmt: skip
        monkeypatch.setitem(sys.modules, "torch.distributed", SimpleNamespace(**group))
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert rank_and_size() == (2, 3)

    @pytest.mark.parametrize(
        "variables",
        [{}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "0"}, {"RANK": "x", "WORLD_SIZE": "2"}],
    )
    def test_a_single_process_is_none(
        self, notices: Notices, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        conduct(notices).begins()
        assert notices.counts == {}
