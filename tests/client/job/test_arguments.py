"""What a training loop may give, and what happens to what it may not."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from client.conftest import CHOSEN
from client.scripted_oracle import ScriptedOracle
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperoracle_client import Job, OracleMisconfigured
from hyperoracle_client.job.arguments import ArgumentReader
from hyperoracle_client.job.stats import Counts
from hyperoracle_protocol.jobs import FinishJob, ProposeMetadata, Report
from hyperoracle_protocol.studies import ReturnSetting

Start = Callable[..., Job]
PATIENT = {"propose_deadline_seconds": 5.0}


class Reader(ArgumentReader):
    """A reader that remembers what it was to say."""

    def __init__(self, **returns: Any) -> None:
        self.counts, self.told = Counts(), []
        setting = ReturnSetting(**returns)
        super().__init__(setting, self.counts, lambda kind, line: self.told.append((kind, line)))


ONE = [
    12.0, 12, True, np.float32(12), np.int64(12), np.array(12.0), torch.tensor(12.0),
    Decimal(12), Fraction(24, 2),
]  # fmt: skip
TWO = [
    [1.0, 2.0], (1, 2), {1.0: None, 2.0: None}.keys(), np.array([1, 2]), np.array([[1.0], [2.0]]),
    torch.tensor([1.0, 2.0], requires_grad=True), [np.array([1.0]), torch.tensor([[2.0]])],
    range(1, 3), [np.float64(1), Decimal(2)],
]  # fmt: skip
NONE = [None, "12", b"12", {"a": 1.0}, 1j, object, Job]


@pytest.mark.parametrize("value", ONE, ids=repr)
def test_a_number_alone_is_one_return(value: Any) -> None:
    """Seen to fail: the report was lost, said once and not counted."""
    reader = Reader()
    assert reader.report(value, value, value, 0).episode_returns == [float(value)]
    assert reader.counts == Counts()


@pytest.mark.parametrize("values", TWO, ids=repr)
def test_anything_that_has_numbers_brings_its_returns(values: Any) -> None:
    assert Reader().report(values, None, None, 0).episode_returns == [1.0, 2.0]


def test_a_generator_brings_its_returns() -> None:
    assert Reader().report((n / 2 for n in (2, 4)), None, None, 0).episode_returns == [1.0, 2.0]


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_is_no_number_is_left_out_counted_and_said_and_the_rest_is_sent(value: Any) -> None:
    """Seen to fail: "12" became the returns 1 and 2, anything else lost the report."""
    reader = Reader()
    report = reader.report(value, 3.0, value, 7)
    assert (report.episode_returns, report.phase_return) == ([], 3.0)
    assert (report.custom_return, report.env_step) == (None, 7)
    report = reader.report([1.0, value, 2.0], None, None, 8)
    assert report.episode_returns == [1.0, 2.0]
    assert reader.counts.arguments_left_out == (2 if value is None else 3)
    assert report.dropped_returns == {}, "that is for returns that are not finite"
    for _, line in reader.told:
        assert "\n" not in line
        assert "expected" in line
        assert type(value).__name__ in line


@pytest.mark.parametrize("kind", ["last_episodes", "phase_episodes", "phase_return", "custom"])
def test_more_returns_than_a_report_takes_give_the_same_return(kind: str) -> None:
    """Seen to fail: the oracle refused the report, and it was dropped."""
    reader = Reader(kind=kind)
    returns = np.random.default_rng(0).normal(size=250_001).tolist()
    sent = reader.report(returns, 1.0, 2.0, 0).episode_returns
    if kind == "phase_episodes":
        assert sent == [pytest.approx(np.mean(returns), rel=1e-12)]
    else:
        assert sent == returns[-100_000:], "more than any study's last episodes"
    assert [kind for kind, _ in reader.told] == ["returns_summarised"]


def test_a_mean_of_very_large_returns_is_finite() -> None:
    sent = Reader(kind="phase_episodes").report([1e100] * 100_001, None, None, 0).episode_returns
    assert sent == [pytest.approx(1e100)]


@pytest.mark.parametrize(
    "value", [5, 5.0, np.int32(5), np.float64(5.9), np.array([5]), torch.tensor(5)]
)
def test_steps_are_whole_numbers_of_any_kind(value: Any) -> None:
    reader = Reader()
    assert reader.count("env_step", value, 3) == 5
    assert not reader.told


@pytest.mark.parametrize(
    "value", [-1, math.nan, math.inf, None, "5", [5, 6], 2**63, 1e300, np.array([1, 2]), -0.5 - 1]
)
def test_steps_that_are_none_are_said_and_the_last_ones_known_stand(value: Any) -> None:
    reader = Reader()
    assert reader.count("env_step", value, 3) == 3
    assert reader.counts.arguments_left_out == 1
    assert "3 stands for it" in reader.told[0][1]


def test_signals_are_numbers_of_any_kind_and_what_is_none_is_left_out() -> None:
    """Seen to fail: one that is no number cost the whole proposal, an infinite one nothing said."""
    reader = Reader()
    signals = {
        "a": np.float32(1), "b": torch.tensor([2.0]), 3: 3, "nan": math.nan, "inf": 10**400,
        "text": "0.1", "none": None, "many": [1.0],
    }  # fmt: skip
    assert reader.numbers("signals", signals) == {"a": 1.0, "b": 2.0, "3": 3.0}
    assert reader.counts.non_finite_signals == 2
    assert reader.counts.arguments_left_out == 3
    for wrong in ([1.0], "kl", 5):
        assert reader.numbers("signals", wrong) == {}
    assert reader.counts.arguments_left_out == 6
    assert reader.numbers("signals", None) == {}
    many = {f"s{n}": float(n) for n in range(70)}
    assert len(reader.numbers("signals", many)) == 64
    assert reader.counts.arguments_left_out == 7


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(b"12"),
    st.complex_numbers(), st.lists(st.floats(), max_size=3), st.decimals(), st.fractions(),
    st.dictionaries(st.text(max_size=2), st.floats(), max_size=2), st.just(object()),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    ANYTHING,
    ANYTHING,
    ANYTHING,
    st.dictionaries(st.text(max_size=2) | st.integers(), ANYTHING, max_size=3),
)
def test_nothing_raises_and_what_is_sent_is_what_the_protocol_takes(
    returns: Any, value: Any, steps: Any, signals: Any
) -> None:
    reader = Reader()
    metadata = reader.proposal(3, 4, steps, value, signals, value)
    ProposeMetadata(sequence=1, **metadata)
    FinishJob(env_step=metadata["env_step"])
    report = reader.report(returns, value, steps, metadata["env_step"])
    Report(
        sequence=1, credits_through=0, env_step=report.env_step, phase_return=report.phase_return,
        custom_return=report.custom_return, episode_returns=report.episode_returns,
        dropped_returns=report.dropped_returns,
    )  # fmt: skip


def test_a_job_goes_on_with_the_oracles_values_whatever_it_is_given(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: an env step of -1 opened the circuit, and raised at `finish`."""
    job = start(PATIENT)
    assert job.propose(env_step=7) == CHOSEN
    for wrong in (-1, math.nan, None, "many"):
        values = job.propose(env_step=wrong, update_step=wrong, signals=wrong, base_values=wrong)
        assert values == CHOSEN
        job.report(wrong, env_step=wrong, phase_return=wrong)
    stats = job.finish()
    assert (stats.reports_sent, stats.fallbacks, stats.reports_dropped) == (4, 0, 0)
    assert stats.arguments_left_out == 20
    assert [m.env_step for m, _, _ in server.of("propose")] == [7] * 5
    assert server.of("finish")[0].env_step == 7
    told = [r.getMessage() for r in caplog.records if "expected" in r.getMessage()]
    assert len(told) == len({line.partition(", got")[0] for line in told}) <= 7, "once of each"


def test_a_job_that_is_to_raise_raises_what_is_wrong(server: ScriptedOracle, start: Start) -> None:
    job = start({**PATIENT, "on_error": "raise"})
    with pytest.raises(OracleMisconfigured, match="steps from 0 on as env_step, got -1"):
        job.propose(env_step=-1)
    with pytest.raises(OracleMisconfigured, match="as episode_returns, got '12'"):
        job.report("12", env_step=1)
    assert job.propose(env_step=1) == CHOSEN


def test_returns_that_raise_lose_their_report_which_is_counted_and_said_once(
    server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: it was said, and not counted."""

    def broken() -> Any:
        yield 1.0
        raise RuntimeError("the loop's own")

    job = start(PATIENT)
    for n in range(2):
        job.report(broken(), env_step=n)
    assert job.finish().reports_dropped == 2
    assert len([r for r in caplog.records if "the loop's own" in r.getMessage()]) == 1
