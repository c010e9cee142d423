"""The benchmarks of the oracle, at a small size: what they print, not how fast it is."""

from __future__ import annotations

import argparse
import importlib

import pytest

from hyperoracle_trainers.bench.figures import Figure


def measured(name: str, *arguments: str) -> dict[str, Figure]:
    module = importlib.import_module(f"hyperoracle_trainers.bench.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    said: list[str] = []
    figures = module.run(parser.parse_args(arguments), said.append)
    assert said, "it tells how far it is"
    found = {figure.what: figure for figure in figures}
    assert len(found) == len(figures), "each is told apart by its name"
    for figure in figures:
        assert Figure.from_json(figure.as_json()) == figure
    return found


def test_a_proposal_beside_an_echo_and_where_its_time_goes() -> None:
    found = measured(
        "propose", "--entries", "60", "--hyperparameters", "1", "--repeats", "1", "--stages"
    )
    ratio = found["over HTTP, of an echo, 7 actions"]
    assert (ratio.budget, ratio.goal, ratio.stands) == (3.0, 2.0, True)
    assert ratio.value > 1.0, "more than an echo is done"
    over_http, embedded = found["over HTTP, 7 actions"], found["embedded, 7 actions"]
    assert ratio.value == pytest.approx(over_http.value / over_http.beside["echo"])
    assert embedded.value > 0
    stages = [what for what in found if "in the server" in what]
    assert {"encode", "search", "choose"} <= {what.partition(" ")[0] for what in stages}


def test_an_oracle_is_killed_and_ready_again() -> None:
    found = measured("start", "--entries", "60", "--repeats", "1")
    ready = found["ready again with 60 entries"]
    assert (ready.unit, ready.budget) == ("s", 5.0)
    assert ready.value > 0
    assert ready.beside["empty store"] > 0
    assert found["memory of a server with 60 entries"].value > 10.0


def test_imports_are_timed_and_the_client_is_light() -> None:
    found = measured("imports", "--repeats", "1")
    assert found["import of the client"].budget == 0.4
    assert found["torch, httpx, gymnasium, fastapi that the client imports"].value == 0
