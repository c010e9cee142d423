"""How many modules one call crosses: what somebody walks through who reads how it is done.

    python benchmarks/walk.py [--json]

One `propose` and one `report` of a job with a small network at an embedded oracle (strategy `epgt`;
the calls before it have warmed everything), and one training run of PPO on CartPole. Counted are
the modules of HyperOracle whose functions run, in any thread, and how often a call goes from one
module into another. It works on any commit: run it with that commit's sources on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from hyperoracle_client import Oracle, Scale, cli


class Walk:
    """Follows calls between HyperOracle's modules while it is entered."""

    current: Walk | None = None

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.crossings = 0

    def __enter__(self) -> Walk:
        Walk.current = self
        sys.setprofile(follow)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        Walk.current = None


def follow(frame: FrameType, event: str, argument: Any) -> None:
    """Note a call, if somebody walks; set as the profile function of every thread."""
    del argument
    walk = Walk.current
    if walk is None or event != "call" or frame.f_code.co_name == "<module>":
        return
    module = frame.f_globals.get("__name__", "")
    if not module.startswith("hyperoracle_"):
        return
    walk.modules.add(module)
    caller = frame.f_back
    while caller and not caller.f_globals.get("__name__", "").startswith("hyperoracle_"):
        caller = caller.f_back
    if caller is not None and caller.f_globals["__name__"] != module:
        walk.crossings += 1


def job_calls() -> dict[str, Walk]:
    """The walks of a propose and of a report."""
    walks: dict[str, Walk] = {}
    threading.setprofile(follow)  # of the threads that are started from here on
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(f"embedded:{folder}/oracle.db")
        policy = torch.nn.Sequential(
            torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2)
        )
        job = oracle.start_job(study="walk", space={"learning_rate": Scale([0.5, 1.0, 2.0])},
                               model=policy, total_env_steps=10_000,
                               strategy={"name": "epgt"})  # fmt: skip
        for n in range(1, 20):
            policy(torch.ones(1, 4)).sum().backward()
            job.report([1.0 * n], env_step=n)
            _settled(job)
            job.propose(env_step=n)
        policy(torch.ones(1, 4)).sum().backward()
        walks["report"] = _followed(lambda: (job.report([1.0], env_step=21), time.sleep(0.5)))
        _settled(job)
        walks["propose"] = _followed(lambda: job.propose(env_step=21))
        job.finish()
        oracle.close()
    return walks


def _followed(call: Callable[[], object]) -> Walk:
    with Walk() as walk:
        call()
    return walk


def _settled(job: Any) -> None:
    end = time.monotonic() + 10.0
    while job.stats.reports_pending and time.monotonic() < end:
        time.sleep(0.01)


def training() -> Walk:
    """The walk of `hyperoracle train ppo`, the oracle left out."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = ["train", "ppo", "CartPole-v1", "--total-env-steps", "4096", "--seed", "1",
                     "--evaluate", "0", "--out", str(Path(folder) / "run")]  # fmt: skip
        cli.main(arguments)  # everything is loaded
        arguments[-1] += "-2"
        return _followed(lambda: cli.main(arguments))


def main() -> None:
    """Walk and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    walks = {**job_calls(), "train ppo": training()}
    parts = ("protocol", "client", "server", "trainers")
    rows = [
        {
            "what": name,
            "modules": len(walk.modules),
            "crossings": walk.crossings,
            "by_distribution": {
                part: sum(module.startswith(f"hyperoracle_{part}") for module in walk.modules)
                for part in parts
            },
        }
        for name, walk in walks.items()
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['what']:10} {row['modules']:4} modules, {row['crossings']:6} crossings  "
              f"{row['by_distribution']}")  # fmt: skip


if __name__ == "__main__":
    main()
