"""List the jobs of a study, show one, or list what was proposed to it."""

from __future__ import annotations

import argparse
from typing import Any

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import print_fields, print_json, print_table
from hyperoracle_protocol.inspection import ScheduleRow

SHOWN_PROPOSALS = 20
"""Of a job, unless more are asked for."""


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
    proposals = actions.add_parser(
        "proposals", help="List a job's proposals, newest first: what `explain` takes."
    )
    proposals.add_argument("job_id")
    proposals.add_argument(
        "--limit", type=int, default=SHOWN_PROPOSALS, metavar="N",
        help=f"At most so many, 0: all. Default: {SHOWN_PROPOSALS}.",
    )  # fmt: skip
    proposals.set_defaults(run=_proposals)
    for action in (listing, show, proposals):
        add_options(action)


def _list(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        found = api.jobs(args.study)
    if args.json:
        print_json(found)
        return 0
    print_table(  # as many as 80 columns hold; `job show` and --json have the rest
        ("job", "status", "role", "started", "env steps", "return"),
        [
            (j.job_id, j.finish_reason or j.status, j.role, f"{j.created_at:%Y-%m-%d %H:%M}",
             j.env_step, j.last_return)
            for j in found.jobs
        ],
    )  # fmt: skip
    return 0


def _show(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        job = api.job(args.job_id)
    print_json(job) if args.json else print_fields(job.model_dump())
    return 0


def _proposals(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        job = api.job(args.job_id)
        shown = api.schedule(job.study, args.job_id, last=max(args.limit, 0) or None).rows[::-1]
    listed = [
        {"proposal_id": f"{row.job_id}.{row.sequence}", **row.model_dump(exclude={"job_id"})}
        for row in shown
    ]
    of = max(job.proposals, len(shown))  # the job may have asked meanwhile
    if args.json:
        print_json({"job_id": args.job_id, "of": of, "proposals": listed})
        return 0
    print_table(
        ("proposal", "update", "env step", "was", "hyperparameters"),
        [
            (f"{row.job_id}.{row.sequence}", row.update_step, row.env_step, _in_a_word(row),
             row.hyperparameters)
            for row in shown
        ],
    )  # fmt: skip
    if len(shown) < of:
        print(f"{len(shown)} of {of}; --limit 0 lists all")
    return 0


def _in_a_word(row: ScheduleRow) -> str:
    """What became of a proposal, and how it came about; `hyperoracle explain` says more."""
    if not row.applied:
        return "not used"
    if not row.as_proposed:
        return "changed"
    return "held" if row.held else "explored" if row.explored else "chosen"
