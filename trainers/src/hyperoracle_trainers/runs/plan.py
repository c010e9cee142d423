"""From the arguments of `hyperoracle train` to everything that the run is made from."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hyperoracle_client import DEFAULT_STRATEGY, Scale
from hyperoracle_client.settings import load_settings
from hyperoracle_protocol.names import did_you_mean
from hyperoracle_protocol.strategies import STRATEGIES, KeyedStrategy
from hyperoracle_trainers.algorithms.decisions import BaseSchedule
from hyperoracle_trainers.hyperparameters.arguments import (
    ArgumentError,
    Space,
    check_folder,
    default_space,
    parse_settings,
    parse_space,
)
from hyperoracle_trainers.hyperparameters.presets import (
    PAPER_PRESETS,
    PaperPreset,
    default_settings,
)
from hyperoracle_trainers.hyperparameters.settings import (
    SETTINGS_CLASSES,
    AnySettings,
)
from hyperoracle_trainers.hyperparameters.sources import RecordedSource, read_schedule
from hyperoracle_trainers.runs.checkpoints import Checkpoint
from hyperoracle_trainers.runs.evaluation import video_file
from hyperoracle_trainers.runs.writers import check_writer_names

EVALUATION_EPISODES = 5
_STUDY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_KEYED = tuple(name for name, each in STRATEGIES.items() if issubclass(each, KeyedStrategy))
_ORACLE_ONLY = ("study", "strategy", "study_set", "role", "hold", "prefetch")


@dataclass(frozen=True, kw_only=True)
class OraclePlan:
    """What is asked of which oracle.

    Attributes:
        url: where it is.
        token: access token, if it asks for one.
        study: the study that the run joins or creates.
        space: the hyperparameters that may be chosen.
        strategy: who chooses: a name, or the definition of a strategy.
        returns: which number is the return; None leaves it to the client.
        role: what the job is for.
        hold: updates for which a decision holds.
        prefetch: whether each update uses the answer to the previous update's question.
    """

    url: str
    token: str | None
    study: str
    space: Space
    strategy: str | Mapping[str, Any]
    returns: str | None
    role: str
    hold: int
    prefetch: bool


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A run, checked as far as it can be before it starts.

    Attributes:
        preset: name of the paper's setting that it is made from, if any.
        algorithm: ``"ppo"``, ``"a2c"`` or ``"acktr"``.
        settings: of the trainer.
        oracle: None trains without one.
        schedule: a recorded schedule to replay instead.
        evaluation_episodes: episodes of the deterministic policy after training.
        evaluation_steps: env steps after which the evaluation ends anyway; None takes 30,000 an
            episode.
        folder: where the run log goes.
        writers: names of what writes the run down beside the run log.
        checkpoint_every: env steps after which a checkpoint is due; None decides by itself, 0
            writes none.
        video: where to record an episode of the deterministic policy after training.
        resumes: the checkpoint to go on from; None starts anew.
    """

    preset: str | None = None
    algorithm: str
    settings: AnySettings
    oracle: OraclePlan | None
    schedule: RecordedSource | None
    evaluation_episodes: int
    evaluation_steps: int | None = None
    folder: Path
    writers: tuple[str, ...] = ()
    checkpoint_every: int | None = None
    video: Path | None = None
    resumes: Checkpoint | None = None

    def described(self) -> dict[str, Any]:
        """Return the plan as JSON wants it, without the token."""
        oracle: dict[str, Any] | None = None
        if self.oracle is not None:
            oracle = {
                field.name: getattr(self.oracle, field.name)
                for field in dataclasses.fields(self.oracle)
                if field.name != "token"
            }
            oracle["space"] = {
                name: bins.model_dump(mode="json") for name, bins in self.oracle.space.items()
            }
        return {
            "preset": self.preset,
            "algorithm": self.algorithm,
            "settings": dataclasses.asdict(self.settings),
            "oracle": oracle,
            "replays_a_schedule": self.schedule is not None,
            "evaluation_episodes": self.evaluation_episodes,
            "evaluation_steps": self.evaluation_steps,
            "folder": str(self.folder),
            "writers": list(self.writers),
            "checkpoint_every": self.checkpoint_every,
        }


def make_plan(args: argparse.Namespace) -> TrainingPlan:
    """Return the plan that the arguments describe.

    Args:
        args: of `hyperoracle train`; those of the oracle and of a schedule may be absent.

    Raises:
        ArgumentError: an argument has no meaning.
        SettingsError: a setting has no meaning.
        ScheduleError: the schedule cannot be replayed.
        OracleMisconfigured: the oracle's address or a client setting cannot work.
    """
    preset = _preset(args)
    algorithm, env_id = _algorithm_and_env(args, preset)
    settings = _settings(algorithm, env_id, preset, args)
    base = BaseSchedule.of(settings).values
    entries = args.space or (preset.space_entries() if preset else [])
    space = parse_space(entries, base) if entries else default_space(base)
    oracle = _oracle_plan(args, algorithm, settings, space, preset)
    schedule = _schedule(args, space, base)
    if args.space and oracle is None and schedule is None:
        raise ArgumentError(f"--space {args.space[0]}: expected --oracle URL beside it; add it")
    return TrainingPlan(
        preset=preset.name if preset else None,
        algorithm=algorithm,
        settings=settings,
        oracle=oracle,
        schedule=schedule,
        evaluation_episodes=EVALUATION_EPISODES if args.evaluate is None else args.evaluate,
        evaluation_steps=args.evaluation_steps,
        folder=_folder(args, algorithm, settings),
        writers=check_writer_names(args.log),
        checkpoint_every=args.checkpoint_every,
        video=video_file(args.video),
    )


def _preset(args: argparse.Namespace) -> PaperPreset | None:
    if args.preset is None:
        return None
    if args.preset not in PAPER_PRESETS:
        raise ArgumentError(
            f"--preset {args.preset}: expected a name that --list-presets prints, got another; "
            + did_you_mean(args.preset, PAPER_PRESETS, "choose one of them")
        )
    return PAPER_PRESETS[args.preset]


def _algorithm_and_env(args: argparse.Namespace, preset: PaperPreset | None) -> tuple[str, str]:
    """Return the algorithm and the environment; a preset says what is left out."""
    algorithm, env_id = args.algorithm, args.env
    if preset is not None:
        if env_id is None and algorithm is not None and algorithm.lower() not in SETTINGS_CLASSES:
            algorithm, env_id = None, algorithm  # a single word that is no algorithm
        algorithm, env_id = algorithm or preset.algorithm, env_id or preset.env_id
    if algorithm is None or env_id is None:
        raise ArgumentError(
            f"expected ALGORITHM and ENV, got {algorithm or 'neither'}; name both, such as "
            "ppo CartPole-v1, or a --preset"
        )
    name = algorithm.lower()
    if name not in SETTINGS_CLASSES:
        raise ArgumentError(
            f"ALGORITHM: expected {' or '.join(SETTINGS_CLASSES)}, got {algorithm!r}"
        )
    if preset is not None and name != preset.algorithm:
        raise ArgumentError(
            f"--preset {preset.name}: expected ALGORITHM {preset.algorithm}, got {algorithm}; "
            "leave it out, or choose another preset"
        )
    return name, env_id


def _settings(
    algorithm: str, env_id: str, preset: PaperPreset | None, args: argparse.Namespace
) -> AnySettings:
    overrides = parse_settings(algorithm, args.set)
    for name in ("total_env_steps", "seed", "decisions"):
        value = getattr(args, name)
        if value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        if name in overrides:
            raise ArgumentError(f"{option} {value}: expected {name} once, got --set {name} too")
        if name not in SETTINGS_CLASSES[algorithm].__dataclass_fields__:
            raise ArgumentError(
                f"{option} {value}: expected an algorithm that has {name}, got {algorithm}; "
                f"leave {option} out"
            )
        overrides[name] = value
    if preset is not None:
        return preset.settings(env_id, **overrides)
    return default_settings(algorithm, env_id, **overrides)


def _oracle_plan(
    args: argparse.Namespace,
    algorithm: str,
    settings: AnySettings,
    space: Space,
    preset: PaperPreset | None,
) -> OraclePlan | None:
    url = getattr(args, "oracle", None) or getattr(args, "url", None)
    study = getattr(args, "study", None)
    if args.replay is not None and (url or study):
        raise ArgumentError(
            "--replay: expected no oracle beside it, got one; choose one of the two"
        )
    if url is None and study is None:
        for name in _ORACLE_ONLY:
            if getattr(args, name, None):
                option = f"--{name.replace('_', '-')}"
                raise ArgumentError(f"{option}: expected --oracle URL beside it, got none; add it")
        return None
    token = getattr(args, "token", None)
    kind = preset.name if preset else algorithm
    default_study = re.sub(r"[^a-z0-9._-]+", "-", f"{settings.env_id}-{kind}".lower())
    if study is not None and not re.fullmatch(_STUDY_NAME, study):
        raise ArgumentError(
            f"--study {study}: expected letters, digits, '.', '_' and '-', at most 128, "
            f"a letter or digit first, got {study!r}; choose another name"
        )
    client = load_settings({"url": url, "token": token})
    prefetch = args.prefetch
    if prefetch is None:  # in this process there is nothing to wait for
        is_remote = client.embedded_path is None
        prefetch = is_remote and getattr(settings, "decisions", "phase") == "minibatch"
    return OraclePlan(
        url=client.url,
        token=token,
        study=study or default_study,
        space=space,
        strategy=_strategy(args, preset),
        returns=preset.returns() if preset else None,
        role=args.role or "auto",
        hold=args.hold or 1,
        prefetch=prefetch,
    )


def _strategy(args: argparse.Namespace, preset: PaperPreset | None) -> str | Mapping[str, Any]:
    """Return the strategy's name, or its definition where something is said about it."""
    by_paper = "epgt" if preset or args.study_set else DEFAULT_STRATEGY.name
    name: str = args.strategy or by_paper
    by_hyper_states = name in _KEYED
    if not by_hyper_states and args.study_set:
        raise ArgumentError(
            f"--study-set {args.study_set[0]}: expected the strategy {' or '.join(_KEYED)}, got "
            f"{name}; leave one of the two out"
        )
    if not by_hyper_states or (preset is None and not args.study_set):
        return name
    definition: dict[str, Any] = preset.strategy(name) if preset else {"name": name}
    for assignment in args.study_set:
        found = re.fullmatch(r"(\w+)\.(\w+)=(.+)", assignment)
        if found is None:
            raise ArgumentError(
                f"--study-set {assignment}: expected SECTION.NAME=VALUE such as "
                f"memory.capacity=5000, got {assignment!r}"
            )
        section, field, value = found.groups()
        definition.setdefault(section, {})[field] = value  # the client knows its type
    return definition


def _schedule(
    args: argparse.Namespace, space: Space, base: Mapping[str, float]
) -> RecordedSource | None:
    if args.replay is None:
        if args.job is not None:
            raise ArgumentError(f"--job {args.job}: expected --replay beside it, got none; add it")
        return None
    relative = [name for name, bins in space.items() if isinstance(bins, Scale)]
    schedule = read_schedule(Path(args.replay), job=args.job, relative=relative)
    if unknown := sorted(schedule.names - set(base)):
        raise ArgumentError(
            f"--replay {args.replay}: expected hyperparameters among {', '.join(base)}, got "
            f"{', '.join(unknown)}; train with the algorithm that it was recorded with"
        )
    return schedule


def _folder(args: argparse.Namespace, algorithm: str, settings: AnySettings) -> Path:
    if args.out is None:
        # To the millisecond: many runs may be started by one loop.
        moment = f"{datetime.now().astimezone():%Y%m%d-%H%M%S.%f}"[:-3]
        env = re.sub(r"[/:]", "-", settings.env_id)
        folder = Path("runs") / f"{algorithm}-{env}-{settings.seed}-{moment}"
        check_folder("--out", folder)
        return folder
    folder = Path(args.out)
    if (folder / "run.jsonl").exists():
        raise ArgumentError(
            f"--out {folder}: expected a folder without a run, got one that has run.jsonl; "
            "choose another or remove it"
        )
    check_folder(f"--out {folder}", folder)
    return folder
