"""Says once that episodes do not end, because then there is nothing to judge training by."""

from __future__ import annotations

import logging

from hyperoracle_trainers.phase import Phase
from hyperoracle_trainers.settings import TrainerSettings

logger = logging.getLogger("hyperoracle_trainers")

EPISODE_ENV_STEPS = 30_000
"""Env steps after which an episode is taken for one that does not end.

The longest that are usual, of Atari games, have 27,000 (108,000 frames, 4 a step).
"""


class EpisodeWatch:
    """Looks for how long no episode has ended.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._last_end: int | None = None
        self._began: int | None = None
        self._said = False

    def look(self, phase: Phase) -> None:
        """Take note of a phase, and say it if no episode has ended for long or in the whole run."""
        steps = phase.env_step
        if self._began is None:
            self._began = steps
        if phase.episode_returns:
            self._last_end = steps
            return
        settings = self._settings
        waited = steps - (self._began if self._last_end is None else self._last_end)
        is_long = waited >= EPISODE_ENV_STEPS * settings.number_of_envs
        never = self._last_end is None and steps >= settings.total_env_steps
        if self._said or not (is_long or never):
            return
        self._said = True
        since = "" if self._last_end is None else f" since env step {self._last_end:,}"
        logger.warning(
            "%s: no episode has ended%s, at env step %s: there is no return to judge training "
            "by%s. Register the environment with max_episode_steps, or end its episodes.",
            settings.env_id,
            since or " yet",
            f"{steps:,}",
            " but old ones" if since else "",
        )
