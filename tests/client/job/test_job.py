from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from client.conftest import CHOSEN, DEFAULTS, eventually, network
from client.scripted_oracle import (
    ScriptedOracle,
    answer,
    answer_after,
    answer_then_lose_it,
    break_the_connection,
    drip,
    garbage,
    hang,
    refuse,
    reply_with,
)

from hyperoracle_client import (
    Categorical,
    DeadlineMissed,
    Float,
    Int,
    Job,
    OracleRefused,
    OracleUnreachable,
)
from hyperoracle_client.job.circuit import FAILURES_THAT_OPEN
from hyperoracle_client.job.delivery.report_sender import ReportSender
from hyperoracle_protocol.hyper_state import HyperStateLayout, TensorShape, sketch_layout

DEADLINE = 0.05
SLACK = 0.03  # the server shares the interpreter; transports/test_http.py is stricter
PATIENT = {"circuit_least_seconds": 60.0, "circuit_most_seconds": 60.0}
QUICK = {"circuit_least_seconds": 0.001, "circuit_most_seconds": 0.002}

Start = Callable[..., Job]


def test_a_proposal_brings_the_oracles_values(start: Start) -> None:
    values = start().propose(env_step=0)
    assert values == CHOSEN
    assert (values.source, values.proposal_id, values.why) == ("oracle", "p1", None)


def test_a_proposal_tells_where_training_is(server: ScriptedOracle, start: Start) -> None:
    job = start()
    job.propose(env_step=64, signals={"approx_kl": 0.01}, base_values={"learning_rate": 3e-4})
    job.propose(env_step=128, update_step=7)
    job.propose(env_step=192)
    first, second, third = (message for message, _, _ in server.of("propose"))
    assert (first.sequence, first.update_step, first.env_step) == (1, 0, 64)
    assert first.signals == {"approx_kl": 0.01}
    assert first.base_values == {"learning_rate": 3e-4}
    assert (second.update_step, third.update_step) == (7, 2)


def test_numpy_numbers_are_welcome(server: ScriptedOracle, start: Start) -> None:
    job = start()
    job.propose(env_step=np.int64(3), signals={"approx_kl": np.float32(0.5)})
    job.report(np.array([1.0, 2.0], np.float32), env_step=np.int32(4), phase_return=np.float64(1))
    server.wait_for("report", 1)
    assert server.of("propose")[0][0].signals == {"approx_kl": 0.5}
    np.testing.assert_array_equal(server.of("report")[0][1], [1.0, 2.0])


def test_a_signal_that_is_not_finite_is_left_out(server: ScriptedOracle, start: Start) -> None:
    values = start().propose(env_step=0, signals={"a": float("nan"), "b": 1.0, "c": float("inf")})
    assert values.source == "oracle"
    assert server.of("propose")[0][0].signals == {"b": 1.0}


def test_whole_numbers_come_as_int_and_others_as_float(
    server: ScriptedOracle, start: Start
) -> None:
    space = {
        "epochs": Int(low=1, high=9, default=3),
        "gamma": Float(low=0, high=1, default=1),
        "optimiser": Categorical(["adam", "sgd"], default="adam"),
    }
    server.answer["hyperparameters"] = {"optimiser": "sgd", "epochs": 9.0, "gamma": 1}
    values = start(space=space).propose(env_step=0)
    assert list(values.items()) == [("epochs", 9), ("gamma", 1.0), ("optimiser", "sgd")]
    assert [type(value) for value in values.values()] == [int, float, str]


class TestHeldDecisions:
    def test_it_is_used_for_as_many_updates_as_it_is_valid_without_a_call(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        server.answer["valid_for_updates"] = 3
        job = start()
        sources = [job.propose(env_step=n).source for n in range(7)]
        assert sources == ["oracle", "held", "held", "oracle", "held", "held", "oracle"]
        assert [message.sequence for message, _, _ in server.of("propose")] == [1, 2, 3]
        assert (job.stats.proposals, job.stats.held) == (3, 4)

    def test_it_is_used_until_its_env_step(self, server: ScriptedOracle, start: Start) -> None:
        server.answer["valid_until_env_step"] = 300
        job = start()
        sources = [job.propose(env_step=n).source for n in (0, 100, 299, 300)]
        assert sources == ["oracle", "held", "held", "oracle"]

    def test_it_outlives_the_oracle(self, server: ScriptedOracle, start: Start) -> None:
        server.answer["valid_until_env_step"] = 300
        job = start(PATIENT)
        job.propose(env_step=0)
        server.die()
        assert job.propose(env_step=100) == CHOSEN
        assert job.propose(env_step=300).source == "default"


class TestDeadline:
    @pytest.mark.parametrize("behaviour", [hang, drip])
    def test_a_deadline_is_paid_for_each_failure_that_opens_and_none_after(
        self, server: ScriptedOracle, start: Start, behaviour: Callable
    ) -> None:
        server.always["propose"] = behaviour

        def missed() -> tuple[Job, float]:
            job = start({**PATIENT, "propose_deadline_seconds": DEADLINE})
            began = time.monotonic()
            first = [job.propose(env_step=0) for _ in range(FAILURES_THAT_OPEN)]
            paid = (time.monotonic() - began) / FAILURES_THAT_OPEN
            assert {(tuple(each.items()), each.source) for each in first} == {
                (tuple(DEFAULTS.items()), "default")
            }
            assert paid >= DEADLINE
            return job, paid

        job, paid = missed()
        for _ in range(20):  # a busy machine may stop any thread
            if paid <= DEADLINE + SLACK:
                break
            job, paid = missed()
        assert paid <= DEADLINE + SLACK
        asked = len(server.of("propose"))
        laps = []
        for n in range(200):
            began = time.perf_counter()
            assert job.propose(env_step=n).source == "default"
            laps.append(time.perf_counter() - began)
        assert np.median(laps) * 200 < DEADLINE, "all together cost less than one that waits"
        assert len(server.of("propose")) == asked
        assert (job.stats.late, job.stats.fallbacks, job.stats.circuit) == (
            FAILURES_THAT_OPEN, 200 + FAILURES_THAT_OPEN, "open",
        )  # fmt: skip

    def test_a_late_answer_is_discarded_and_reported_as_not_applied(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        server.script["propose"].append(hang)
        job = start({**QUICK, "propose_deadline_seconds": DEADLINE})
        job.propose(env_step=0)
        eventually(lambda: job.stats.circuit == "closed")
        server.released.set()  # now the late answer could come
        assert job.propose(env_step=1).proposal_id == "p2"
        assert server.of("propose")[1][0].not_applied == [1]
        job.report([1.0], env_step=1)
        server.wait_for("report", 1)
        report = server.of("report")[0][0]
        assert (report.credits_after, report.credits_through, report.not_applied) == (0, 2, [1])


class TestBrokenAnswers:
    @pytest.mark.parametrize(
        "behaviour",
        [
            garbage,
            break_the_connection,
            answer_then_lose_it,
            refuse(404, "job_not_found"),
            refuse(500, "internal"),
            reply_with(b"<html>502</html>", 502),
            reply_with(b"{}"),
            reply_with(b"\xff\xfe"),
        ],
    )
    def test_the_job_goes_on_with_its_defaults_and_recovers(
        self, server: ScriptedOracle, start: Start, behaviour: Callable
    ) -> None:
        job = start(QUICK)
        server.script["propose"].extend([behaviour] * 2)  # the second: it is sent again
        assert job.propose(env_step=0) == DEFAULTS
        assert job.stats.last_error
        server.script["propose"].clear()
        eventually(lambda: job.stats.circuit == "closed")
        assert job.propose(env_step=1) == CHOSEN

    @pytest.mark.parametrize(
        "wrong",
        [
            {"sequence": 99},
            {"hyperparameters": {"learning_rate": 1.0}},
            {"hyperparameters": {"learning_rate": 1.0, "clip_range": 0.2, "more": 1}},
            {"hyperparameters": {"learning_rate": 1e9, "clip_range": 0.2}},
            {"hyperparameters": {"learning_rate": "fast", "clip_range": 0.2}},
            {"hyperparameters": {"learning_rate": True, "clip_range": 0.2}},
        ],
    )
    def test_an_answer_that_does_not_fit_the_search_space_is_not_used(
        self, server: ScriptedOracle, start: Start, wrong: dict
    ) -> None:
        server.answer = wrong
        assert start(PATIENT).propose(env_step=0) == DEFAULTS

    def test_a_fraction_is_not_used_where_a_whole_number_is_due(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        server.answer["hyperparameters"] = {"epochs": 2.5}
        space = {"epochs": Int(low=1, high=9, default=3)}
        assert start(PATIENT, space=space).propose(env_step=0) == {"epochs": 3}

    def test_a_name_outside_the_space_is_not_used(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        space = {"optimiser": Categorical(["adam", "sgd"], default="adam")}
        server.answer["hyperparameters"] = {"optimiser": "lbfgs"}
        assert start(PATIENT, space=space).propose(env_step=0) == {"optimiser": "adam"}


class TestCircuit:
    def test_the_oracle_dies_and_comes_back(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = start({"circuit_least_seconds": 0.01, "circuit_most_seconds": 0.02})
        assert job.propose(env_step=0).source == "oracle"
        server.die()
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            assert [job.propose(env_step=n).source for n in range(5)] == ["default"] * 5
            server.come_back()
            eventually(lambda: job.stats.circuit == "closed")
            assert job.propose(env_step=6).source == "oracle"
        assert len(caplog.records) == 2  # opened, closed

    def test_no_update_pays_for_the_probes(self, server: ScriptedOracle, start: Start) -> None:
        server.always["propose"] = server.always["livez"] = hang
        job = start({**QUICK, "propose_deadline_seconds": DEADLINE})
        for _ in range(FAILURES_THAT_OPEN):
            job.propose(env_step=0)
        server.wait_for("livez", 1)
        laps = []
        for n in range(100):
            began = time.perf_counter()
            job.propose(env_step=n)
            laps.append(time.perf_counter() - began)
        assert np.median(laps) * 100 < DEADLINE, "all together cost less than one that waits"

    @pytest.mark.parametrize("probe", [reply_with(b'{"hello": "world"}'), answer_after(0.3)])
    def test_what_answers_a_probe_too_late_or_is_no_oracle_is_not_back(
        self, server: ScriptedOracle, start: Start, probe: Callable
    ) -> None:
        """Seen to fail with a probe that waits two seconds and takes any 2xx."""
        job = start({**QUICK, "propose_deadline_seconds": 0.1})
        server.always["livez"] = probe
        for _ in range(FAILURES_THAT_OPEN):
            server.script["propose"].append(refuse(500))
            job.propose(env_step=0)
        server.wait_for("livez", 3)
        assert job.propose(env_step=1).source == "default"
        assert len(server.of("propose")) == FAILURES_THAT_OPEN
        server.always.clear()
        eventually(lambda: job.stats.circuit == "closed")
        assert job.propose(env_step=2).source == "oracle"


class TestRaising:
    def test_it_raises_what_happened(self, server: ScriptedOracle, start: Start) -> None:
        job = start({"on_error": "raise", **QUICK})
        server.script["propose"].append(refuse(404, "job_not_found"))
        with pytest.raises(OracleRefused, match="job_not_found"):
            job.propose(env_step=0)
        eventually(lambda: job.stats.circuit == "closed")
        server.script["propose"].append(hang)
        with pytest.raises(DeadlineMissed):
            job.propose(env_step=0)
        assert issubclass(DeadlineMissed, OracleUnreachable)


class TestHyperStates:
    def test_a_hyper_state_that_is_not_finite_is_not_sent_and_its_tensor_is_named_once(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = network(np.random.default_rng(0))
        shapes = [TensorShape(name=n, shape=a.shape) for n, a in model.items()]
        server.layout = sketch_layout(shapes, seed=1, width=4, orders=2)
        job = start(model=model)
        grads = {name: array.copy() for name, array in model.items()}
        grads["mid.bias"][3] = np.nan
        assert job.propose(env_step=0, grads=grads).source == "default"
        again = job.propose(env_step=0, grads=grads)
        assert again.why == "the gradient of the tensor 'mid.bias' is not finite"
        assert job.stats.non_finite_hyper_states == 2
        assert len([r for r in caplog.records if "'mid.bias'" in r.getMessage()]) == 1
        assert not server.of("propose")
        grads["mid.bias"][3] = 0
        assert job.propose(env_step=1, grads=grads).source == "oracle"
        message, numbers, _ = server.of("propose")[0]
        assert message.signature == server.layout.signature
        assert (numbers.dtype, numbers.size) == (np.float16, server.layout.feature_count)

    def test_a_tensor_that_has_grown_is_named_once_and_training_goes_on(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Seen to fail: each proposal fell back, and the log told of shapes in a traceback."""
        model = network(np.random.default_rng(0))
        server.layout = HyperStateLayout(kind="statistics", dtype="float32")
        job = start({"propose_deadline_seconds": 5.0}, model=model)
        assert job.propose(env_step=0).source == "oracle"
        model["out.weight"] = np.ones((3, 8), np.float32)
        for n in range(3):
            values = job.propose(env_step=n)
            assert (values, values.source) == (DEFAULTS, "default")
            assert "'out.weight'" in values.why
        assert job.stats.fallbacks == 3
        told = [r for r in caplog.records if "'out.weight'" in r.getMessage()]
        assert len(told) == 1
        assert told[0].exc_info is None, "one line"

    @pytest.mark.parametrize("zeroed", [None, 0.0])
    def test_gradients_that_are_never_there_are_counted_and_said_once(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture, zeroed: Any
    ) -> None:
        """A loop that zeroes them before it proposes. Seen to fail: features of 0 in silence."""
        model = network(np.random.default_rng(0))
        server.layout = HyperStateLayout(kind="statistics", dtype="float32")
        job = start({"propose_deadline_seconds": 5.0}, model=model)
        grads = None if zeroed is None else {name: array * zeroed for name, array in model.items()}
        for n in range(5):
            assert job.propose(env_step=n, grads=grads).source == "oracle"
        assert job.stats.hyper_states_without_gradients == 5
        assert len([r for r in caplog.records if "no gradient" in r.getMessage()]) == 1
        for n in range(2):
            job.propose(env_step=n, grads=model)
            job.propose(env_step=n, grads=grads)
        assert job.stats.hyper_states_without_gradients == 5, "they are there, now and then"

    def test_a_mistake_in_a_proposal_does_not_stop_training(
        self, server: ScriptedOracle, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = network(np.random.default_rng(0))
        shapes = [TensorShape(name=n, shape=a.shape) for n, a in model.items()]
        server.layout = sketch_layout(shapes, seed=1, width=4, orders=2)
        job = start(model=model)
        with caplog.at_level(logging.WARNING, "hyperoracle_client"):
            for n in range(3):
                wrong = job.propose(env_step=n, grads={"mid.bias": "?"}, params={"x": 1})
                assert wrong.source == "default"
        assert len(caplog.records) == 1
        assert job.propose(env_step=9).source == "oracle"


class TestPrefetch:
    def test_each_update_uses_the_answer_to_the_question_before_it(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        job = start(prefetch=True)
        assert [job.propose(env_step=n).proposal_id for n in range(3)] == ["p1", "p2", "p3"]
        server.wait_for("propose", 4)
        asked = [message.env_step for message, _, _ in server.of("propose")]
        assert asked == [0, 0, 1, 2]

    def test_an_update_does_not_wait_for_an_answer_that_is_there(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        answered = threading.Semaphore(0)

        def noted(handler: Any) -> None:
            answer(handler)
            answered.release()

        server.script["propose"] += [noted, noted]
        server.always["propose"] = hang  # whoever waits for this one gets the default
        job = start({"propose_deadline_seconds": 2.0}, prefetch=True)
        job.propose(env_step=0)
        assert [answered.acquire(timeout=10) for _ in range(2)] == [True, True]
        assert job.propose(env_step=1).source == "oracle"

    def test_a_proposal_asked_for_but_not_yet_used_is_not_credited(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        job = start(prefetch=True)
        job.propose(env_step=0)
        job.report([1.0], env_step=10)
        job.propose(env_step=10)
        job.report([1.0], env_step=20)
        server.wait_for("report", 2)
        first, second = (message for message, _, _ in server.of("report"))
        assert (first.credits_after, first.credits_through) == (0, 1)
        assert (second.credits_after, second.credits_through) == (1, 2)

    def test_a_held_decision_is_not_overtaken(self, server: ScriptedOracle, start: Start) -> None:
        server.answer["valid_for_updates"] = 2
        job = start(prefetch=True)
        used = [job.propose(env_step=n).proposal_id for n in range(4)]
        assert used == ["p1", "p1", "p2", "p2"]

    def test_a_lost_answer_shows_at_the_next_update_and_is_not_applied(
        self, server: ScriptedOracle, start: Start
    ) -> None:
        job = start(QUICK, prefetch=True)
        server.script["propose"].extend([answer, refuse(500), answer])
        assert job.propose(env_step=0).proposal_id == "p1"
        assert job.propose(env_step=1).source == "default"
        eventually(lambda: job.stats.circuit == "closed")
        assert job.propose(env_step=2).proposal_id == "p3"
        assert server.of("propose")[2][0].not_applied == [2]


@pytest.mark.parametrize("seed", range(6))
def test_every_proposal_is_credited_by_exactly_the_phase_that_followed_it(
    server: ScriptedOracle, start: Start, seed: int
) -> None:
    """Random interleavings of answered, lost, refused, held and prefetched proposals."""
    rng = np.random.default_rng(seed)
    job = start(QUICK, prefetch=bool(seed % 2))
    used: list[set[str]] = [set()]
    for n in range(40):
        eventually(lambda: job.stats.circuit == "closed")
        if rng.random() < 0.3:
            job.report([1.0], env_step=n)
            used.append(set())
            continue
        server.script["propose"].clear()
        if rng.random() < 0.3:
            server.script["propose"].append(refuse(500) if rng.random() < 0.5 else garbage)
        server.answer["valid_for_updates"] = int(rng.integers(1, 3))
        values = job.propose(env_step=n)
        if values.source == "oracle":
            used[-1].add(int(values.proposal_id[1:]))
    server.script["propose"].clear()
    assert job.finish().reports_pending == 0
    asked = {message.sequence for message, _, _ in server.of("propose")}
    reports = [message for message, _, _ in server.of("report")]
    assert len(reports) == len(used) - 1
    for report, expected in zip(reports, used, strict=False):
        assert expected == {
            sequence
            for sequence in asked
            if report.credits_after < sequence <= report.credits_through
            and sequence not in report.not_applied
        }
    sequences = [message.sequence for kind in ("propose", "report")
                 for message, _, _ in server.of(kind)]  # fmt: skip
    assert len(set(sequences)) == len(sequences)


def test_the_processor_time_of_the_background_is_told(
    server: ScriptedOracle, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    burnt: list[float] = []
    acknowledged = ReportSender._acknowledged

    def slow(sender: ReportSender, receipt: Any) -> None:
        began = time.thread_time()
        while time.thread_time() < began + 0.02:
            sum(range(100))
        burnt.append(time.thread_time() - began)
        acknowledged(sender, receipt)

    monkeypatch.setattr(ReportSender, "_acknowledged", slow)
    job = start()
    for step in range(3):
        job.report([1.0], env_step=step)
    server.wait_for("report", 3)
    stats = job.finish()
    assert len(burnt) == 3
    assert stats.background_seconds >= sum(burnt)
