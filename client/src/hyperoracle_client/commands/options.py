"""Options that every command understands, and the api that they lead to."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hyperoracle_client.settings import load_settings
from hyperoracle_client.transports.endpoint import Endpoint

if TYPE_CHECKING:
    from hyperoracle_client.api import OracleApi


def add_options(parser: argparse.ArgumentParser, *, is_top: bool = False) -> None:
    """Add --url, --token and --json; a command takes them before or after its name.

    Args:
        parser: of `hyperoracle` itself, or of a command.
        is_top: whether it is the former, which holds the defaults.
    """
    absent = None if is_top else argparse.SUPPRESS
    parser.add_argument(
        "--url",
        default=absent,
        help="Where the oracle is: http://host:port, https://host, or embedded:path.",
    )
    parser.add_argument("--token", default=absent, help="The access token.")
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if is_top else argparse.SUPPRESS,
        help="Print JSON.",
    )


def words_between_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Let words that may be left out stand apart: `train ppo --seed 1 CartPole-v1`.

    argparse on its own takes such a word for left out as soon as an option stands where it could
    have been. What it could not place is given to the words that are still missing.

    Args:
        parser: of a command.
        names: of its arguments that may be left out, in their order.
    """

    def take_words(args: argparse.Namespace, rest: Sequence[str]) -> list[str]:
        left = list(rest)
        for name in names:
            # Behind an unknown option nobody knows which words are its own.
            if getattr(args, name) is None and left and not left[0].startswith("-"):
                setattr(args, name, left.pop(0))
        return left

    parser.set_defaults(take_words=take_words)


@contextlib.contextmanager
def opened_api(args: argparse.Namespace) -> Iterator[OracleApi]:
    """An api to the oracle that the options, the environment or a file name.

    Raises:
        OracleMisconfigured: settings that cannot work, a store that cannot be opened.
    """
    from hyperoracle_client.api import OracleApi  # takes 0.2 s with httpx: not at import

    endpoint = Endpoint(load_settings({"url": args.url, "token": args.token}))
    try:
        with OracleApi.at(endpoint) as api:
            yield api
    finally:
        endpoint.close()
