"""List the jobs of a study, or show one."""

from __future__ import annotations

import argparse
from typing import Any

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import print_fields, print_json, print_table


def register(subparsers: Any) -> None:
    """Add `hyperoracle job`."""
    parser = subparsers.add_parser("job", help=__doc__, description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="List a study's jobs, newest first.")
    listing.add_argument("study")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="Show one job.")
    show.add_argument("job_id")
    show.set_defaults(run=_show)
    for action in (listing, show):
        add_options(action)


def _list(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        found = api.jobs(args.study)
    if args.json:
        print_json(found)
        return 0
    columns = ("job", "status", "role", "started", "env steps", "of", "proposals", "last return")
    print_table(
        columns,
        [
            (j.job_id, j.status, j.role, j.created_at, j.env_step, j.total_env_steps, j.proposals,
             j.last_return)
            for j in found.jobs
        ],
    )  # fmt: skip
    return 0


def _show(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        job = api.job(args.job_id)
    print_json(job) if args.json else print_fields(job.model_dump())
    return 0
