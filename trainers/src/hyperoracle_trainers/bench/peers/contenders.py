"""Our trainers' speed beside Stable-Baselines3's and beside the bare environment's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete

from hyperoracle_trainers.bench.figures import Figure, median_of
from hyperoracle_trainers.bench.peers.contender_process import Advance, contender_process
from hyperoracle_trainers.bench.peers.interleaving import (
    Speeds,
    interleaved,
    median_ratio,
    one_core,
)
from hyperoracle_trainers.bench.peers.peer import PEER, peer_is_installed, peer_model
from hyperoracle_trainers.environments.vector import environments_of
from hyperoracle_trainers.hyperparameters.environment_names import game_of
from hyperoracle_trainers.hyperparameters.presets import default_settings
from hyperoracle_trainers.hyperparameters.settings import ACKTRSettings, AnySettings, PPOSettings
from hyperoracle_trainers.runs.run import make_trainer

OURS = "hyperoracle"
FLOOR = "bare environment"

_ACTIONS_DRAWN = 1024


@dataclass(frozen=True)
class Budget:
    """How many times the peer's env steps per second are wanted.

    Attributes:
        least: what must be reached.
        goal: what is aimed at; None aims at no more.
    """

    least: float
    goal: float | None = None


def budget_for(settings: AnySettings) -> Budget | None:
    """Return the budget for a run of such settings; None where none is set."""
    if settings.env_id == "HalfCheetah-v5" and not isinstance(settings, ACKTRSettings):
        return Budget(5.0 if isinstance(settings, PPOSettings) else 4.0)
    if game_of(settings.env_id) is not None and isinstance(settings, PPOSettings):
        return Budget(1.5)
    return None


def settings_to_measure(algorithm: str, env_id: str, overrides: Mapping[str, Any]) -> AnySettings:
    """Return the settings of a run without an end, in which nothing decays.

    Args:
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        env_id: a Gymnasium environment, whose preset is taken.
        overrides: settings that replace the preset's.

    Raises:
        SettingsError: a setting has no meaning.
    """
    endless: dict[str, Any] = {"total_env_steps": 10**9, "decay_learning_rate": False}
    if algorithm == "ppo":
        endless["decay_clip_range"] = False
    return default_settings(algorithm, env_id, **{**endless, **overrides})


def contenders_for(settings: AnySettings) -> tuple[str, ...]:
    """Return who is measured: ours, the peer if it is there and has the algorithm, the floor."""
    if isinstance(settings, ACKTRSettings) or not peer_is_installed():
        return (OURS, FLOOR)
    return (OURS, PEER, FLOOR)


def measure(
    settings: AnySettings,
    *,
    env_steps: int,
    repeats: int,
    tick: Callable[[], object] = lambda: None,
) -> list[Figure]:
    """Measure one algorithm on one environment, on one core and with one thread each.

    Args:
        settings: of our trainer and of the peer's.
        env_steps: of each turn, at least: trainers complete their rollouts.
        repeats: timed turns of each contender, after an untimed one.
        tick: called after every turn.

    Returns:
        The ratio of our env steps per second of processor time to each of the others', a median of
        the ratios within a repeat, and our env steps per second.

    Raises:
        SettingsError: the peer has nothing that corresponds to a setting.
    """
    with ExitStack() as stack:
        stack.enter_context(one_core())
        contenders = {
            name: stack.enter_context(contender_process(_contender, name, settings))
            for name in contenders_for(settings)
        }
        speeds = interleaved(contenders, env_steps=env_steps, repeats=repeats, tick=tick)
    return _figures(settings, speeds)


def _figures(settings: AnySettings, speeds: Mapping[str, Speeds]) -> list[Figure]:
    ours, budget = speeds[OURS], budget_for(settings)
    algorithm = type(settings).__name__.removesuffix("Settings")
    figures = []
    for name, each in speeds.items():
        if name == OURS:
            continue
        ratios = [above / below for above, below in zip(ours.cpu, each.cpu, strict=True)]
        judged = budget if name == PEER else None
        figures.append(
            median_of(
                f"{algorithm} on {settings.env_id}, of {name}",
                ratios,
                "x",
                beside={"in wall time": median_ratio(ours.wall, each.wall)},
                budget=None if judged is None else judged.least,
                goal=None if judged is None else judged.goal,
                at_least=True,
                stands=True,
            )
        )
    others = {name: median(each.cpu) for name, each in speeds.items() if name != OURS}
    what = f"{algorithm} on {settings.env_id}, env steps"
    figures.append(median_of(what, ours.cpu, "per CPU s", beside=others, at_least=True))
    return figures


def _contender(name: str, settings: AnySettings, stack: ExitStack) -> Advance:
    torch.set_num_threads(1)
    if name == OURS:
        return _ours(settings, stack)
    if name == PEER:
        assert not isinstance(settings, ACKTRSettings)
        return _peer(settings, stack)
    return _bare_environment(settings, stack)


def _ours(settings: AnySettings, stack: ExitStack) -> Advance:
    phases = make_trainer(settings).train()
    assert isinstance(phases, Generator)
    stack.enter_context(closing(phases))
    taken = 0

    def advance(env_steps: int) -> int:
        nonlocal taken
        began = taken
        while taken - began < env_steps:
            taken = next(phases).env_step
        return taken - began

    return advance


def _peer(settings: Any, stack: ExitStack) -> Advance:
    model = peer_model(settings)
    stack.callback(model.env.close)

    def advance(env_steps: int) -> int:
        began: int = model.num_timesteps
        model.learn(env_steps, reset_num_timesteps=False)
        taken: int = model.num_timesteps - began
        return taken

    return advance


def _bare_environment(settings: AnySettings, stack: ExitStack) -> Advance:
    if game_of(settings.env_id) is not None:
        return _bare_games(settings, stack)
    environment = gymnasium.make(settings.env_id, disable_env_checker=True)
    stack.callback(environment.close)
    environment.action_space.seed(settings.seed)
    # Drawn before: drawing an action takes as long as a step of a small environment.
    actions: Iterable[Any] = cycle(
        [environment.action_space.sample() for _ in range(_ACTIONS_DRAWN)]
    )
    environment.reset(seed=settings.seed)

    def advance(env_steps: int) -> int:
        for _, action in zip(range(env_steps), actions, strict=False):
            _, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                environment.reset()
        return env_steps

    return advance


def _bare_games(settings: AnySettings, stack: ExitStack) -> Advance:
    """Step Atari's vector environment: games alone have no frames to stack."""
    count = settings.number_of_envs
    games = stack.enter_context(closing(environments_of(settings, count, settings.seed)))
    assert isinstance(games.action_space, Discrete)
    generator = np.random.default_rng(settings.seed)
    actions = cycle(generator.integers(games.action_space.n, size=(_ACTIONS_DRAWN, count)))

    def advance(env_steps: int) -> int:
        steps = -(-env_steps // count)
        for _, action in zip(range(steps), actions, strict=False):
            games.step(action)
        return steps * count

    return advance
