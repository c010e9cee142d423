from __future__ import annotations

import os

import pytest
from support.contenders import counting

from hyperoracle_trainers.bench.peers.contender_process import contender_process


def test_a_contender_takes_its_turns_in_a_process_of_its_own() -> None:
    with contender_process(counting, 5) as contender:
        turn = contender(7)
        assert turn.env_steps == 12
        assert turn.cpu_seconds > 0
        assert turn.wall_seconds > 0
        pid = contender(0).env_steps
        assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_contender_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="got -1"), contender_process(counting, -1):
        pass
    with contender_process(counting, 0) as contender, pytest.raises(ArithmeticError):
        contender(101)


def test_a_process_that_ended_is_said_in_one_line() -> None:
    with (
        pytest.raises(ChildProcessError, match="expected a contender's process that goes on"),
        contender_process(counting, 0) as contender,
    ):
        contender(2_000_000)
