"""Page through a study's memory."""

from __future__ import annotations

import argparse
from typing import Any

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import print_json, print_table


def register(subparsers: Any) -> None:
    """Add `hyperoracle memory`."""
    parser = subparsers.add_parser("memory", help=__doc__, description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--limit", type=int, default=50, help="How many entries. Default: 50.")
    parser.add_argument("--after", type=int, default=0, help="Only entries with greater ids.")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        page = api.memory(args.study, after=args.after, limit=args.limit)
    if args.json:
        print_json(page)
        return 0
    print_table(
        ("entry", "job", "env step", "value", "hyperparameters"),
        [(e.entry_id, e.job_id, e.env_step, e.value, e.hyperparameters) for e in page.entries],
    )
    if page.next_after is not None:
        print(f"{page.size} entries in all; go on with --after {page.next_after}")
    return 0
