from __future__ import annotations

import os

import pytest

from hyperoracle_trainers.bench.peers.interleaving import Turn, interleaved, median_ratio, one_core


def test_contenders_take_turns_after_one_untimed_turn_each() -> None:
    turns: list[tuple[str, int]] = []

    def contender(name: str):
        def advance(env_steps: int) -> Turn:
            turns.append((name, env_steps))
            return Turn(env_steps, 1.0, 1.0)

        return advance

    ticks: list[None] = []
    speeds = interleaved(
        {"a": contender("a"), "b": contender("b")},
        env_steps=10,
        repeats=2,
        tick=lambda: ticks.append(None),
    )
    assert turns == [("a", 1), ("b", 1), ("a", 10), ("b", 10), ("a", 10), ("b", 10)]
    assert len(ticks) == len(turns)
    assert {name: (len(each.wall), len(each.cpu)) for name, each in speeds.items()} == {
        "a": (2, 2),
        "b": (2, 2),
    }


def test_speeds_are_of_the_env_steps_that_were_taken() -> None:
    speeds = interleaved({"a": lambda _: Turn(16, 4.0, 2.0)}, env_steps=10, repeats=1)["a"]
    assert (speeds.wall, speeds.cpu) == ([4.0], [8.0])


def test_ratios_are_taken_within_repeats_so_that_a_slow_moment_of_the_machine_cancels() -> None:
    assert median_ratio([6.0, 3.0, 0.6], [2.0, 1.0, 0.2]) == pytest.approx(3.0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin processes")
def test_a_process_is_kept_on_one_core_and_let_go_again() -> None:
    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
