"""Create, list, show, diagnose, back up, restore or delete studies."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError

from hyperoracle_client.commands.options import add_options, opened_api
from hyperoracle_client.commands.printing import (
    print_fields,
    print_json,
    print_table,
    print_wrapped,
)
from hyperoracle_client.errors import OracleMisconfigured, OracleRefused, one_line
from hyperoracle_protocol.errors import ErrorCode
from hyperoracle_protocol.gain import GuardReport, StudyGain
from hyperoracle_protocol.inspection import Figure, KeyDiagnosis
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_protocol.terminal import progress, size_of

if TYPE_CHECKING:
    from hyperoracle_client.api import OracleApi

_BELOW = " " * len("  mean return over the job ")


def register(subparsers: Any) -> None:
    """Add `hyperoracle study`."""
    parser = subparsers.add_parser("study", help=__doc__, description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="Create a study, or confirm that it is like this.")
    create.add_argument("name")
    create.add_argument("file", type=Path, help="Its definition, as .json or .toml.")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="List all studies.")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="Show one study.")
    show.add_argument("name")
    show.set_defaults(run=_show)
    diagnose = actions.add_parser(
        "diagnose", help="Say whether jobs can use what other jobs of the study remember."
    )
    diagnose.add_argument("name")
    diagnose.add_argument(
        "--neighbours", metavar="K", type=int, default=5, help="Nearest records (default: 5)."
    )
    diagnose.set_defaults(run=_diagnose)
    backup = actions.add_parser("backup", help="Write a study to one file, while jobs go on.")
    backup.add_argument("name")
    backup.add_argument("file", type=Path, help="The file to write; it must not be there.")
    backup.set_defaults(run=_backup)
    restore = actions.add_parser("restore", help="Bring a study back from its backup.")
    restore.add_argument("name", help="What to call it; no study of this name may be there.")
    restore.add_argument("file", type=Path, help="What `hyperoracle study backup` wrote.")
    restore.set_defaults(run=_restore)
    delete = actions.add_parser("delete", help="Delete a study with its memory and reports.")
    delete.add_argument("name")
    delete.add_argument("--yes", action="store_true", help="Do not ask.")
    delete.set_defaults(run=_delete)
    for action in (create, listing, show, diagnose, backup, restore, delete):
        add_options(action)


def read_definition(path: Path) -> StudyDefinition:
    """A study's definition from a .json or .toml file.

    Raises:
        OracleMisconfigured: it cannot be read, or is no definition.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return StudyDefinition.model_validate(tomllib.loads(text))
        return StudyDefinition.model_validate_json(text)
    except ValidationError as error:
        raise OracleMisconfigured(f"{path} is no study's definition: {one_line(error)}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OracleMisconfigured(f"cannot read {path}: {error}") from None


def _create(args: argparse.Namespace) -> int:
    definition = read_definition(args.file)
    with opened_api(args) as api:
        study = api.put_study(args.name, definition)
    if args.json:
        print_json(study)
    else:
        print(f"study {study.name} is there, seed {study.seed}")
    return 0


def _list(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        found = api.studies()
    if args.json:
        print_json(found)
        return 0
    columns = ("study", "strategy", "jobs", "running", "proposals", "memory")
    print_table(
        columns,
        [
            (s.name, s.definition.strategy.name, s.jobs, s.running_jobs, s.proposals, s.memory_size)
            for s in found.studies
        ],
    )  # fmt: skip
    return 0


def _show(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        study, gain = api.study(args.name), _gain(api, args.name)
    if args.json:
        shown = None if gain is None else gain.model_dump(mode="json")
        print_json(study.model_dump(mode="json") | {"gain": shown})
        return 0
    fields = study.model_dump(exclude={"definition"})
    print_fields({"strategy": study.definition.strategy.name, **fields})
    print()
    if gain is None:
        print("gain over default: this oracle does not compute it; upgrade the server")
    else:
        print_gain(gain)
    print()
    print_table(
        ("hyperparameter", "kind", "default", "values"),
        [(name, h.type, h.default, h.values) for name, h in study.definition.space.items()],
    )
    return 0


def _gain(api: OracleApi, name: str) -> StudyGain | None:
    """None of an oracle of an earlier release, which does not know the call."""
    try:
        return api.gain(name)
    except OracleRefused as error:
        if error.code == ErrorCode.NOT_FOUND:
            return None
        raise


def print_gain(gain: StudyGain) -> None:
    """Print whether a study helps, in words."""
    whole = {role: count for role, count in gain.whole_jobs.items() if count}
    print_fields({"whole jobs": whole or "none yet", "memory hit rate": gain.memory_hit_rate})
    if any(gain.ends.values()):
        print()
        print_ends(gain)
        print()
    if gain.guards is not None:
        print_fields({"guards": guards_in_words(gain.guards)})
    for title, compared in (
        ("Gain over default", gain.gain_over_default),
        ("Regret of exploration", gain.regret_of_exploration),
    ):
        print(title)
        print_wrapped(f"  final return             {compared.final_return.in_words}", _BELOW)
        print_wrapped(f"  mean return over the job {compared.mean_return.in_words}", _BELOW)
    if gain.gain_over_default.final_return.verdict is not None:  # an earlier release's do not
        print("Verdicts and intervals hold however often you look.")


def print_ends(gain: StudyGain) -> None:
    """Print how jobs ended, by role: what failed counts, and is shown."""
    found = {
        role: {kind: count for kind, count in ends.model_dump().items() if count}
        for role, ends in gain.ends.items()
    }
    print("how jobs ended")
    for role, ends in found.items():
        if ends:
            told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in ends.items())
            print(f"  {role:8} {told}")
    if gain.jobs_of_other_tasks:
        print_wrapped(
            f"  {gain.jobs_of_other_tasks} jobs are of another environment or length than most: "
            "they are not compared here",
            "  ",
        )


def guards_in_words(guards: GuardReport) -> str:
    """What the guards did, for people."""
    back, behind = guards.jobs_back_at_default, guards.times_behind
    if not back and not behind:
        return "had nothing to do"
    found = f"{back} jobs went back to the default because their return fell"
    if behind:
        found += f"; exploiting jobs fell behind the controls {behind} times"
    if guards.jobs_until_freed:
        found += f", and stay on the default until {guards.jobs_until_freed} more jobs have ended"
    return found


def _diagnose(args: argparse.Namespace) -> int:
    with opened_api(args) as api:
        found = api.diagnosis(args.name, neighbours=args.neighbours)
    if args.json:
        print_json(found)
        return 0
    if found.note is not None:
        print(f"{found.study}: {found.note}")
    for keys in found.keys:
        print(f"{keys.what}: {keys.records} records of {keys.jobs} jobs")
        if keys.note is not None:
            print(f"  {keys.note}")
        for line in _verdicts(keys, found.neighbours):
            print(f"  {line}")
    return 0


def _verdicts(keys: KeyDiagnosis, neighbours: int) -> list[str]:
    """What the figures say, a line each."""
    lines = []
    found, prediction = keys.neighbours, keys.prediction
    if found is not None:
        verdict = "shared" if found.shared else "not shared"
        lines += [
            f"of {neighbours} nearest neighbours from other jobs: {found.from_other_jobs:.3f}",
            f"by chance: {found.expected_by_chance:.3f}",
            f"ratio: {_interval(found.ratio)}: {verdict} (0.8 or more is shared)",
        ]
    if prediction is not None:
        low, high = prediction.skill.low, prediction.skill.high
        verdict = "better" if low > 0 else "worse" if high < 0 else "not shown to be better"
        lines += [
            "returns of a job, predicted from the other jobs' records:",
            f"skill: {_interval(prediction.skill)}: {verdict} than their mean",
            f"better on this share of the jobs: {_interval(prediction.jobs_better)}",
        ]
    elif found is not None:
        lines.append("all returns are equal: there is nothing to predict")
    return lines


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} (95 % interval {figure.low:.3f} to {figure.high:.3f})"


def _private(path: Path) -> BinaryIO:
    """Open a file for writing that its owner alone may read, as the store is."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")


def _backup(args: argparse.Namespace) -> int:
    partial = args.file.with_name(args.file.name + ".partial")
    if args.file.exists():
        raise OracleMisconfigured(f"{args.file} is there already: choose another name")
    try:
        with (
            opened_api(args) as api,
            _private(partial) as file,
            progress(f"backup of {args.name}", lambda: size_of(partial), quiet=args.json),
        ):
            api.take_snapshot(args.name, file)
        partial.replace(args.file)
    except OSError as error:
        raise OracleMisconfigured(f"cannot write {args.file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    size = args.file.stat().st_size
    if args.json:
        print_json({"study": args.name, "file": str(args.file), "bytes": size})
    else:
        print(f"study {args.name} is in {args.file} ({size / 1e6:.1f} MB)")
    return 0


def _restore(args: argparse.Namespace) -> int:
    try:
        file = args.file.open("rb")
    except OSError as error:
        raise OracleMisconfigured(f"cannot read {args.file}: {error.strerror}") from None
    with (
        file,
        opened_api(args) as api,
        progress(f"restore of {args.name}", file.tell, quiet=args.json),
    ):
        study = api.restore_study(args.name, file)
    if args.json:
        print_json(study)
    else:
        print(f"study {study.name} is restored: {study.jobs} jobs, {study.reports} reports")
    return 0


def _delete(args: argparse.Namespace) -> int:
    if not args.yes and input(f"Delete {args.name} and all it has learned? [y/N] ") != "y":
        print("nothing was deleted")
        return 1
    with opened_api(args) as api:
        api.delete_study(args.name)
    print_json({"deleted": args.name}) if args.json else print(f"study {args.name} is deleted")
    return 0
