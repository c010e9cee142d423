from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from hyperoracle_trainers.bench.contender_process import Advance, contender_process


def _counting(first: int, stack: ExitStack) -> Advance:
    if first < 0:
        raise ValueError(f"expected 0 or more, got {first}")

    def advance(env_steps: int) -> int:
        if env_steps > 100:
            raise ArithmeticError("too far")
        sum(range(200_000))
        return os.getpid() if env_steps == 0 else first + env_steps

    return advance


def test_a_contender_takes_its_turns_in_a_process_of_its_own() -> None:
    with contender_process(_counting, 5) as contender:
        turn = contender(7)
        assert turn.env_steps == 12
        assert turn.cpu_seconds > 0
        assert turn.wall_seconds > 0
        pid = contender(0).env_steps
        assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_a_contender_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="got -1"), contender_process(_counting, -1):
        pass
    with contender_process(_counting, 0) as contender, pytest.raises(ArithmeticError):
        contender(101)
