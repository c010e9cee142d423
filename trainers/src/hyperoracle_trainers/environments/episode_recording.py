"""How each environment came to where it is: enough to bring another one there.

An environment's own state cannot be read in general. But an episode is decided by the state of the
environment's random generator before its reset and by the actions since, so these are recorded;
an environment of the same kind that repeats them ends up in the same place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hyperoracle_trainers.saved_state import State


class EpisodeRecording:
    """The unfinished episodes of environments that are stepped together.

    Args:
        generators: state of each environment's random generator before its first reset.
    """

    def __init__(self, generators: list[State]) -> None:
        self._generators = list(generators)
        self._began = [0] * len(generators)  # at which step each episode began
        self._step = 0
        # The actions of all environments from step `_first` on. Bytes, because a list of small
        # arrays takes ten times the memory, which counts where episodes never end.
        self._first = 0
        self._actions = bytearray()
        self._dtype = np.dtype(np.float32)
        self._shape: tuple[int, ...] = (len(generators),)

    def act(self, actions: npt.NDArray[Any]) -> None:
        """Note the actions [environments, …] of one step."""
        self._dtype, self._shape = actions.dtype, actions.shape
        self._actions += actions.tobytes()
        self._step += 1

    def begin(self, index: int, generator: State) -> None:
        """Note that an environment is about to be reset, with its generator in this state."""
        self._generators[index] = generator
        self._began[index] = self._step
        if (oldest := min(self._began)) > self._first:
            size = len(self._actions) // (self._step - self._first)
            del self._actions[: (oldest - self._first) * size]
            self._first = oldest

    def episode(self, index: int) -> tuple[State, npt.NDArray[Any]]:
        """Return the generator's state before the last reset, and the actions since [steps, …]."""
        actions = self._all_actions()[self._began[index] - self._first :, index]
        return self._generators[index], actions

    def state(self) -> State:
        """Return what :meth:`restore` takes."""
        return {
            "generators": list(self._generators),
            "began": [began - self._first for began in self._began],
            "actions": self._all_actions().copy(),
        }

    def restore(self, state: State) -> None:
        """Go on with the recording that ``state`` is of."""
        actions = state["actions"]
        self._generators = list(state["generators"])
        self._began = list(state["began"])
        self._first, self._step = 0, len(actions)
        self._dtype, self._shape = actions.dtype, actions.shape[1:]
        self._actions = bytearray(actions.tobytes())

    def _all_actions(self) -> npt.NDArray[Any]:
        actions = np.frombuffer(bytes(self._actions), self._dtype)
        return actions.reshape(self._step - self._first, *self._shape)
