"""Until when a decision holds."""

from __future__ import annotations

FOR_EVER = 2**53 - 1
"""An env step that no job reaches."""


def end_of_segment(env_step: int, total: int, decisions: int) -> int:
    """The env step at which the next of a job's evenly spread decisions is due."""
    segment = min(decisions - 1, env_step * decisions // total)
    return FOR_EVER if segment == decisions - 1 else -(-(segment + 1) * total // decisions)
