"""Numbered chance: a stream of random numbers for every decision, made from its number alone."""

from __future__ import annotations

import numpy as np


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
