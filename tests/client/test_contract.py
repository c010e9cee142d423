"""The client against the real application, embedded and over HTTP: the same test case."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from client.conftest import DEFAULTS, SPACE, eventually, network
from support.oracle_process import OracleProcess
from support.wire_client import Wire

from hyperoracle_client import Job, Oracle, OracleMisconfigured, OracleRefused
from hyperoracle_client.api import OracleApi
from hyperoracle_client.errors import refusal

PATIENT = {
    "on_error": "raise",
    "propose_deadline_seconds": 5.0,
    "start_deadline_seconds": 30.0,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OracleProcess]:
    with OracleProcess(tmp_path_factory.mktemp("served")) as process:
        yield process


@pytest.fixture(params=["embedded", "http"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"embedded:{tmp_path / 'oracle.db'}"
    process: OracleProcess = request.getfixturevalue("served")
    return process.url


@pytest.fixture
def study() -> str:
    """A name that no other test uses."""
    return f"study-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def oracle(url: str, connect: Callable[..., Oracle]) -> Oracle:
    return connect(url, **PATIENT)


class TestAnyOracle:
    def test_a_training_run_from_start_to_finish(self, oracle: Oracle, study: str) -> None:
        model = network(np.random.default_rng(0))
        job = oracle.start_job(
            study=study, space=SPACE, model=model, total_env_steps=1000, seed=3, strategy="epgt"
        )
        for update in range(20):
            job.report([float(update)], env_step=10 * update, phase_return=1.0)
            values = job.propose(
                env_step=10 * update,
                grads={name: 0.01 * array for name, array in model.items()},
                signals={"approx_kl": 0.01},
            )
            assert values.source == "oracle"
            assert values["learning_rate"] in (0.5, 1.0, 2.0)
            assert values["clip_range"] in (0.1, 0.2, 0.3)
            for name in model:
                model[name] *= 0.99  # in place
        job.report([20.0], env_step=200)
        stats = job.finish()
        assert (stats.proposals, stats.fallbacks, stats.reports_sent) == (20, 0, 21)
        with OracleApi.at(oracle._endpoint) as api:
            told = api.job(job.id)
            found = api.study(study)
        assert (told.status, told.env_step, told.last_return) == ("finished", 200, 10.5)
        assert (told.proposals, told.reports, told.credited_proposals) == (20, 21, 20)
        assert found.memory_size > 0

    @pytest.mark.parametrize("kind", ["sketch", "statistics"])
    def test_a_torch_module_is_compressed_as_the_study_wants(
        self, oracle: Oracle, study: str, kind: str
    ) -> None:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        encoder = {"kind": "plain" if kind == "statistics" else "random"}
        job = oracle.start_job(
            study=study,
            space=SPACE,
            model=model,
            total_env_steps=100,
            strategy={"name": "epgt", "hyper_state": {"kind": kind}, "encoder": encoder},
        )
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        for update in range(4):
            assert job.propose(env_step=update).source == "oracle"
            optimiser.zero_grad()
            model(torch.randn(16, 4)).square().mean().backward()
            optimiser.step()
            job.report([1.0], env_step=update + 1)
        assert job.finish().reports_sent == 4

    def test_a_wrapped_network_shares_with_the_plain_one(self, oracle: Oracle, study: str) -> None:
        """Seen to fail: two layouts, and nothing of one job's was read by the other."""
        for wrap in (lambda network: network, torch.nn.DataParallel):
            model = wrap(torch.nn.Linear(4, 2))
            optimiser = torch.optim.SGD(model.parameters(), 0.01)
            job = oracle.start_job(
                study=study, space=SPACE, model=model, total_env_steps=100, strategy="epgt", seed=1
            )
            for update in range(1, 5):
                optimiser.zero_grad()
                model(torch.ones(8, 4)).square().mean().backward()
                optimiser.step()
                job.report([1.0], env_step=update)
                assert job.propose(env_step=update).source == "oracle"
            job.finish()
        with OracleApi.at(oracle._endpoint) as api:
            found = api.study(study)
        assert len(found.encoder_versions) == 1
        assert found.neighbours_from_other_jobs > 0

    def test_decisions_are_held_as_the_study_says(self, oracle: Oracle, study: str) -> None:
        job = oracle.start_job(
            study=study, space=SPACE, total_env_steps=100, strategy="random", hold=3
        )
        sources = [job.propose(env_step=n).source for n in range(7)]
        assert sources == ["oracle", "held", "held", "oracle", "held", "held", "oracle"]
        by_env_step = oracle.start_job(
            study=f"{study}-x", space=SPACE, total_env_steps=100, strategy="random",
            hold={"decisions_per_job": 4},
        )  # fmt: skip
        sources = [by_env_step.propose(env_step=n).source for n in range(0, 100, 10)]
        assert sources.count("oracle") == 4

    def test_prefetched_proposals_are_credited_to_the_update_that_used_them(
        self, oracle: Oracle, study: str
    ) -> None:
        job = oracle.start_job(
            study=study, space=SPACE, total_env_steps=100, strategy="random", prefetch=True
        )
        for n in range(5):
            assert job.propose(env_step=n).source == "oracle"
            job.report([1.0], env_step=n + 1)
        job.finish()
        with OracleApi.at(oracle._endpoint) as api:
            assert api.job(job.id).credited_proposals == 5

    def test_the_fixed_strategy_answers_the_defaults(self, oracle: Oracle, study: str) -> None:
        job = oracle.start_job(study=study, space=SPACE, total_env_steps=9, strategy="fixed")
        values = job.propose(env_step=0)
        assert (values, values.source) == (DEFAULTS, "oracle")

    def test_another_definition_of_the_same_study_is_told_at_the_start(
        self, oracle: Oracle, study: str
    ) -> None:
        oracle.start_job(study=study, space=SPACE, total_env_steps=9, strategy="random")
        with pytest.raises(OracleRefused) as caught:
            oracle.start_job(study=study, space=SPACE, total_env_steps=9, strategy="fixed")
        assert caught.value.code == "study_conflict"
        assert "strategy" in str(caught.value)

    def test_a_sketch_without_a_model_is_told_at_the_start(
        self, oracle: Oracle, study: str
    ) -> None:
        with pytest.raises(OracleRefused, match="pass the model to start_job"):
            oracle.start_job(study=study, space=SPACE, total_env_steps=9, strategy="epgt")

    def test_the_same_job_key_continues_the_job(self, oracle: Oracle, study: str) -> None:
        arguments = {"study": study, "space": SPACE, "total_env_steps": 9, "strategy": "random"}
        first = oracle.start_job(**arguments, job_key="a-key-of-its-own")
        first.propose(env_step=0)
        first.report([1.0], env_step=1)
        eventually(lambda: first.stats.reports_sent == 1)
        second = oracle.start_job(**arguments, job_key="a-key-of-its-own")
        assert second.id == first.id
        second.propose(env_step=1)
        second.report([2.0], env_step=2)
        assert second.finish().reports_sent == 1
        with OracleApi.at(oracle._endpoint) as api:
            assert api.job(second.id).credited_proposals == 2

    def test_proposals_can_be_explained_and_the_schedule_exported(
        self, oracle: Oracle, study: str
    ) -> None:
        model = network(np.random.default_rng(0))
        job = oracle.start_job(
            study=study, space=SPACE, model=model, total_env_steps=100, strategy="epgt"
        )
        for n in range(3):
            last = job.propose(env_step=n)
            job.report([1.0], env_step=n + 1)
        job.finish()
        with OracleApi.at(oracle._endpoint) as api:
            explanation = api.explanation(last.proposal_id)
            assert explanation.chosen.hyperparameters == last
            assert len(api.memory(study, limit=1).entries) == 1
            assert api.memory_map(study).points
            (keys,) = api.diagnosis(study, neighbours=3).keys
            assert (keys.jobs, keys.neighbours) == (1, None)
            assert [row.sequence for row in api.schedule(study).rows] == [1, 3, 5]
            assert len(api.schedule_csv(study).splitlines()) == 4
            assert [found.name for found in api.studies().studies].count(study) == 1
            assert len(api.jobs(study).jobs) == 1
            assert api.health("readyz").status == "ok"
            api.delete_study(study)
            with pytest.raises(OracleRefused, match="study_not_found"):
                api.study(study)


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_gets_every_report_once(
    tmp_path: Path, connect: Callable[..., Oracle]
) -> None:
    with OracleProcess(tmp_path) as process:
        oracle = connect(
            process.url,
            circuit_least_seconds=0.01,
            circuit_most_seconds=0.1,
            start_deadline_seconds=30.0,
            finish_deadline_seconds=30.0,
        )
        job: Job = oracle.start_job(study="s", space=SPACE, total_env_steps=1000, strategy="random")
        for n in range(60):
            if n == 20:
                process.kill()
            if n == 40:
                process.start()
            job.report([float(n)], env_step=n)
            assert set(job.propose(env_step=n)) == set(SPACE)
        eventually(lambda: job.stats.circuit == "closed", 30.0)
        assert job.propose(env_step=60).source == "oracle"
        stats = job.finish()
        assert (stats.reports_sent, stats.reports_pending, stats.reports_dropped) == (60, 0, 0)
        with OracleApi.at(oracle._endpoint) as api:
            told = api.job(job.id)
    assert told.reports == 60
    assert math.isclose(told.last_return or 0.0, np.mean(range(40, 60)))


def test_a_store_that_is_open_already_is_one_line(
    tmp_path: Path, connect: Callable[..., Oracle]
) -> None:
    url = f"embedded:{tmp_path / 'oracle.db'}"
    connect(url)
    with pytest.raises(OracleMisconfigured, match="hyperoracle serve") as caught:
        connect(url)
    assert "\n" not in str(caught.value)


def test_an_oracle_that_does_not_know_the_strategy_is_to_be_upgraded(served: OracleProcess) -> None:
    """As one of an earlier release answers where the client's default is a newer strategy."""
    definition = {
        "space": {"learning_rate": {"type": "relative", "values": [0.5, 1]}},
        "strategy": {"name": "of_tomorrow"},
    }
    wire = Wire(url=served.url)
    answer = wire.call("PUT", "/v1/studies/of-tomorrow", definition)
    wire.close()
    refused = refusal(answer.status, json.dumps(answer.json).encode())
    assert refused.code == "invalid_request"
    assert "upgrade the oracle, which is of an earlier release" in str(refused)
