"""Gymnasium's classic control problems without what surrounds a step there.

A step of one of these is a microsecond of arithmetic. Gymnasium's takes 16 to 60, for NumPy's
scalars, wrappers and checks: half of a training job or more. This does the same arithmetic, of one
copy at a time in plain floats, so that an episode is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import cos, pi, sin
from types import MappingProxyType
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.seeding import np_random

from hyperoracle_trainers.saved_state import State

Floats = tuple[float, ...]
"""A state of a problem, or an observation of it before it is rounded to single precision."""


class Physics(Protocol):
    """A classic control problem; it has no state of its own."""

    def begin(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw the first state of an episode; return it and its observation."""
        ...

    def step(self, state: Floats, action: Any) -> tuple[Floats, float, bool]:
        """Return the next state, the reward, and whether the task has ended.

        Args:
            state: is not changed.
            action: int from 0 on, or float32 within the action space's bounds.
        """
        ...

    def observation(self, state: Floats) -> Floats:
        """Return what a state that :meth:`step` returned looks like."""
        ...


_GRAVITY = 9.8  # m/s², of cart-pole and Acrobot

_POLE_MASS = 0.1  # kg
_CART_AND_POLE_MASS = _POLE_MASS + 1.0  # kg
_HALF_POLE = 0.5  # m
_POLE_MOMENT = _POLE_MASS * _HALF_POLE  # kg m
_PUSH = 10.0  # N
_CART_SECONDS = 0.02
_GREATEST_TILT = 12 * 2 * pi / 360  # rad
_TRACK = 2.4  # m, to either side


class CartPole:
    """Balances a pole on a cart; a state is (position, velocity, angle, angular velocity)."""

    def begin(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw all four within ±0.05."""
        state = tuple(generator.uniform(-0.05, 0.05, 4).tolist())
        return state, state

    def step(self, state: Floats, action: int) -> tuple[Floats, float, bool]:
        """Push left (0) or right (1); every step is rewarded with 1."""
        x, x_dot, theta, theta_dot = state
        force = _PUSH if action == 1 else -_PUSH
        cosine, sine = cos(theta), sin(theta)
        pushed = (force + _POLE_MOMENT * (theta_dot * theta_dot) * sine) / _CART_AND_POLE_MASS
        angular = (_GRAVITY * sine - cosine * pushed) / (
            _HALF_POLE * (4.0 / 3.0 - _POLE_MASS * (cosine * cosine) / _CART_AND_POLE_MASS)
        )
        linear = pushed - _POLE_MOMENT * angular * cosine / _CART_AND_POLE_MASS
        x += _CART_SECONDS * x_dot
        x_dot += _CART_SECONDS * linear
        theta += _CART_SECONDS * theta_dot
        theta_dot += _CART_SECONDS * angular
        fallen = not (-_TRACK <= x <= _TRACK and -_GREATEST_TILT <= theta <= _GREATEST_TILT)
        return (x, x_dot, theta, theta_dot), 1.0, fallen

    def observation(self, state: Floats) -> Floats:
        """Return the state."""
        return state


_FULL_SPEED = 0.07
_LEFT_END, _RIGHT_END, _GOAL = -1.2, 0.6, 0.5
_ENGINE, _SLOPE = 0.001, 0.0025


class MountainCar:
    """Drives out of a valley with a weak engine; a state is (position, velocity)."""

    def begin(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw a position from -0.6 to -0.4, at rest."""
        state = generator.uniform(-0.6, -0.4), 0.0
        return state, state

    def step(self, state: Floats, action: int) -> tuple[Floats, float, bool]:
        """Accelerate left (0), not (1) or right (2); every step costs 1."""
        position, velocity = state
        velocity += (action - 1) * _ENGINE + cos(3 * position) * (-_SLOPE)
        velocity = min(max(velocity, -_FULL_SPEED), _FULL_SPEED)
        position = min(max(position + velocity, _LEFT_END), _RIGHT_END)
        if position == _LEFT_END and velocity < 0:
            velocity = 0.0
        return (position, velocity), -1.0, position >= _GOAL and velocity >= 0

    def observation(self, state: Floats) -> Floats:
        """Return the state."""
        return state


_ROD_GRAVITY = 10.0  # m/s²
_ROD_LENGTH, _ROD_MASS = 1.0, 1.0
_ROD_SECONDS = 0.05
_ROD_SPEED = 8.0  # rad/s
_BY_GRAVITY = 3 * _ROD_GRAVITY / (2 * _ROD_LENGTH)
_BY_TORQUE = 3.0 / (_ROD_MASS * _ROD_LENGTH**2)


class Pendulum:
    """Swings a rod up and holds it there; a state is (angle, angular velocity)."""

    def begin(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw any angle and an angular velocity within ±1."""
        most = np.array([pi, 1.0])
        state = tuple(generator.uniform(-most, most).tolist())
        return state, self.observation(state)

    def step(self, state: Floats, action: np.float32) -> tuple[Floats, float, bool]:
        """Apply a torque, which is taken in single precision; it never ends."""
        theta, speed = state
        tilt = (theta + pi) % (2 * pi) - pi
        cost = tilt**2 + 0.1 * speed**2 + float(0.001 * action**2)
        speed += (_BY_GRAVITY * sin(theta) + float(_BY_TORQUE * action)) * _ROD_SECONDS
        speed = min(max(speed, -_ROD_SPEED), _ROD_SPEED)
        return (theta + speed * _ROD_SECONDS, speed), -cost, False

    def observation(self, state: Floats) -> Floats:
        """Return the angle's cosine and sine, and the angular velocity."""
        theta, speed = state
        return cos(theta), sin(theta), speed


# Two equal links.
_LINK_MASS, _LINK_LENGTH, _LINK_CENTRE, _LINK_INERTIA = 1.0, 1.0, 0.5, 1.0  # kg, m, m, kg m²
_COUPLING = _LINK_MASS * _LINK_LENGTH * _LINK_CENTRE
_OWN = _LINK_MASS * _LINK_CENTRE**2
_BOTH = _LINK_LENGTH**2 + _LINK_CENTRE**2
_LOWER_WEIGHT = _LINK_MASS * _LINK_CENTRE * _GRAVITY
_UPPER_WEIGHT = (_LINK_MASS * _LINK_CENTRE + _LINK_MASS * _LINK_LENGTH) * _GRAVITY
_LINK_SECONDS = 0.2
_UPPER_SPEED, _LOWER_SPEED = 4 * pi, 9 * pi  # rad/s
_RIGHT_ANGLE = pi / 2.0


class Acrobot:
    """Swings two links up by a motor between them; a state is two angles and their velocities."""

    def begin(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw all four within ±0.1, in single precision, as is all that is then observed."""
        drawn = generator.uniform(-0.1, 0.1, 4).astype(np.float32)
        upper, lower, *speeds = drawn
        observed = np.cos(upper), np.sin(upper), np.cos(lower), np.sin(lower), *speeds
        return tuple(drawn.tolist()), tuple(map(float, observed))

    def step(self, state: Floats, action: int) -> tuple[Floats, float, bool]:
        """Turn the motor by -1 (0), 0 (1) or 1 N m (2); every step but the last costs 1."""
        upper, lower, upper_speed, lower_speed = _integrated(state, action - 1.0)
        upper, lower = _wrapped(upper), _wrapped(lower)
        upper_speed = min(max(upper_speed, -_UPPER_SPEED), _UPPER_SPEED)
        lower_speed = min(max(lower_speed, -_LOWER_SPEED), _LOWER_SPEED)
        up = -cos(upper) - cos(lower + upper) > 1.0
        return (upper, lower, upper_speed, lower_speed), 0.0 if up else -1.0, up

    def observation(self, state: Floats) -> Floats:
        """Return each angle's cosine and sine, and the angular velocities."""
        upper, lower, upper_speed, lower_speed = state
        return cos(upper), sin(upper), cos(lower), sin(lower), upper_speed, lower_speed


def _integrated(state: Floats, torque: float) -> Floats:
    """Return Acrobot's state one step later, by the classic Runge-Kutta method."""
    a, b, c, d = state
    half = _LINK_SECONDS / 2.0
    a1, b1, c1, d1 = _derivative(a, b, c, d, torque)
    a2, b2, c2, d2 = _derivative(a + half * a1, b + half * b1, c + half * c1, d + half * d1, torque)
    a3, b3, c3, d3 = _derivative(a + half * a2, b + half * b2, c + half * c2, d + half * d2, torque)
    whole = _LINK_SECONDS
    a4, b4, c4, d4 = _derivative(
        a + whole * a3, b + whole * b3, c + whole * c3, d + whole * d3, torque
    )
    sixth = _LINK_SECONDS / 6.0
    return (
        a + sixth * (a1 + 2 * a2 + 2 * a3 + a4),
        b + sixth * (b1 + 2 * b2 + 2 * b3 + b4),
        c + sixth * (c1 + 2 * c2 + 2 * c3 + c4),
        d + sixth * (d1 + 2 * d2 + 2 * d3 + d4),
    )


def _derivative(
    upper: float, lower: float, upper_speed: float, lower_speed: float, torque: float
) -> tuple[float, float, float, float]:
    """Return the derivative of Acrobot's state by time.

    Source:
        Sutton and Barto, "Reinforcement Learning: An Introduction" (2018), Example 11.3 of the
        first edition; the names there are d1, d2, phi1 and phi2.
    """
    cosine, sine = cos(lower), sin(lower)
    d1 = _OWN + _LINK_MASS * (_BOTH + 2 * _COUPLING * cosine) + _LINK_INERTIA + _LINK_INERTIA
    d2 = _LINK_MASS * (_LINK_CENTRE**2 + _COUPLING * cosine) + _LINK_INERTIA
    phi2 = _LOWER_WEIGHT * cos(upper + lower - _RIGHT_ANGLE)
    phi1 = (
        -_COUPLING * lower_speed**2 * sine
        - 2 * _COUPLING * lower_speed * upper_speed * sine
        + _UPPER_WEIGHT * cos(upper - _RIGHT_ANGLE)
        + phi2
    )
    by_lower = (torque + d2 / d1 * phi1 - _COUPLING * upper_speed**2 * sine - phi2) / (
        _OWN + _LINK_INERTIA - d2**2 / d1
    )
    by_upper = -(d2 * by_lower + phi1) / d1
    return upper_speed, lower_speed, by_upper, by_lower


def _wrapped(angle: float) -> float:
    while angle > pi:
        angle -= 2 * pi
    while angle < -pi:
        angle += 2 * pi
    return angle


_GYMNASIUMS = "gymnasium.envs.classic_control"

_PHYSICS: MappingProxyType[Any, Physics] = MappingProxyType(
    {
        f"{_GYMNASIUMS}.cartpole:CartPoleEnv": CartPole(),
        f"{_GYMNASIUMS}.acrobot:AcrobotEnv": Acrobot(),
        f"{_GYMNASIUMS}.pendulum:PendulumEnv": Pendulum(),
        f"{_GYMNASIUMS}.mountain_car:MountainCarEnv": MountainCar(),
    }
)


def physics_of(specification: EnvSpec) -> Physics | None:
    """Return the physics of a registered environment; None if it is none of those known here.

    One that is registered with arguments or wrappers of its own is not.
    """
    if specification.kwargs or specification.additional_wrappers:
        return None
    return _PHYSICS.get(specification.entry_point)


class ClassicControl:
    """Copies of one classic control problem, with the attributes and the outcome of
    `VectorEnvironment`.

    Copies are stepped in turn and in plain floats: for the few that a job has, NumPy's calls on
    arrays cost more than the arithmetic.

    Args:
        specification: of a registered environment for which there is :func:`physics_of`.
        physics: that.
        count: how many copies.
        seed: copy ``i`` is seeded with the ``i``-th child of this seed.
    """  # noqa: D205 # the class's name is too long for one line

    def __init__(self, specification: EnvSpec, physics: Physics, count: int, seed: int) -> None:
        example = gymnasium.make(specification.id, disable_env_checker=True)
        space, shape = example.action_space, example.observation_space.shape
        example.close()
        assert isinstance(space, Box | Discrete)
        assert shape is not None
        self.action_space, self.observation_shape = space, shape
        self._physics = physics
        self._limit = specification.max_episode_steps or math.inf
        children = np.random.SeedSequence(seed).generate_state(count).tolist()
        self._generators = [np_random(child)[0] for child in children]
        begun = [physics.begin(each) for each in self._generators]
        self._states: list[Floats] = [state for state, _ in begun]
        self._elapsed = [0] * count
        self.observations = np.zeros((count, *shape))
        self.observations[:] = _rounded([observation for _, observation in begun])
        self.rewards = np.zeros(count)
        self.terminated = np.zeros(count, dtype=bool)
        self.truncated = np.zeros(count, dtype=bool)
        self.final_observations: dict[int, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def step(self, actions: npt.NDArray[Any]) -> None:
        """Take one env step in every copy; the attributes then hold its outcome.

        Args:
            actions: float32 [copies, 1], clipped here to the action space's bounds; or int64
                [copies], counted from 0.
        """
        physics, states, elapsed = self._physics, self._states, self._elapsed
        self.final_observations.clear()
        # Lists, because writing single numbers into arrays costs several times as much.
        rows: list[Floats] = []
        rewards: list[float] = []
        terminated: list[bool] = []
        truncated: list[bool] = []
        for index, action in enumerate(self._one_by_one(actions)):
            state, reward, ended = physics.step(states[index], action)
            row = physics.observation(state)
            elapsed[index] += 1
            cut = elapsed[index] >= self._limit
            if ended or cut:
                self.final_observations[index] = _rounded(row).astype(np.float64)
                state, row = physics.begin(self._generators[index])
                elapsed[index] = 0
            states[index] = state
            rows.append(row)
            rewards.append(reward)
            terminated.append(ended)
            truncated.append(cut)
        self.observations[:] = _rounded(rows)
        self.rewards[:] = rewards
        self.terminated[:] = terminated
        self.truncated[:] = truncated

    def _one_by_one(self, actions: npt.NDArray[Any]) -> Sequence[Any] | npt.NDArray[Any]:
        space = self.action_space
        if isinstance(space, Discrete):
            return list(actions.tolist())
        # Single precision, as Gymnasium's arithmetic on them is.
        torques: npt.NDArray[np.float32] = np.minimum(np.maximum(actions, space.low), space.high)
        return torques[:, 0]

    def state(self) -> State:
        """Return where each copy is, and its random generator."""
        return {
            "states": np.array(self._states),
            "elapsed": list(self._elapsed),
            "generators": [dict(each.bit_generator.state) for each in self._generators],
            "observations": self.observations,
        }

    def restore(self, state: State) -> list[int]:
        """Go on where ``state`` was taken.

        Returns:
            No environments: that is always possible.
        """
        self._states = [tuple(each) for each in state["states"].tolist()]
        self._elapsed = list(state["elapsed"])
        for generator, its in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = its
        self.observations[:] = state["observations"]
        return []

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _rounded(observations: list[Floats] | Floats) -> npt.NDArray[np.float32]:
    """Return observations in single precision, as Gymnasium gives them."""
    return np.array(observations, dtype=np.float32)
