"""Write the schedules that a study's jobs used, as CSV or JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.errors import OracleMisconfigured


def register(subparsers: Any) -> None:
    """Add `hyperoracle export`."""
    parser = subparsers.add_parser("export", help=__doc__, description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--format", choices=("csv", "json"), help="By default as --output ends.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="By default standard output.")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    wants_json = args.json or (args.output is not None and args.output.suffix == ".json")
    kind = args.format or ("json" if wants_json else "csv")
    with opened_api(args) as api:
        if kind == "csv":
            text = api.schedule_csv(args.study)
        else:
            text = api.schedule(args.study).model_dump_json(indent=2) + "\n"
    if args.output is None:
        sys.stdout.write(text)
        return 0
    try:
        args.output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise OracleMisconfigured(f"cannot write {args.output}: {error}") from None
    print(f"wrote {args.output}", file=sys.stderr)
    return 0
