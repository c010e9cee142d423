"""What fails, is lost or stops early counts, in the service: over the wire and after a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport, open_transport
from hyperoracle_server.oracle import upkeep

CUSTOM = {"kind": "custom"}
SPACE = {"learning_rate": {"type": "relative", "values": [0.5, 1.0, 2.0], "default": 1.0}}
TOTAL = 100
DECIDE_ONCE = ["best_config", "cautious_config", "anchored"]


class Run:
    """A job that proposes and reports at every tenth of its way."""

    def __init__(self, wire: Wire, study: str, role: str = "auto", **start: Any) -> None:
        self.wire = wire
        self.job = wire.job(study, role=role, **{"total": TOTAL, **start})
        self.sequence, self.through, self.env_step = 0, 0, 0

    @property
    def role(self) -> str:
        return self.job["role"]

    def decide(self) -> float:
        self.sequence += 1
        self.through = self.sequence
        answer = self.wire.propose(self.job, self.sequence, env_step=self.env_step)
        return answer.json["hyperparameters"]["learning_rate"]

    def report(self, value: float | None, steps: int = 10) -> None:
        self.sequence += 1
        self.env_step += steps
        told: dict[str, Any] = {"custom_return": value}
        if value is None:
            told = {"dropped_returns": {"custom_return": 1}}
        answer = self.wire.report(
            self.job, self.sequence, self.through, [], env_step=self.env_step, **told
        )
        assert answer.status == 200, answer

    def finish(self, reason: str = "completed") -> None:
        body = {"reason": reason, "env_step": self.env_step}
        answer = self.wire.call("POST", f"/v1/jobs/{self.job['job_id']}/finish", body)
        assert answer.status == 200, answer


def study_of(wire: Wire, name: str, strategy: str = "random", **returns: str) -> None:
    wire.study(name, strategy={"name": strategy}, returns=CUSTOM | returns, space=SPACE, seed=3)


def whole(wire: Wire, study: str, role: str, value: float, **start: Any) -> None:
    run = Run(wire, study, role, **start)
    run.decide()
    for _ in range(10):
        run.report(value)
    run.finish()


def gain(wire: Wire, study: str) -> Any:
    return wire.call("GET", f"/v1/studies/{study}/gain").json


@pytest.mark.parametrize(("direction", "sign"), [("maximise", 1.0), ("minimise", -1.0)])
def test_jobs_that_are_lost_count_by_role_and_are_shown(wire, name, direction, sign):
    study_of(wire, name, direction=direction)
    for value in (10.0, 12.0):
        whole(wire, name, "control", sign * value)
    failed, diverged, reached, halfway = (Run(wire, name, "exploit") for _ in range(4))
    for run in (failed, diverged, reached, halfway):
        run.decide()
        run.report(sign * 50.0)
    failed.report(sign * 4.0)  # the worst of all
    failed.finish("failed")
    diverged.report(None)
    diverged.finish()
    reached.finish("reached")
    halfway.report(sign * 50.0, steps=40)
    halfway.finish("interrupted")
    silent = Run(wire, name, "exploit")
    silent.decide()
    found = gain(wire, name)
    ends = {kind: count for kind, count in found["ends"]["exploit"].items() if count}
    assert ends == {
        "failed": 1, "diverged": 1, "reached": 1, "interrupted": 1, "running": 1,
        "with_lost_returns": 1,
    }  # fmt: skip
    mean = found["gain_over_default"]["mean_return"]
    assert (mean["jobs"], mean["baseline_jobs"]) == (4, 2)
    # The two that were lost count with the worst return, the others go on with 50.
    assert mean["mean"] == pytest.approx(sign * (4 + 4 + 50 + 50) / 4)


def test_a_phase_that_lost_a_return_counts_as_the_worst_and_the_job_goes_on(wire, name):
    study_of(wire, name)
    whole(wire, name, "control", 10.0)
    run = Run(wire, name, "control")
    run.decide()
    for value in [20.0] * 4 + [None] + [20.0] * 5:
        run.report(value)
    run.finish()
    found = gain(wire, name)
    assert found["gain_over_default"]["mean_return"]["baseline_mean"] == (10 + 19) / 2
    assert found["ends"]["control"]["with_lost_returns"] == 1


@pytest.mark.parametrize("kind", ["last_episodes", "phase_episodes"])
def test_a_lost_episode_never_makes_a_phase_look_better(wire, name, kind):
    """The one that was lost was the lowest; the nine others must not stand for it."""
    scores = []
    for study, returns in ((f"{name}-a", [2.0] + [10.0] * 9), (f"{name}-b", [10.0] * 9)):
        wire.study(study, strategy={"name": "random"}, returns={"kind": kind}, seed=1)
        job = wire.job(study, role="control", total=100)
        wire.report(job, 1, 0, [1.0], env_step=10)
        lost = {} if len(returns) == 10 else {"dropped_returns": {"episode_returns": 1}}
        wire.report(job, 2, 0, returns, env_step=50, **lost)
        wire.report(job, 3, 0, [10.0], env_step=100)
        wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"env_step": 100})
        scores.append(gain(wire, study)["gain_over_default"]["mean_return"]["baseline_mean"])
    assert scores[1] <= scores[0]


def test_a_number_of_another_kind_that_was_lost_changes_nothing(wire, name):
    study_of(wire, name)
    run = Run(wire, name, "control")
    wire.report(run.job, 1, 0, [], custom_return=5.0, env_step=100,
                dropped_returns={"phase_return": 1, "episode_returns": 3})  # fmt: skip
    run.finish()
    assert gain(wire, name)["ends"]["control"]["with_lost_returns"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", DECIDE_ONCE)
@pytest.mark.parametrize("death", ["failed", "diverged"])
def test_a_value_that_kills_is_neither_exploited_nor_explored_for_long(wire, name, strategy, death):
    """x2 brings a fifth more and kills three of four: by its survivors it is the best."""
    study_of(wire, name, strategy)
    taken: list[tuple[str, float]] = []
    deaths = 0
    for number in range(40):
        run = Run(wire, name)
        decided = False
        for place in range(10):
            factor = run.decide()
            if not decided:
                taken.append((run.role, factor))
                decided = True
            if factor == 2.0 and place == 4 and number % 4:
                deaths += 1
                break
            run.report((120.0 if factor == 2.0 else 100.0) + number % 3)
        else:
            run.finish()
            continue
        if death == "diverged":
            run.report(None)
        run.finish("failed" if death == "failed" else "completed")
    late = [factor for role, factor in taken[20:] if role == "exploit"]
    assert late
    assert 2.0 not in late
    assert deaths <= 8, "exploring jobs keep off it, too, once it is shown"
    words = gain(wire, name)["gain_over_default"]["mean_return"]["in_words"]
    assert "better:" not in words


def test_better_by_the_scores_and_lost_more_often_is_not_called_better(wire, name):
    study_of(wire, name)
    for number in range(40):
        whole(wire, name, "control", 10.0 + 0.01 * number)
        run = Run(wire, name, "exploit")
        run.decide()
        run.report(99.0, steps=90 if number % 8 else 10)
        run.finish("completed" if number % 8 else "failed")
    found = gain(wire, name)["gain_over_default"]
    assert (found["lost"], found["baseline_lost"]) == (5, 0)
    assert found["mean_return"]["verdict"] == "better_but_lost"
    assert found["mean_return"]["in_words"].startswith("exploiting jobs bring more, but are lost")
    assert found["mean_return"]["in_words"].endswith(
        "lost: 5 of 40 exploiting and 0 of 40 control jobs"
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", DECIDE_ONCE)
def test_runs_that_are_stopped_because_they_are_good_teach_that_they_are_good(wire, name, strategy):
    study_of(wire, name, strategy)
    late = []
    for number in range(36):
        run = Run(wire, name)
        for place in range(1, 11):
            factor = run.decide()
            level = min(100.0, 25.0 * place) if factor == 2.0 else 40.0 + 4.0 * place
            run.report(level + number % 3)
            if level >= 100.0:
                break
        if number >= 20 and run.role == "exploit":
            late.append(factor)
        run.finish("reached" if level >= 100.0 else "completed")
    assert set(late) == {2.0}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", DECIDE_ONCE)
def test_jobs_that_never_come_to_their_planned_end_teach_what_they_showed(wire, name, strategy):
    """All of them are interrupted at 80 %; exploring falls, and what is better is used."""
    study_of(wire, name, strategy)
    roles, late = [], []
    for number in range(40):
        run = Run(wire, name)
        value = 0.0
        for _ in range(8):
            factor = run.decide()
            value += {0.5: 3.0, 1.0: 6.0, 2.0: 12.0}[factor]
            run.report(value + number % 3)
        run.finish("interrupted")
        roles.append(run.role)
        late += [factor] if number >= 24 and run.role == "exploit" else []
    assert roles[24:].count("explore") <= 5
    assert late
    assert set(late) == {2.0}


@contextlib.contextmanager
def embedded(
    path: str, opened: Callable[[str], EmbeddedTransport] = EmbeddedTransport
) -> Iterator[tuple[Wire, Any]]:
    transport = opened(path)
    try:
        yield Wire(transport=transport), oracle_of(transport)
    finally:
        transport.close()


def test_a_job_that_falls_silent_counts_until_it_is_heard_of_again(tmp_path, monkeypatch):
    path = str(tmp_path / "oracle.db")
    with embedded(path) as (wire, oracle):
        study_of(wire, "s", "best_config")
        whole(wire, "s", "control", 10.0)
        run = Run(wire, "s", "explore", job_key="key-of-the-job")
        run.decide()
        run.report(30.0)
        now = oracle.clock.monotonic()
        monkeypatch.setattr(oracle.clock, "monotonic", lambda: now + oracle.lease_seconds + 1)
        assert upkeep.note_expired(oracle) == 1
        assert upkeep.note_expired(oracle) == 0, "it is told once"
        assert wire.call("GET", f"/v1/jobs/{run.job['job_id']}").json["status"] == "stale"
        before = gain(wire, "s")
        assert before["ends"]["explore"]["lapsed"] == 1
        # A tenth at 30, the rest at the worst return of the study.
        regret = before["regret_of_exploration"]["mean_return"]
        assert regret["baseline_mean"] == pytest.approx(0.1 * 30 + 0.9 * 10)
    monkeypatch.undo()
    with embedded(path) as (wire, _):
        assert gain(wire, "s") == before, "a restart knows it, too"
        run.wire = wire
        assert wire.call("GET", f"/v1/jobs/{run.job['job_id']}").json["status"] == "stale"
        run.report(30.0, steps=90)
        assert gain(wire, "s")["ends"]["explore"]["lapsed"] == 0
        run.finish()
        regret = gain(wire, "s")["regret_of_exploration"]["mean_return"]
        assert regret["baseline_mean"] == pytest.approx(30.0)


def test_a_job_that_died_with_the_process_of_its_embedded_oracle_is_lost_until_it_goes_on(tmp_path):
    """Nobody else can have the store open, so there is nothing to wait for."""
    path = str(tmp_path / "oracle.db")
    with embedded(path, open_transport) as (wire, _):
        study_of(wire, "s")
        run = Run(wire, "s", "control", job_key="key-of-the-job")
        run.decide()
        run.report(30.0)
    with embedded(path, open_transport) as (wire, _):
        assert gain(wire, "s")["ends"]["control"]["lapsed"] == 1
        wire.job("s", role="control", total=TOTAL, job_key="key-of-the-job")
        run.wire = wire
        run.report(30.0, steps=90)
        run.finish()
        assert gain(wire, "s")["ends"]["control"]["whole"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [*DECIDE_ONCE, "bandit"])
def test_a_restart_knows_what_was_lost_and_what_is_avoided(tmp_path, strategy):
    path = str(tmp_path / "oracle.db")
    with embedded(path) as (wire, oracle):
        study_of(wire, "s", strategy)
        for number in range(12):
            run = Run(wire, "s")
            for _ in range(10):
                if run.decide() == 2.0:
                    run.finish("failed")
                    break
                run.report(float(number % 3))
            else:
                run.finish()
        with oracle.study("s") as study:
            before = [(job.ending, job.account.exposure) for job in study.jobs.values()]
            avoided = [each.tolist() for each in study.endings.avoided_by("exploit").bins]
        assert avoided[0][2], "x2 kills every job"
    with embedded(path) as (wire, oracle), oracle.study("s") as study:
        assert [(job.ending, job.account.exposure) for job in study.jobs.values()] == before
        assert [each.tolist() for each in study.endings.avoided_by("exploit").bins] == avoided


def test_jobs_of_another_environment_or_length_are_kept_apart(wire, name):
    study_of(wire, name)
    for value in (10.0, 11.0, 12.0):
        whole(wire, name, "control", value, metadata={"environment": "A"})
        whole(wire, name, "explore", value, metadata={"environment": "A"})
    whole(wire, name, "explore", 900.0, metadata={"environment": "B"})
    whole(wire, name, "explore", 900.0, metadata={"environment": "A"}, total=99)
    found = gain(wire, name)
    regret = found["regret_of_exploration"]["mean_return"]
    assert (regret["jobs"], regret["baseline_jobs"]) == (3, 3)
    assert (regret["mean"], regret["baseline_mean"]) == (11.0, 11.0)
    assert found["jobs_of_other_tasks"] == 2


def test_the_update_that_led_to_a_lost_return_is_credited_with_the_worst(tmp_path):
    """`epgt` sees it, too: the memory holds what the update really led to."""
    with embedded(str(tmp_path / "oracle.db")) as (wire, oracle):
        wire.study("s", strategy={"name": "epgt"}, returns=CUSTOM)
        job = wire.job("s")
        for sequence, value in ((1, 7.0), (3, 3.0)):
            wire.propose(job, sequence, seed=sequence)
            wire.report(job, sequence + 1, sequence, [], custom_return=value, env_step=sequence)
        wire.propose(job, 5, seed=5)
        lost = wire.report(job, 6, 5, [], env_step=5, dropped_returns={"custom_return": 1})
        assert lost.json["credited"] == 1
        wire.propose(job, 7, seed=7)
        wire.call("POST", f"/v1/jobs/{job['job_id']}/finish", {"reason": "failed"})
        with oracle.study("s") as study:
            (recollection,) = study.agent.recollections.values()
            values = recollection.memory.entries().values
        assert sorted(values[-2:]) == [3.0, 3.0]
        assert min(values) == 3.0
