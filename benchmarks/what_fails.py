"""Whether strategies learn from what fails: planted studies in which a value kills, or is good.

    python benchmarks/what_fails.py [--studies 200] [--jobs 36] [--strategy NAME] [--world NAME]
                                    [--processes 1] [--json]

Each study has one learning rate with the factors 0.5, 1 and 2. In the first three worlds the
factor 2 brings a fifth more while it lives, and is not to be taken:

- `kills`: a job under it breaks down (`failed`) at 30 % of its way;
- `kills half`: every other such job does;
- `nan`: its returns are no finite numbers from 20 % on, and the job goes on to its end;

in the last, `stops early`, it is the best: such a job has what is wanted at 30 % and is stopped.

Printed is the share of studies in which a job that exploits takes the factor 2 after the 20th job
(in the last world: in which none does), with its 95 % interval (Wilson). Strategies that give no
roles are asked to exploit from the 20th job on; what chance chose (`explored`) does not count.

The studies run in this process without a ledger: nothing but the ledger's writer is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import time
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np

from hyperoracle_protocol.jobs import (
    FinishJob,
    FinishReason,
    ProposeMetadata,
    Report,
    Role,
    StartJob,
)
from hyperoracle_protocol.strategies import Strategy
from hyperoracle_protocol.studies import StudyDefinition
from hyperoracle_server.keyed.agent import KeyedAgent
from hyperoracle_server.oracle.job import JobState
from hyperoracle_server.oracle.services import Clock, Identifiers, Services
from hyperoracle_server.oracle.study import StudyRuntime
from hyperoracle_server.strategies.evidence.job_account import JobAccount
from hyperoracle_server.strategies.evidence.learning_curve import LearningCurve
from hyperoracle_server.telemetry.observer import Observer

WORLDS = ("kills", "kills half", "nan", "stops early")
FACTORS = (0.5, 1.0, 2.0)
TOTAL, PARTS, SETTLED_AFTER = 10_000, 20, 20
BUDGET = 0.05


class NoWriter:
    """Takes what a ledger would write, and keeps nothing."""

    epoch = 0

    def submit(self, changes: Any, epoch: int) -> None:
        """Nothing to do."""
        del changes, epoch

    def submit_durably(self, changes: Any, epoch: int) -> Future[Any]:
        """A future that has resolved."""
        del changes, epoch
        done: Future[Any] = Future()
        done.set_result(None)
        return done


class Taken(NamedTuple):
    """A decision of a job that exploits."""

    job: int
    factor: float


def new_study(strategy: str, seed: int) -> StudyRuntime:
    """A study in mind."""
    factors = {"type": "relative", "values": FACTORS, "default": 1.0}
    definition = StudyDefinition.model_validate(
        {"space": {"learning_rate": factors},
         "strategy": {"name": strategy}, "seed": seed,
         "returns": {"kind": "phase_episodes"}}
    )  # fmt: skip
    services = Services(
        NoWriter(),
        Clock(),
        Identifiers(0),
        Identifiers(0),
        lambda *_: None,
        Observer(),
    )
    return StudyRuntime(1, "planted", definition, seed, 0.0, services)


def new_job(study: StudyRuntime, number: int, role: Role) -> JobState:
    """A job of a small network."""
    tensors = [{"name": "w", "shape": [4, 3]}, {"name": "b", "shape": [4]}]
    start = StartJob.model_validate({"tensors": tensors, "total_env_steps": TOTAL})
    layout = study.agent.layout_for(start.tensors, study.seed)
    job = JobState(
        id=number, chance_number=number, public_id=f"job-{number}", job_key=None,
        role=study.role_for(number, role), layout=layout, total_env_steps=TOTAL, base_values={},
        metadata={}, created_at=0.0, last_seen_at=0.0, credit=study.new_credit_book(),
        account=JobAccount(LearningCurve(TOTAL)),
    )  # fmt: skip
    if isinstance(study.agent, KeyedAgent):
        study.agent.open_layout(layout)
    study.jobs[job.public_id] = job
    return job


def run_job(
    study: StudyRuntime, job: JobState, world: str, rng: np.random.Generator
) -> list[float]:
    """Let a job run; the factors that it was given while it exploited."""
    dies = world == "kills" or (world == "kills half" and bool(rng.integers(2)))
    factor, sequence, through, chosen = 1.0, 0, 0, []
    reason: FinishReason = "completed"
    for part in range(1, PARTS + 1):
        env_step = TOTAL * part // PARTS
        level, dropped = 100.0 + float(rng.normal()) * 5.0, {}
        if factor == 2.0:
            level += 20.0
            if world == "nan" and part > 0.2 * PARTS:
                dropped = {"episode_returns": 1}
        if world == "stops early":
            level = 450.0 if factor == 2.0 and part >= 0.3 * PARTS else 200.0 + 10.0 * part
            level += float(rng.normal()) * 5.0
        sequence += 1
        returns = [] if dropped else [level]
        report = Report(sequence=sequence, credits_through=through, env_step=env_step,
                        episode_returns=returns, dropped_returns=dropped)  # fmt: skip
        study.report(job, report, b"")
        if level >= 430.0 and not dropped:
            reason = "reached"
            break
        sequence += 1
        through = sequence
        features = None
        if job.layout.feature_count:
            features = rng.normal(size=job.layout.feature_count).astype(job.layout.dtype)
        signals = {"approx_kl": float(rng.lognormal(-4.6, 1.0))}
        request = ProposeMetadata(sequence=sequence, update_step=part, env_step=env_step,
                                  signature=job.signature, signals=signals)  # fmt: skip
        answer = json.loads(study.propose(job, request, features, b"").body)
        factor = answer["hyperparameters"]["learning_rate"]
        if job.role == "exploit" and not answer["explored"]:
            chosen.append(factor)
        if factor == 2.0 and dies and part >= 0.3 * PARTS:
            reason = "failed"
            break
    study.finish(job, FinishJob(reason=reason))
    return chosen


def goes_wrong(strategy: str, world: str, jobs: int, seed: int) -> bool:
    """Whether a study's exploiting jobs do what they should not, after the 20th job."""
    rng = np.random.default_rng([seed, WORLDS.index(world)])
    study = new_study(strategy, seed)
    taken = []
    for number in range(1, jobs + 1):
        gives_roles = strategy in ("anchored", "best_config", "cautious_config")
        role: Role = "exploit" if number > SETTLED_AFTER and not gives_roles else "auto"
        factors = run_job(study, new_job(study, number, role), world, rng)
        taken += [Taken(number, factor) for factor in factors]
    late = [each.factor for each in taken if each.job > SETTLED_AFTER]
    return (2.0 not in late) if world == "stops early" else (2.0 in late)


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share."""
    z, share = 1.96, count / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=36)
    parser.add_argument("--strategy", action="append")
    parser.add_argument("--world", action="append", choices=WORLDS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    every = [each.model_fields["name"].default for each in get_args(get_args(Strategy)[0])]
    strategies = args.strategy or [name for name in every if name not in ("fixed", "random")]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.processes) as pool:
        for strategy in strategies:
            for world in args.world or WORLDS:
                began = time.perf_counter()
                one = partial(goes_wrong, strategy, world, args.jobs)
                wrong = sum(pool.map(one, range(args.studies), chunksize=5))
                low, high = wilson(wrong, args.studies)
                share = wrong / args.studies
                rows.append({
                    "what": f"{strategy}, {world}", "value": share, "unit": "share of studies",
                    "interval": [low, high], "floor": 0.0, "ratio": None, "budget": BUDGET,
                    "ok": share <= BUDGET,
                })  # fmt: skip
                if not args.json:
                    took = time.perf_counter() - began
                    print(f"{strategy:16} {world:12} {share:6.3f}  ({low:.3f} to {high:.3f})"
                          f"  {took:.0f} s", flush=True)  # fmt: skip
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if args.json:
        print(json.dumps({"name": "what-fails", "machine": platform.platform(), "commit": commit,
                          "rows": rows}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
