"""Jobs that run from start to end, for hyper-agents that decide once for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperoracle_protocol.jobs import Role
from hyperoracle_server.strategies.decisions import CurvePoint, Decision, Moment
from hyperoracle_server.strategies.evidence.job_account import Ending, EndReason, ending_of
from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve


def decide(agent: Any, job_id: int, role: Role = "exploit", seed: int = 0) -> Decision:
    """What a job that begins is given."""
    moment = Moment(job_id, role, 0, 100, "none", None, 1, {})
    return agent.decide(moment, np.random.default_rng(seed))


def ending(
    points: Sequence[tuple[int, float]],
    reason: EndReason = "completed",
    *,
    planned: int | None = None,
    floor: float | None = None,
) -> Ending:
    """How a job with these returns ends; planned up to the last of them if nothing is said."""
    curve = LearningCurve(points[-1][0] if planned is None else planned)
    curve.extend(points)
    return ending_of(curve, reason, curve.env_step, floor)


def run(agent: Any, job_id: int, value: float) -> None:
    """Let a job go to its end, at one return all the way."""
    points = [CurvePoint(100, value)]
    agent.observe(job_id, points)
    agent.close(job_id, ending(points))


def run_with(agent: Any, job_id: int, action: int, value: float) -> None:
    """Let a job that was given an action go to its end, at one return all the way."""
    agent._jobs.of(job_id).hyper_action = action
    run(agent, job_id, value)


def fall_behind(agent: Any, first: int) -> int:
    """Let exploiting jobs do worse than controls, whatever they are given, until the guard trips.

    Args:
        agent: has a guard over its study.
        first: the first job's number; even, it exploits.

    Returns:
        The number of the job that comes next.
    """
    for job_id in range(first, first + 60):
        if agent.guard.trips:
            return job_id
        role: Role = "control" if job_id % 2 else "exploit"
        decide(agent, job_id, role)
        level = 5.0 if role == "control" else 3.0
        run(agent, job_id, level + 0.01 * (job_id % 7))
    raise AssertionError("the guard does not trip")
