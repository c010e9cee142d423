"""Train with a recorded schedule, without an oracle."""

from __future__ import annotations

from typing import Any

from hyperoracle_client.commands.options import add_options, words_between_options
from hyperoracle_trainers.commands import train


def register(subparsers: Any) -> None:
    """Add `hyperoracle replay`."""
    parser = subparsers.add_parser(
        "replay",
        help=__doc__,
        usage="hyperoracle replay SCHEDULE.csv [--preset NAME] [ALGORITHM] [ENV] [options]",
        description=f"{__doc__} With the settings and seed of the recorded run, the schedule.csv "
        "of its run log gives the same run again, bit by bit.",
    )
    parser.add_argument(
        "replay",
        metavar="SCHEDULE.csv",
        help="schedule.csv of a run log, or what `hyperoracle export` wrote",
    )
    train.add_training_arguments(parser)
    train.add_replay_arguments(parser)
    add_options(parser)
    words_between_options(parser, "algorithm", "env")
    parser.set_defaults(run=train.run)
