"""From the name of an environment, as people write it, to what Gymnasium registered under it.

Beside names as they are registered there are ``module:Name-v0``, where importing the module
registers the environment, and the names that Atari games had before ``ALE/Name-v5``.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
import sys
from pathlib import Path

import gymnasium
from gymnasium.envs.registration import EnvSpec

from hyperoracle_protocol.names import did_you_mean

logger = logging.getLogger("hyperoracle_trainers")

ATARI_ENTRY_POINT = "ale_py.env:AtariEnv"

# What a registration says about a game that the trainers' own preprocessing says in its place.
_OF_PREPROCESSING = frozenset(
    {
        "game",
        "frameskip",
        "repeat_action_probability",
        "full_action_space",
        "max_num_frames_per_episode",
    }
)
_OLD_ATARI = re.compile(r"([A-Z][A-Za-z0-9]*?)(-ram)?(NoFrameskip|Deterministic)?-v([0-4])")


class UnknownEnvironmentError(ValueError):
    """A name leads to no environment; the message is one line: expected, got, remedy."""


def specification_of(env_id: str) -> EnvSpec:
    """Return what is registered under a name, importing the module that it names, if any.

    A module that is not installed is looked for in the current folder too.

    Raises:
        UnknownEnvironmentError: the module cannot be imported, or nothing has that name.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        _import(module, env_id)
    elif env_id.startswith("ALE/"):
        _import_atari(env_id)
    try:
        return gymnasium.spec(name)
    except (gymnasium.error.Error, ImportError) as error:
        # Gymnasium's own guess lacks the version, which has to be given.
        reason = " ".join(str(error).partition(" Did you mean")[0].split())
        remedy = did_you_mean(name, gymnasium.registry, "correct the name, or")
        remedy += " If not," if remedy.endswith("?") else ""
        raise UnknownEnvironmentError(
            f"expected a registered Gymnasium environment, got {env_id!r} ({reason}); {remedy} "
            "write module:NAME with the module that registers it"
        ) from None


def present_name(env_id: str, preprocessing: str) -> str:
    """Return the name that an environment has today; the old ones of Atari games are replaced.

    ``BreakoutNoFrameskip-v4`` and ``BreakoutDeterministic-v4`` mean 4 frames a step, as is usual,
    and no sticky actions: ``ALE/Breakout-v5`` with the preprocessing ``classic``, which the log
    says once. What no preprocessing does is refused.

    Args:
        env_id: as given.
        preprocessing: the name of the scheme that the run asks for.

    Raises:
        UnknownEnvironmentError: an old name of an Atari game that means what cannot be had.
    """
    found = _OLD_ATARI.fullmatch(env_id)
    if found is None or _is_registered_elsewhere(env_id):
        return env_id
    game, ram, kind, version = found.groups()
    today = f"ALE/{game}-v5"
    if not _atari_game_exists(today, certainly=kind is not None):
        return env_id
    if ram:
        raise UnknownEnvironmentError(
            f"expected a game that is seen, got {env_id!r}, which shows the console's memory; "
            f"name {today}"
        )
    if version != "4" or kind is None:
        sticky = "no sticky actions" if version == "4" else "sticky actions (0.25)"
        frames = {None: "2 to 5 frames at random", "NoFrameskip": "1 frame, usually made 4,",
                  "Deterministic": "4 frames"}[kind]  # fmt: skip
        raise UnknownEnvironmentError(
            f"expected a task that a preprocessing here makes, got {env_id!r}, which means "
            f"{frames} a step and {sticky}; name {today} with preprocessing=classic (4 frames, "
            "no sticky actions) or preprocessing=machado (5 frames, sticky actions)"
        )
    if preprocessing != "classic":
        raise UnknownEnvironmentError(
            f"expected preprocessing classic beside {env_id!r}, which means 4 frames a step and "
            f"no sticky actions, got {preprocessing}; leave it out, or name {today}"
        )
    _say_once(env_id, today)
    return today


def check_game(specification: EnvSpec) -> None:
    """Do nothing unless a registration of an Atari game wants what the trainers do not do.

    Raises:
        UnknownEnvironmentError: the game would not be the one that is registered.
    """
    if specification.entry_point != ATARI_ENTRY_POINT:
        return
    if wanted := sorted(set(specification.kwargs) - _OF_PREPROCESSING):
        raise UnknownEnvironmentError(
            f"expected an Atari game without {', '.join(wanted)}, got {specification.id!r} that is "
            "registered with it; the trainers see games by their own preprocessing: register it "
            "without"
        )


def _import(module: str, env_id: str) -> None:
    try:
        _import_from_anywhere(module)
    except Exception as error:  # a module raises what it likes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnknownEnvironmentError(
            f"expected a module that registers the environment, got {env_id!r}, whose module "
            f"{module!r} does not import ({reason}); install it, or start where it lies"
        ) from error


def _import_from_anywhere(module: str) -> None:
    here = str(Path.cwd())
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] or here in sys.path:
            raise
        sys.path.append(here)  # the last one, so that nothing that is installed is hidden
        importlib.invalidate_caches()
        importlib.import_module(module)


def _import_atari(env_id: str) -> None:
    try:
        import ale_py
    except ImportError:
        raise UnknownEnvironmentError(
            f"expected ale-py for {env_id}, got no such package; "
            "pip install 'hyperoracle-trainers[atari]'"
        ) from None
    gymnasium.register_envs(ale_py)


def _is_registered_elsewhere(env_id: str) -> bool:
    """Whether the name is that of another environment than an Atari game."""
    found = gymnasium.registry.get(env_id)
    return found is not None and found.entry_point != ATARI_ENTRY_POINT


def _atari_game_exists(env_id: str, *, certainly: bool) -> bool:
    """Whether a game of today's names exists.

    Args:
        env_id: today's name.
        certainly: whether only Atari games are named so, so that ale-py is asked for if missing.
    """
    try:
        _import_atari(env_id)
    except UnknownEnvironmentError:
        if certainly:
            raise
        return False
    return env_id in gymnasium.registry


@functools.cache
def _say_once(env_id: str, today: str) -> None:
    logger.warning(
        "%s is trained as %s with the preprocessing classic: 4 frames a step, no sticky actions, "
        "as the old name means.",
        env_id,
        today,
    )


def game_of(env_id: str) -> str | None:
    """Return the emulator's name of the game behind a registered environment; None if none is."""
    specification = specification_of(env_id)
    if specification.entry_point != ATARI_ENTRY_POINT:
        return None
    return str(specification.kwargs["game"])
