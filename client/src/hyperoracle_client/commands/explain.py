"""Say why a proposal is what it is."""

from __future__ import annotations

import argparse
import math
from typing import Any

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import cell, print_fields, print_json, print_table

SHOWN_VALUES = 10
"""Hyper-actions listed for people, the best first; --json has them all."""


def register(subparsers: Any) -> None:
    """Add `hyperoracle explain`."""
    parser = subparsers.add_parser("explain", help=__doc__, description=__doc__)
    parser.add_argument("proposal_id", help="As in Hyperparameters.proposal_id.")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        explanation = api.explanation(args.proposal_id)
    if args.json:
        print_json(explanation)
        return 0
    print(explanation.why)
    print()
    lists = {"values", "neighbours", "chosen", "why"}
    chosen = cell(explanation.chosen.hyperparameters)
    print_fields({"chosen": chosen, **explanation.model_dump(exclude=lists)})
    if explanation.values:
        print()
        best = sorted(explanation.values, key=lambda v: -math.inf if v.q is None else v.q)[::-1]
        rows = [(v.q, v.known, v.hyperparameters) for v in best[:SHOWN_VALUES]]
        print_table(("q", "known", "hyperparameters"), rows)
    if explanation.neighbours:
        print()
        print_table(
            ("neighbour", "job", "age in s", "distance", "weight", "value"),
            [
                (n.entry_id, n.job_id, n.age_seconds, n.distance, n.weight, n.value)
                for n in explanation.neighbours
            ],
        )
    return 0
