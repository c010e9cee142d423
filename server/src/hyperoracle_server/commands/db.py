"""Back up, restore or verify a store's file.

A study of a running oracle is backed up and restored by `hyperoracle study backup` and
`hyperoracle study restore`.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hyperoracle_protocol.terminal import progress, size_of
from hyperoracle_server.errors import RequestRefused
from hyperoracle_server.ledger.files import store_path
from hyperoracle_server.settings import ServerSettings
from hyperoracle_server.snapshots import stores, taking

_EXIT_OTHER_SCHEMA = 3
"""Of `verify`: no damage was found, and more can be said once the store is up to date."""


def register(subparsers: Any) -> None:
    """Add `hyperoracle db`."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = subparsers.add_parser("db", help=summary, description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    backup = actions.add_parser(
        "backup", help="Write the store, or one study of it, to one file; a server may be running."
    )
    backup.add_argument("file", type=Path, help="The file to write; it must not be there.")
    backup.add_argument("--study", metavar="NAME", help="This study only; it holds no tokens.")
    backup.set_defaults(run=_guarded(_backup))
    restore = actions.add_parser("restore", help="Make a store from the backup of one.")
    restore.add_argument("file", type=Path, help="What `hyperoracle db backup` wrote.")
    restore.add_argument(
        "--replace", action="store_true",
        help="Move a store that is there out of the way; it is kept under another name.",
    )  # fmt: skip
    restore.set_defaults(run=_guarded(_restore))
    verify = actions.add_parser(
        "verify", help="Examine a store or a backup; change nothing.",
        description="Examine a store or a backup; change nothing. Exit code: 0 nothing is wrong, "
        "1 something is, 3 a store of another release's schema, in which no damage was found.",
    )  # fmt: skip
    verify.add_argument("file", type=Path, nargs="?", help="By default the store.")
    verify.set_defaults(run=_guarded(_verify))
    for action in (backup, restore, verify):
        action.add_argument(
            "--store", metavar="PATH", help="The store; default: HYPERORACLE_STORE or oracle.db."
        )
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="Print JSON."
        )


def _guarded(run: Any) -> Any:
    """An action whose refusals are one line."""

    def guarded(args: argparse.Namespace) -> int:
        if getattr(args, "url", None) is not None:
            print(
                "hyperoracle db: works on a store's file; for an oracle at an address use "
                "`hyperoracle study backup` and `hyperoracle study restore`",
                file=sys.stderr,
            )
            return 2
        try:
            exit_code: int = run(args)
        except (RequestRefused, ValueError) as error:
            print(f"hyperoracle db: {error}", file=sys.stderr)
            return 1
        return exit_code

    return guarded


def _store(args: argparse.Namespace) -> Path:
    return store_path(ServerSettings.load(store=args.store).store)


def _backup(args: argparse.Namespace) -> int:
    store = _store(args)
    partial = args.file.with_name(args.file.name + ".partial")
    with _progress(args, "backup", partial):
        if args.study is None:
            manifest = taking.take_store(store, args.file)
        else:
            manifest = taking.take_study(store, args.study, args.file)
    what = f"the study {args.study}" if args.study is not None else f"the store {store}"
    # What cannot be restored is no backup: better told now than when it is needed.
    with _progress(args, "examining the backup", args.file):
        _, wrong = stores.verify(args.file)
    told = f"{what} is in {args.file} ({args.file.stat().st_size / 1e6:.1f} MB)"
    if wrong:
        told = "\n".join([f"{told}, but cannot be restored from it:", *wrong])
    fields = {"file": str(args.file), **manifest.model_dump(mode="json"), "findings": wrong}
    _tell(args, fields, told)
    return 1 if wrong else 0


def _restore(args: argparse.Namespace) -> int:
    store = _store(args)
    with _progress(args, "restore", store.with_name(store.name + ".restoring")):
        moved = stores.restore_store(args.file, store, replace=args.replace)
    former = "" if moved is None else f"; the former one is {moved}"
    _tell(args, {"store": str(store), "former": moved and str(moved)},
          f"the store {store} is restored from {args.file}{former}")  # fmt: skip
    return 0


def _verify(args: argparse.Namespace) -> int:
    path = args.file or _store(args)
    try:
        manifest, wrong = stores.verify(path)
    except stores.OtherSchema as other:
        fields: dict[str, Any] = {"file": str(path), "snapshot": None, "findings": []}
        _tell(args, {**fields, "schema": other.revision, "remedy": str(other)}, str(other))
        return _EXIT_OTHER_SCHEMA
    described = None if manifest is None else manifest.model_dump(mode="json")
    what = "a store" if manifest is None else f"a snapshot of a {manifest.kind}"
    lines = [f"{path}: {finding}" for finding in wrong] or [f"{path}: {what}, nothing is wrong"]
    _tell(args, {"file": str(path), "snapshot": described, "findings": wrong}, "\n".join(lines))
    return 1 if wrong else 0


def _progress(args: argparse.Namespace, what: str, file: Path) -> AbstractContextManager[None]:
    quiet = getattr(args, "json", False)
    return progress(what, lambda: size_of(file), quiet=quiet)


def _tell(args: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    print(json.dumps(fields, indent=2) if getattr(args, "json", False) else text)
