"""Create, list or revoke access tokens."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from pydantic import ValidationError

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import print_json, print_table
from hyperoracle_client.errors import OracleMisconfigured, one_line
from hyperoracle_client.settings import EMBEDDED_SCHEME
from hyperoracle_protocol.tokens import CreateToken, Token

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
SCOPES = ("read", "train", "admin")


def register(subparsers: Any) -> None:
    """Add `hyperoracle token`."""
    parser = subparsers.add_parser("token", help=__doc__, description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="Make a token; it is printed this once.")
    create.add_argument("--name", required=True, help="What to call it.")
    create.add_argument(
        "--scope",
        choices=SCOPES,
        default="train",
        help="read: look. train: also create studies and run jobs (default). admin: everything.",
    )
    create.add_argument(
        "--studies",
        metavar="PATTERN",
        action="append",
        help="Names of studies, such as 'cartpole*'; may be repeated. Default: all.",
    )
    create.add_argument(
        "--expires", metavar="TIME", help="Such as 90d, 12h or never. Default: never."
    )
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="List all tokens, without the secrets.")
    listing.set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="End a token at once.")
    revoke.add_argument("name", help="Its name or its id.")
    revoke.set_defaults(run=_revoke)
    for action in (create, listing, revoke):
        action.add_argument(
            "--store", metavar="PATH", help="The store itself, while no server has it open."
        )
        add_options(action)


def lifetime(text: str | None) -> float | None:
    """Seconds from `90d`, `12h`, …; None for `never`.

    Raises:
        OracleMisconfigured: it is no length of time.
    """
    if text in (None, "never"):
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text or "")
    if found is None:
        raise OracleMisconfigured(f"expected --expires such as 90d, 12h or never, got {text!r}")
    return float(found[1]) * _UNITS[found[2]]


def _create(args: argparse.Namespace) -> int:
    try:
        wanted = CreateToken(
            name=args.name,
            scope=args.scope,
            studies=args.studies or ["*"],
            expires_in_seconds=lifetime(args.expires),
        )
    except ValidationError as error:
        raise OracleMisconfigured(one_line(error)) from None
    with opened_api(_at_store(args)) as api:
        created = api.create_token(wanted)
    # The token alone, so that a script can take it: TOKEN=$(hyperoracle token create ...)
    print_json(created) if args.json else print(created.token)
    if created.closes_the_oracle:
        print(
            "hyperoracle: from now on this oracle asks everybody for a token, running jobs "
            "included: give them HYPERORACLE_TOKEN and start them again",
            file=sys.stderr,
        )
    return 0


def _list(args: argparse.Namespace) -> int:
    with opened_api(_at_store(args)) as api:
        found = api.tokens()
    if args.json:
        print_json(found)
        return 0
    columns = ("name", "status", "scope", "studies", "created", "expires", "revoked", "id",
               "its studies", "its jobs", "its megabytes", "calls/s")  # fmt: skip
    print_table(
        columns,
        [
            (t.name, t.status, t.scope, t.studies, t.created_at, t.expires_at or "never",
             t.revoked_at, t.token_id, _of(t, "studies"), _of(t, "jobs"),
             _of(t, "store_bytes", 1_000_000), t.calls_per_second or "any")
            for t in found.tokens
        ],
    )  # fmt: skip
    return 0


def _of(token: Token, what: str, unit: int = 1) -> str:
    """How much of its quota a token has used: `3 of 1000`, or `3` where there is no limit."""
    used = round(getattr(token.used, what) / unit)
    most = 0 if token.quota is None else round(getattr(token.quota, what) / unit)
    return f"{used} of {most}" if most else str(used)


def _revoke(args: argparse.Namespace) -> int:
    with opened_api(_at_store(args)) as api:
        revoked = api.revoke_token(token_id_of(args.name))
    print_json(revoked) if args.json else print(f"token {revoked.name} is revoked")
    return 0


def token_id_of(given: str) -> str:
    """The id of a token that was given itself, so that no path holds its secret; else as given."""
    whole = re.fullmatch(r"ho_([0-9a-f]{12})_[A-Za-z0-9_-]{20,}", given.strip())
    return given if whole is None else whole[1]


def _at_store(args: argparse.Namespace) -> argparse.Namespace:
    """The options, with `--store` as the url that it stands for."""
    if args.store is not None:
        if args.url is not None:
            raise OracleMisconfigured("give --store or --url, not both")
        args.url = EMBEDDED_SCHEME + args.store
    return args
