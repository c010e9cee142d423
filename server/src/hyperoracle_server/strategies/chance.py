"""Numbered chance: a stream of random numbers for every decision, made from its number alone.

By it is drawn, too, which part a job plays in its study: staying on the defaults, trying, or using
what is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyperoracle_protocol.jobs import Role
    from hyperoracle_protocol.strategies import RoleSetting


class NumberedStreams:
    """Random streams by number; nothing random has to be stored to continue after a restart.

    Not thread-safe: the streams share one generator, so that a stream costs a third of what a new
    one does; asking for the next ends the one before.

    Args:
        seed: 64 bits; with another seed all streams are other ones.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, 0], np.uint64))
        self._generator = np.random.Generator(self._bits)
        self._fresh = self._bits.state

    def stream(self, number: int) -> np.random.Generator:
        """The stream of a number (64 bits): that of a new Philox with the key (seed, number)."""
        self._fresh["state"]["key"][1] = number
        self._bits.state = self._fresh
        return self._generator


def drawn_role(
    setting: RoleSetting,
    number: int,
    explored: float,
    block_stream: Callable[[int], np.random.Generator],
    rng: np.random.Generator,
) -> Role:
    """The role of a job that asked for none.

    The first `controls_first` jobs are controls, and one of every `control_every` jobs after them,
    at a place that chance chooses, so that controls come early and no habit of the user's falls in
    with them. The others explore with probability
    max(`least_exploration`, 1 − explored / `exploration_jobs`), else they exploit.

    Args:
        setting: the study's.
        number: how many jobs the study had before.
        explored: how many exploring jobs ended, each by the share of its plan that it says
            something about: one that died says all of it.
        block_stream: the chance of a block of `control_every` jobs, by its number.
        rng: the chance of this job.
    """
    explores = rng.random() < max(
        setting.least_exploration, 1.0 - explored / setting.exploration_jobs
    )
    if number < setting.controls_first:
        return "control"
    if setting.control_every:
        block, place = divmod(number - setting.controls_first, setting.control_every)
        if place == int(block_stream(block).integers(setting.control_every)):
            return "control"
    return "explore" if explores else "exploit"
