"""Who works where: what takes long, or has to wait, leaves the event loop to the others."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
from support.handles import oracle_of
from support.wire_client import Wire

from hyperoracle_server.api.embedded import EmbeddedTransport
from hyperoracle_server.api.turns import PLACES, Turns
from hyperoracle_server.keyed.agent import KeyedAgent
from hyperoracle_server.keyed.dqn.learner import QLearner

PATIENCE = 20.0


class AnAgent:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def decide_seconds(self, *_: object) -> float:
        return self.seconds

    learn_seconds = decide_seconds


class AJob:
    id, signature, open = 1, "", ()


class AStudy:
    def __init__(self, seconds: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.agent = AnAgent(seconds)
        self.endings = SimpleNamespace(knows_hazards=True)
        self.jobs = {name: AJob() for name in ("a", "busy", "idle")}


class AnOracle:
    def __init__(self, **studies: AStudy) -> None:
        self.studies = studies

    def study_at_work(self, job: str) -> AStudy | None:
        return self.studies.get(job)


def turns(**studies: AStudy) -> Turns:
    return Turns(AnOracle(**studies))  # type: ignore[arg-type]  # all that it asks of one


def test_a_short_call_is_answered_where_it_arrives():
    async def run():
        return await turns(a=AStudy()).take(
            "propose", "a", is_bulky=False, answer=threading.get_ident
        )

    assert asyncio.run(run()) == threading.get_ident()


@pytest.mark.parametrize(
    ("seconds", "is_bulky", "job"),
    [(0.1, False, "a"), (0.0, True, "a"), (0.0, False, "unknown")],
)
def test_a_long_call_a_long_body_and_what_needs_the_store_are_not(seconds, is_bulky, job):
    async def run():
        return await turns(a=AStudy(seconds)).take(
            "report", job, is_bulky=is_bulky, answer=threading.get_ident
        )

    assert asyncio.run(run()) != threading.get_ident()


def test_calls_of_a_study_at_work_wait_in_one_thread_and_others_are_answered():
    busy, idle = AStudy(), AStudy()
    waiting: list[int] = []

    def answer(number: int) -> int:
        with busy.lock:
            waiting.append(number)
        return number

    async def run():
        given = turns(busy=busy, idle=idle)
        held, release = threading.Event(), threading.Event()

        def work() -> None:
            with busy.lock:
                held.set()
                assert release.wait(PATIENCE)

        with ThreadPoolExecutor() as pool:
            working = pool.submit(work)
            assert held.wait(PATIENCE)
            before = threading.active_count()
            calls = [
                asyncio.create_task(
                    given.take("propose", "busy", is_bulky=False, answer=partial(answer, n))
                )
                for n in range(20)
            ]
            await asyncio.sleep(0)  # they begin
            assert (
                await given.take("propose", "idle", is_bulky=False, answer=lambda: "at once")
                == "at once"
            )
            assert threading.active_count() <= before + 1
            assert waiting == []
            release.set()
            assert await asyncio.gather(*calls) == list(range(20))
            working.result(PATIENCE)
        assert waiting == list(range(20))  # in the order of their arrival

    asyncio.run(run())


def test_a_refusal_reaches_the_caller_and_lets_the_next_one_pass():
    def refuse() -> None:
        raise ValueError("no")

    async def run():
        for seconds in (0.0, 1.0):
            given = turns(a=AStudy(seconds))
            with pytest.raises(ValueError, match="no"):
                await given.take("report", "a", is_bulky=False, answer=refuse)
            assert await given.take("report", "a", is_bulky=False, answer=lambda: 1) == 1

    asyncio.run(run())


# -- the whole application -----------------------------------------------------------------------


class ThroughTheLoop:
    """An oracle in this process, all of whose calls pass through the loop as over a socket."""

    def __init__(self, transport: EmbeddedTransport) -> None:
        self._transport = transport

    def handle(self, method, path, headers, body):
        given = {**headers, "content-length": str(len(body))}
        coroutine = self._transport._through_asgi(method, path, given, body)
        return asyncio.run_coroutine_threadsafe(coroutine, self._transport._loop).result(PATIENCE)


@pytest.fixture
def loop_wire(tmp_path):
    transport = EmbeddedTransport(str(tmp_path / "oracle.db"))
    yield Wire(transport=ThroughTheLoop(transport))
    transport.close()


class Held:
    """Stands in for a call that takes long: it lasts until it is let go."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.began.set()
        assert self.release.wait(PATIENCE)


def others_are_answered(wire: Wire, other: object, first: int) -> None:
    """`/livez`, and what another study's job asks and tells."""
    assert wire.call("GET", "/livez").status == 200
    assert wire.propose(other, first, seed=first).status == 200
    assert wire.report(other, first + 1, first).status == 200
    assert wire.call("GET", "/v1/studies").status == 200
    assert wire.call("GET", "/metrics").status == 200


def test_while_a_q_network_learns_the_others_are_answered(loop_wire, monkeypatch):
    learning = {"hidden_size": 256, "batch_size": 256, "gradient_steps": 20, "replay_start": 1}
    assert loop_wire.study("dqn", strategy={"name": "dqn", "q_learning": learning}).status == 201
    loop_wire.study("other")
    job, other = loop_wire.job("dqn"), loop_wire.job("other")
    loop_wire.propose(job, 1)
    held = Held()
    monkeypatch.setattr(QLearner, "learn", held)
    with ThreadPoolExecutor() as pool:
        reports = pool.submit(loop_wire.report, job, 2, 1)
        assert held.began.wait(PATIENCE)
        proposals = [pool.submit(loop_wire.propose, job, sequence) for sequence in range(3, 8)]
        for turn in range(3):
            others_are_answered(loop_wire, other, 2 * turn + 1)
        assert loop_wire.call("GET", "/v1/studies/dqn").status == 200  # waits for no lock
        assert not any(call.done() for call in (reports, *proposals))
        held.release.set()
        assert reports.result(PATIENCE).json["credited"] == 1
        assert [p.result(PATIENCE).status for p in proposals] == [200] * 5


def test_while_an_encoder_is_made_its_own_study_is_answered_too(loop_wire, monkeypatch):
    loop_wire.study("s")
    loop_wire.study("other")
    loop_wire.study("plain", strategy={"name": "random"})
    job, other = loop_wire.job("s"), loop_wire.job("other")
    held, make = Held(), KeyedAgent.fresh_encoder

    def slowly(agent, layout):
        held()
        return make(agent, layout)

    monkeypatch.setattr(KeyedAgent, "fresh_encoder", slowly)
    tensors = [{"name": "another", "shape": [5, 3]}]
    with ThreadPoolExecutor() as pool:
        start = pool.submit(loop_wire.job, "s", tensors=tensors)
        assert held.began.wait(PATIENCE)
        others_are_answered(loop_wire, other, 1)
        others_are_answered(loop_wire, job, 1)
        assert loop_wire.job("s")["layout"] == job["layout"]  # of a layout that there is
        assert loop_wire.job("plain")["job_id"]
        assert loop_wire.study("new").status == 201
        assert not start.done()
        held.release.set()
        assert start.result(PATIENCE)["layout"]["feature_count"] == 5 * 8 * 3


def test_calls_that_wait_for_a_study_leave_threads_to_others(loop_wire):
    """Forty threads are all that the framework has for the calls beside the hot ones."""
    loop_wire.study("busy")
    loop_wire.study("other")
    job, other = loop_wire.job("busy"), loop_wire.job("other")
    oracle = oracle_of(loop_wire)
    with ThreadPoolExecutor(60) as pool, oracle.study("busy"):
        reads = [pool.submit(loop_wire.call, "GET", f"/v1/jobs/{job['job_id']}")
                 for _ in range(50)]  # fmt: skip
        others_are_answered(loop_wire, other, 1)
        assert loop_wire.job("other")["job_id"]
        assert not any(read.done() for read in reads)
        inside = [t for t in threading.enumerate() if t.name.startswith("AnyIO worker")]
        assert len(inside) < 40
    assert PLACES < 40
    assert [read.result(PATIENCE).status for read in reads] == [200] * 50
