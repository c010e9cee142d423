"""Our PPO and A2C beside Stable-Baselines3's, with the same hyperparameters.

And beside the bare environment under random actions: on one core, in turn, medians of the ratios
within a turn. Judged by processor time, which other programs disturb less than wall time.
"""

from __future__ import annotations

import argparse
from typing import Any

from hyperoracle_trainers.bench.figures import Figure, Say, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what may be chosen."""
    parser.add_argument("--algorithms", metavar="NAMES", default="ppo,a2c", help="default: ppo,a2c")
    parser.add_argument(
        "--env", metavar="ENV", default="HalfCheetah-v5", help="default: HalfCheetah-v5"
    )
    parser.add_argument(
        "--env-steps",
        metavar="N",
        type=positive,
        default=8192,
        help="of each turn, rounded up to whole rollouts; default: 8192",
    )
    parser.add_argument("--repeats", metavar="N", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any other setting, of all contenders",
    )


def run(args: argparse.Namespace, say: Say) -> list[Figure]:
    """Measure.

    Raises:
        Unmeasurable: an argument that means nothing.
    """
    from hyperoracle_trainers.bench.peers.contenders import contenders_for, measure
    from hyperoracle_trainers.bench.peers.peer import PEER, peer_is_installed
    from hyperoracle_trainers.bench.processes import Unmeasurable
    from hyperoracle_trainers.hyperparameters.arguments import ArgumentError
    from hyperoracle_trainers.hyperparameters.settings import SettingsError

    figures: list[Figure] = []
    try:
        runs = [_settings(name, args) for name in args.algorithms.split(",")]
        if not peer_is_installed():
            say(f"{PEER} is not installed, so there are no ratios to it: pip install {PEER}")
        for settings in runs:
            name = type(settings).__name__.removesuffix("Settings")
            say(f"trainers: {name}, beside {' and '.join(contenders_for(settings)[1:])}")
            figures += measure(settings, env_steps=args.env_steps, repeats=args.repeats)
    except (ArgumentError, SettingsError) as error:
        raise Unmeasurable(str(error)) from None
    return figures


def _settings(algorithm: str, args: argparse.Namespace) -> Any:
    from hyperoracle_trainers.bench.peers.contenders import settings_to_measure
    from hyperoracle_trainers.hyperparameters.arguments import ArgumentError, parse_settings
    from hyperoracle_trainers.hyperparameters.settings import SETTINGS_CLASSES

    if algorithm not in SETTINGS_CLASSES:
        known = " or ".join(SETTINGS_CLASSES)
        raise ArgumentError(
            f"--algorithms {args.algorithms}: expected {known}, got {algorithm!r}; "
            "separate them by commas"
        )
    return settings_to_measure(algorithm, args.env, parse_settings(algorithm, args.set))
