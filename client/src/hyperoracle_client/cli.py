"""The command `hyperoracle`: finds the sub-command that was asked for, and runs it."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any

from hyperoracle_client.commands.options import add_options
from hyperoracle_client.errors import OracleError
from hyperoracle_protocol.names import did_you_mean, expected_one_of

COMMANDS_GROUP = "hyperoracle.commands"
_WITH_VALUE = ("--url", "--token")


class _Parser(argparse.ArgumentParser):
    """Says in one line which command or action was meant; so do the parsers of all commands."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.nargs != argparse.PARSER or value in (action.choices or ()):
            super()._check_value(action, value)
            return
        what, names = str(action.metavar).lower(), list(action.choices or ())
        meant = did_you_mean(value, names, "")
        told = f"there is no {what} {value!r}; {meant}" if meant else ""
        self.exit(2, f"{self.prog}: {told or expected_one_of(names, value, f'{what}s')}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hyperoracle`; returns the exit code: 0, 1 for an error, 2 for wrong usage."""
    let_every_terminal_take_what_is_printed()
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {point.name: point for point in entry_points(group=COMMANDS_GROUP)}
    asked = asked_command(given)
    parser = _Parser(
        prog="hyperoracle",
        description="HyperOracle: hyperparameters for training runs, from episodic memory.",
    )
    parser.add_argument(
        "--version", action="version", version=f"hyperoracle {version('hyperoracle-client')}"
    )
    add_options(parser, is_top=True)
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    try:
        if asked in commands:
            _load(commands[asked])(subparsers)
        else:
            _summarise(commands, subparsers)
        args, rest = parser.parse_known_args(given)
        if rest and "take_words" in args:
            rest = args.take_words(args, rest)  # see `words_between_options`
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        exit_code: int = args.run(args)
    except OracleError as error:
        print(f"hyperoracle: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hyperoracle … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return exit_code


def let_every_terminal_take_what_is_printed() -> None:
    r"""Print as \xf6 what the terminal's encoding lacks, as Python itself does on stderr only."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's, or None, is something else
            stream.reconfigure(errors="backslashreplace")


def asked_command(arguments: Sequence[str]) -> str | None:
    """The first argument that is neither an option nor an option's value."""
    rest = iter(arguments)
    for argument in rest:
        if argument in _WITH_VALUE:
            next(rest, None)
        elif not argument.startswith("-"):
            return argument
    return None


def _load(command: EntryPoint) -> Any:
    """The register function of a command.

    Raises:
        OracleError: its distribution does not import.
    """
    try:
        return command.load()
    except Exception as error:  # a broken distribution gives one line, whatever is broken
        name = command.dist.name if command.dist else command.module
        raise OracleError(
            f"'{command.name}' cannot be run: {name} does not import ({error}); reinstall it"
        ) from error


def _summarise(commands: Mapping[str, EntryPoint], subparsers: Any) -> None:
    """List all commands, without importing them."""
    for name in sorted(commands):
        subparsers.add_parser(name, help=summary(commands[name].module))


def summary(module: str) -> str:
    """The first line of a module's docstring, read from its source."""
    try:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except Exception as error:  # a broken distribution gives one line, whatever is broken
        return f"(not available: {error or 'not found'})"
    return (ast.get_docstring(tree) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
